"""What reaches a page: safe HTML, formulas, headings in order, figures with text."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation.params import make_params
from capitulation.report import markup, pages, render, story
from report_help import cells_notebook

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](http://tracker.example/p.png)",
    "<iframe src=http://x.example></iframe>",
    "<style>*{background:url(http://x.example)}</style>",
    '<p style="background:url(http://x.example)">x</p>',
    "<form action=http://x.example><input></form>",
    '<svg onload="alert(1)"><script>1</script></svg>',
    "<meta http-equiv=refresh content='0;url=http://x.example'>",
    "<base href=http://x.example>",
    "$\\href{javascript:alert(1)}{x}$",
    "</main></body><script>1</script>",
]
ACTIVE = re.compile(
    r"<(script|iframe|style|form|input|svg|meta|base|object|embed|link|img|video|audio)\b"
    r"|<[^>]*\s(on\w+|style|src|srcset|background)\s*=|(href|action)\s*=\s*[\"']?\s*(javascript|data|vbscript):",
    re.IGNORECASE,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_not_obeyed(text):
    for page in (markup.clean(text), markup.markdown(text), markup.plain(text)):
        assert not ACTIVE.search(page), page


@given(st.lists(st.sampled_from([*HOSTILE, "<", ">", '"', "'", "&", "`", "$", "|", "\n", "* ", "# ", "a"]), max_size=8))
def test_no_mixture_of_hostile_text_becomes_active(parts):
    text = "".join(parts)
    for page in (markup.clean(text), markup.markdown(text), markup.plain(text)):
        assert not ACTIVE.search(page), page


def test_tables_of_the_library_pass_the_cleaning_unchanged():
    table = (
        '<div class="table-scroll" tabindex="0" role="region" aria-label="Days"><table class="data">'
        "<caption>Days</caption>"
        '<thead><tr><th scope="col" class="num" data-column="n">n <span class="unit">days</span></th></tr></thead>'
        '<tbody><tr><th scope="row" data-value="1">1</th></tr></tbody></table></div>'
    )
    assert sorted(markup.clean(table)) == sorted(table)
    assert markup.clean('<a class="csv" href="tables/x.csv">CSV</a>').count('href="tables/x.csv"') == 1


def test_formulas_become_mathml():
    page = markup.markdown("Gap $g_t = F_t / S_t - 1$ and\n\n$$z = \\frac{a}{b}$$")
    assert page.count("<math") == 2
    assert "<mfrac>" in page
    assert "$" not in page


def test_dollars_in_code_stay_dollars():
    assert "<math" not in markup.markdown("`$a$` costs USD 5")


def rendered(tmp_path, *sources, outputs=()):
    notebook = cells_notebook(*sources)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            cell["outputs"] = list(outputs)
    path = tmp_path / "20-a-b.ipynb"
    path.write_text(json.dumps(notebook))
    return render.render_notebook(path)


def test_headings_are_in_order_with_unique_ids(tmp_path):
    page = rendered(tmp_path, "# Title\n\nIntro", "# x\n\n#### Deep\n\n## Two\n\n#### Deep")
    assert page.title == "Title"
    assert [heading.level for heading in page.headings] == [2, 3, 2, 3]
    ids = [heading.id for heading in page.headings]
    assert len(set(ids)) == 4
    assert all(f'id="{name}"' in page.body for name in ids)
    assert all(name.startswith("s20-") for name in ids)


def test_finding_leads_the_page_once(tmp_path):
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": '<p class="finding">A &amp; B</p>'}}
    page = rendered(tmp_path, "# T", "1", outputs=[output])
    assert page.finding == "A & B"
    assert "finding" not in page.body


def test_figure_has_alt_text_and_caption_from_its_metadata(tmp_path):
    metadata = {
        "image/png": {"alt": 'Chart of "x" <y>', "caption": "Why & how", "name": "f", "title": "T", "width": 700}
    }
    output = {"output_type": "display_data", "metadata": metadata, "data": {"image/png": "QUJD\n", "text/plain": "x"}}
    page = rendered(tmp_path, "# T", "1", outputs=[output])
    assert "alt='Chart of \"x\" &lt;y&gt;'" in page.body
    assert "<figcaption>Why &amp; how</figcaption>" in page.body
    assert 'src="data:image/png;base64,QUJD"' in page.html()
    assert page.figures[0].name == "f"


def test_output_text_is_escaped(tmp_path):
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "\x1b[31m<script>1</script>\x1b[0m"},
        {"output_type": "execute_result", "metadata": {}, "execution_count": 1, "data": {"text/plain": "<img src=x>"}},
        {"output_type": "display_data", "metadata": {}, "data": {"text/markdown": "**b** <script>2</script>"}},
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"application/javascript": "alert(1)", "text/plain": "js"},
        },
    ]
    page = rendered(tmp_path, "# T", "1", outputs=outputs)
    assert not ACTIVE.search(page.body)
    assert "<strong>b</strong>" in page.body
    assert "alert" not in page.body


def facts(**changes):
    market = {
        "source": "file", "simulated": False, "retrieved_at": "", "age_days": None, "notes": [], "licence": "",
        "attribution": "local file x", "first_day": "2014-01-01", "last_day": "2014-12-31",
    }  # fmt: skip
    return {"run": "t", "market": market | changes, "tables": {"a.csv": "0"}}


def written(tmp_path, page, **changes):
    params = make_params({"fast_days": 20})
    pages.write_pages(tmp_path, [page], facts(**changes), params, story.Story())
    return {name: (tmp_path / name).read_text() for name in ("index.html", "report.html", page.file)}


def test_hostile_provenance_does_no_harm(tmp_path):
    text = '"><script>alert(1)</script>'
    files = written(tmp_path, rendered(tmp_path, "# T"), attribution=text, notes=[text], source=text, licence=text)
    for page in files.values():
        assert page.count("<script>") == 1
        assert "&lt;script&gt;alert(1)" in page


def test_policy_allows_exactly_the_script_and_style_of_the_page(tmp_path):
    import base64
    import hashlib

    for page in written(tmp_path, rendered(tmp_path, "# T")).values():
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
        assert "default-src 'none'" in policy
        for tag, directive in (("script", "script-src"), ("style", "style-src")):
            (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{directive} 'sha256-{digest}'" in policy


def test_changed_parameters_and_dates_are_on_every_page(tmp_path):
    for page in written(tmp_path, rendered(tmp_path, "# T")).values():
        assert "2014-01-01 to 2014-12-31" in page
        assert re.search(r"<span>fast_days</span> 20", page)


def test_simulated_banner_is_on_every_page_and_only_then(tmp_path):
    page = rendered(tmp_path, "# T")
    assert all("Simulated market" in text for text in written(tmp_path, page, simulated=True).values())
    assert not any("Simulated market" in text for text in written(tmp_path, page).values())


def test_whole_report_has_one_first_heading_and_unique_ids(tmp_path):
    page = rendered(tmp_path, "# T", "# x\n\n## A\n\n### B")
    whole = written(tmp_path, page)["report.html"]
    assert whole.count("<h1") == 1
    assert '<h3 id="s20-a">' in whole
    ids = re.findall(r'\sid="([^"]+)"', whole)
    assert len(ids) == len(set(ids))


def test_story_is_empty_where_the_run_has_no_tables(tmp_path):
    assert story.tell(tmp_path, make_params()) == story.Story()


def test_story_reads_the_tables(tmp_path):
    (tmp_path / "tables").mkdir()
    header = (
        "definition,anchor,horizon_days,n_events,n_clusters,mean,median,hit_rate,worst,best,base_mean,base_median,"
        "base_hit_rate,excess_log,ci_low,ci_high,p_rotation,p_matched,p_holm,min_detectable_log"
    )
    rows = [
        "hash_ribbons,recovery,90,12,11,0.3,0.25,0.75,-0.4,2,0.2,0.12,0.6,0.09,-0.1,0.28,0.18,0.2,0.5,0.4",
        "puell_multiple,recovery,90,3,3,0.3,0.25,0.75,-0.4,2,0.2,0.12,0.6,0.09,,,,,,",
        "hash_ribbons,recovery,30,12,11,0.3,0.25,0.75,-0.4,2,0.2,0.12,0.6,0.09,-0.1,0.28,0.18,0.2,0.5,0.4",
    ]
    (tmp_path / "tables" / "forward_returns.csv").write_text("\n".join([header, *rows]))
    (tmp_path / "tables" / "claims.csv").write_text("id,verdict\n1,reproduced\n2,reproduced\n3,<b>x</b>\n")
    (tmp_path / "state.json").write_text(
        '{"ribbon_state": "capitulation", "days_in_state": 3, "gap": -0.02, "gap_z": -1.8}'
    )
    told = story.tell(tmp_path, make_params())
    assert "12" in told.verdict[0]
    assert "p = 0.18" in " ".join(told.verdict)
    assert told.definitions.table.count("<tr") == 3
    assert "+0.09" in told.definitions.table
    assert told.claims == [("reproduced", 2), ("<b>x</b>", 1)]
    assert told.present.since == "day 3"
    assert ("Gap of the ribbons", "−2.0 % (−1.8 standard errors)") in told.present.facts


def test_spark_stays_in_its_box():
    points, zero = story.spark([-0.02, 0.01, 0.03])
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert min(heights) == 0
    assert max(heights) == story.SPARK_HEIGHT
    assert 0 < zero < story.SPARK_HEIGHT

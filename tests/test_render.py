"""What reaches a page: safe HTML, formulas, headings in order, figures with text, the story of the first page."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation.params import make_params
from capitulation.report import render, tables
from capitulation.study.present import present_state

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
PIECES = [*HOSTILE, "<", ">", '"', "'", "&", "`", "$", "|", "\n", "* ", "# ", "a"]


def cells_of(sources, outputs=()):
    code = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": list(outputs)}
    return [*({"cell_type": "markdown", "metadata": {}, "source": text} for text in sources), code]


def outputs_of(text):
    """Everything that a cell can put out, made of `text`."""
    kinds = ("text/html", "text/markdown", "text/latex", "text/plain", "application/javascript")
    shown = [{"output_type": "display_data", "metadata": {}, "data": {kind: text}} for kind in kinds]
    shown.append({"output_type": "stream", "name": "stdout", "text": [text]})
    return [*shown, {"output_type": "error", "ename": "E", "evalue": "v", "traceback": [text]}]


@given(st.one_of(st.sampled_from(HOSTILE), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_hostile_text_is_shown_not_obeyed(text):
    page = render.fill("cells.html.j2", cells=cells_of([text], outputs_of(text)), code=True)
    assert not ACTIVE.search(page), page


def test_a_table_passes_the_cleaning_unchanged_and_starts_no_formula():
    text = ["=1", "+1", "-1", "@a", " =1", "\t=1", "a\nb"]
    frame = pd.DataFrame({"<b>": text, "n": 1})
    table = tables.html_table(frame, "Days of <b>", name="claims")
    assert sorted(render.clean(table).replace(' rel="noopener noreferrer"', "")) == sorted(table)
    written = pd.read_csv(io.StringIO(tables.csv_text(frame)))["<b>"].tolist()
    assert written == ["'=1", "'+1", "'-1", "'@a", "' =1", "' =1", "a b"]


def test_names_of_columns_are_guarded_like_cells_whatever_they_are():
    names = ["=1", ("=2", 3), -4, 5, pd.Timestamp("2026-01-20"), "@a", "@a"]
    frame = pd.DataFrame([range(7)], columns=pd.Index(names, dtype=object))
    head, row, _end = tables.csv_text(frame).split("\n")
    assert head == "'=1,\"('=2', 3)\",'-4,5,2026-01-20,'@a,'@a" and row == "0,1,2,3,4,5,6"
    assert tables.html_table(frame, "Odd names").count("<th scope") == 8


def test_formulas_become_mathml_and_dollars_in_code_stay():
    page = render.markdown("Gap $g_t = F_t / S_t - 1$ and\n\n$$z = \\frac{a}{b}$$\n\n`$a$` costs USD 5")
    assert page.count("<math") == 2 and "<mfrac>" in page and page.count("$") == 2


def rendered(tmp_path, *sources, outputs=()):
    path = tmp_path / "20-a-b.ipynb"
    book = {"cells": cells_of(sources, outputs), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(book))
    return render.render_notebook(path)


def test_headings_are_in_order_with_unique_ids(tmp_path):
    page = rendered(tmp_path, "# Title\n\nIntro", "# x\n\n#### Deep\n\n## Two\n\n#### Deep")
    assert page.title == "Title"
    assert [heading["level"] for heading in page.headings] == [2, 3, 2, 3]
    ids = [heading["id"] for heading in page.headings]
    assert len(set(ids)) == 4
    assert all(f'id="{name}"' in page.body and name.startswith("s20-") for name in ids)


def test_the_finding_leads_the_page_once(tmp_path):
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": '<p class="finding">A &amp; B</p>'}}
    page = rendered(tmp_path, "# T", outputs=[output])
    assert page.finding == "A & B" and "finding" not in page.body


def test_a_figure_has_alt_text_and_caption_from_its_metadata(tmp_path):
    said = {"alt": 'Chart of "x" <y>', "caption": "Why & how", "name": "f", "title": "T", "width": 700}
    output = {"output_type": "display_data", "metadata": {"image/png": said}, "data": {"image/png": "QUJD\n"}}
    page = rendered(tmp_path, "# T", outputs=[output])
    assert 'alt="Chart of &#34;x&#34; &lt;y&gt;"' in page.body
    assert "<figcaption>Why &amp; how</figcaption>" in page.body
    assert 'src="data:image/png;base64,QUJD"' in page.body and page.figures[0]["name"] == "f"


@pytest.mark.parametrize(
    "data", ['QUJD" onerror="alert(1)', "QUJ", "ünd", "QU\u0660D", ["QUJD", "<b>"], {"a": 1}, 3, None]
)
def test_a_picture_that_is_no_base64_is_no_picture(tmp_path, data):
    output = {"output_type": "display_data", "metadata": {}, "data": {"image/png": data, "text/plain": "said"}}
    page = rendered(tmp_path, "# T", outputs=[output])
    assert page.figures == [] and "<img" not in page.body and ">said</pre>" in page.body


def test_every_kind_of_output_is_shown_in_its_way(tmp_path):
    page = rendered(tmp_path, "# T", outputs=outputs_of("**b** $\\frac{c}{d}$ \x1b[31m<i>e</i>\x1b[0m"))
    assert page.body.count("<strong>b</strong>") == page.body.count("<mfrac>") == 2 and page.body.count("<i>") == 1
    terminal = page.body[page.body.index('<pre class="stream') :]
    assert terminal.count("**b** $\\frac{c}{d}$ &lt;i&gt;e&lt;/i&gt;") == 3 and "\x1b" not in terminal


def test_what_stands_beside_a_bare_dataframe_stays():
    frame = pd.DataFrame({"a": range(100)})._repr_html_()
    page = render.displayed(f"<h3>Mine</h3>{frame}<p>between</p>{frame}")
    assert page.count('<div class="table-scroll"') == page.count("<table") == 2 and "columns</p>" not in page
    assert "<h3>Mine</h3>" in page and "<p>between</p>" in page
    assert "said" in render.displayed('<p class="dataframe">said</p>')


def written(tmp_path, page, **changes):
    origin = dict.fromkeys(("what", "source", "name", "licence", "commercial", "attribution", "link", "as_of"), "x")
    origin |= {"commercial": "ask", **changes}
    market = {"simulated": False, "retrieved_at": "", "age_days": None, "notes": [], "origins": [origin]}
    market |= {"first_day": "2014-01-01", "last_day": "2014-12-31"} | changes
    since = [changes.get("source", "x")]
    facts = {"run": "t", "market": market, "changed": {"fast_days": 20}, "tables": {"a.csv": "0"}, "since": since}
    render.write_pages(tmp_path, [page], facts, make_params({"fast_days": 20}))
    names = ("index.html", "report.html", "appendix.html", f"{page.name}.html")
    return [(tmp_path / name).read_text() for name in names]


def assert_harmless(text):
    """One script and one style, allowed by their digests; nothing else that acts."""
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src 'none'" in html.unescape(policy) and "unsafe" not in policy
    for kind in ("script", "style"):
        (inside,) = re.findall(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in html.unescape(policy)
        text = text.replace(f"<{kind}>{inside}</{kind}>", "")
    text, n_meta = re.subn(r'<meta [\w-]+="[^">]*"( content="[^">]*")?>', "", text)
    assert n_meta == 5 and not ACTIVE.search(text)


def test_pages_are_harmless_whatever_the_provenance_says(tmp_path):
    text = '"></title><script>alert(1)</script>'
    for page in written(tmp_path, rendered(tmp_path, "# T"), attribution=text, notes=[text], source=text, what=text):
        assert_harmless(page)
        assert "&lt;script&gt;alert(1)" in page


def test_facts_of_the_run_stand_on_every_page_and_the_banner_only_where_it_is_simulated(tmp_path):
    page = rendered(tmp_path, "# T")
    for text in written(tmp_path, page):
        assert "2014-01-01 to 2014-12-31" in text and "<span>fast_days</span> 20" in text
        assert "Simulated market" not in text
    assert all("Simulated market" in text for text in written(tmp_path, page, simulated=True))


def test_the_foot_has_one_line_per_source_and_says_its_licence_once(tmp_path):
    names = ("what", "source", "licence", "commercial", "attribution", "as_of")
    rows = [
        ("hash rate", "two", "Free", "ask", "Two", "2014-12-31"),
        ("price", "two", "Free", "ask", "Two", "2014-12-30"),
        ("height", "one", "CC BY 4.0", "yes", "One, CC BY 4.0", "2014-12-31"),
    ]
    origins = [dict(zip(names, row, strict=True)) for row in rows]
    for text in written(tmp_path, rendered(tmp_path, "# T"), origins=origins, retrieved_at="2015-01-01T06:00:00+00:00"):
        foot = re.search('<footer class="site-foot">(.*?)</footer>', text, re.DOTALL)[1]
        lines = re.findall("<p>(.*?)</p>", foot)[:-1]
        assert lines == [
            "Height, to 2014-12-31: One, CC BY 4.0. Commercial use: yes.",
            "Hash rate, to 2014-12-31; price, to 2014-12-30: Two. Licence: Free. Commercial use: to be asked.",
        ]
        assert "2015-01-01 06:00 UTC" in text


def test_the_whole_report_has_one_first_heading_and_unique_ids(tmp_path):
    _index, _report, whole, _page = written(tmp_path, rendered(tmp_path, "# T", "# x\n\n## A\n\n### B"))
    ids = re.findall(r'\sid="([^"]+)"', whole)
    assert whole.count("<h1") == 1 and '<h3 id="s20-a">' in whole and len(ids) == len(set(ids))


def tagged(tmp_path, *cells):
    """A notebook whose cells (text, tag) are Markdown; one that shows a table and a finding, tagged as the last."""
    table = tables.html_table(pd.DataFrame({"n": [1]}), "A table", name="claims")
    shown = [f'<p class="finding">stated</p>{table}']
    outputs = [{"output_type": "display_data", "metadata": {}, "data": {"text/html": shown}}]
    made = [
        {"cell_type": "markdown", "metadata": {"tags": [tag] if tag else []}, "source": text} for text, tag in cells
    ]
    code = {"cell_type": "code", "metadata": {"tags": [cells[-1][1]]}, "source": "secret = 1", "outputs": outputs}
    path = tmp_path / "30-a-b.ipynb"
    path.write_text(json.dumps({"cells": [*made, code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return render.render_notebook(path)


def test_the_readers_report_is_made_of_tagged_cells_without_their_code(tmp_path):
    first, second = list(render.PARTS)[:2]
    page = tagged(tmp_path, ("# T", ""), ("## Aside", ""), ("## B\n\nlater", second), ("## A\n\n#### deep", first))
    _index, report, appendix, own = written(tmp_path, page)
    order = [
        report.index(text) for text in (f'id="{first}"', ">A</h3>", ">deep</h4>", "A table", f'id="{second}"', "later")
    ]
    assert order == sorted(order) and "Aside" not in report and "secret" not in report and 'class="csv"' not in report
    assert (
        all("Aside" in text and "secret" in text for text in (appendix, own))
        and "stated" not in report
        and "stated" in own
    )
    for text in (report, appendix):
        ids = re.findall(r'\sid="([^"]+)"', text)
        assert len(ids) == len(set(ids)) and text.count("<h1") == 1


def test_a_term_leads_to_the_glossary_where_it_first_stands():
    terms = [{"term": "Gap", "also": "gap of means; gaps", "id": "term-gap"}, {"term": "p", "also": "", "id": "term-p"}]
    body = '<h3>Gap</h3><p title="gap">A gapless <a href="x">gap</a>; gap of means &amp; gap, p-value and p.</p>'
    page = f'<p>gap</p><section class="part">{body}</section><section class="glossary">gap p</section>'
    linked = render.link_terms(page, terms)
    assert re.findall(r'<a class="term" href="#([^"]+)">([^<]+)</a>', linked) == [
        ("term-gap", "gap of means"),
        ("term-p", "p"),
    ]
    assert re.sub(r'<a class="term"[^>]*>([^<]*)</a>', r"\1", linked) == page
    assert render.link_terms(page, []) == page


def test_every_table_and_every_term_is_told_in_a_line():
    listed = dict(
        render.listed_tables(f"{name}.csv" for name in tables.codebook()["table"].unique() if "." not in name)
    )
    assert [name for name, holds in listed.items() if not holds] == []
    entries = render.glossary()
    spelt = [name.strip().lower() for row in entries for name in (row["term"], *row["also"].split(";")) if name.strip()]
    assert len(spelt) == len(set(spelt)) and all(row["meaning"].endswith(".") for row in entries)


def test_the_first_page_tells_what_the_tables_say(tmp_path, simulated_panel):
    market = {"simulated": False, "last_day": "2014-12-31", "age_days": None}
    told = render.story(tmp_path, [], {"market": market}, make_params())
    assert not any(value for name, value in told.items() if name != "title")
    (tmp_path / "tables").mkdir()
    names = ("n_events", "n_effective", "median", "base_median", "excess_own_era", "ci_low_own_era", "ci_high_own_era")
    names += ("p_rotation_own_era", "p_family_own_era", "min_detectable_log", "same_as")
    rows = [
        "puell_multiple,recovery,90,3,3,.25,.12,.07,,,.2,.9,,",
        "hash_rate_growth_30d,recovery,90,12,11,.25,.12,.09,-.1,.28,.18,.6,,hash_ribbons",
    ]
    rows += [
        "hash_ribbons,recovery,90,12,11,.25,.12,.09,-.1,.28,.18,.6,.4,",
        "hash_ribbons,recovery,30,12,11,.25,.12,.08,-.1,.28,.18,.6,,",
    ]
    head = ",".join(("definition", "anchor", "horizon_days", *names))
    (tmp_path / "tables" / "forward_returns.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "tables" / "claims.csv").write_text("id,verdict\n1,reproduced\n2,reproduced\n3,<b>x</b>\n")
    state = present_state(simulated_panel.tail(900)) | {"gap_history": [-0.02, None, 0.01, 0.03]}
    (tmp_path / "state.json").write_text(json.dumps(state))
    index = written(tmp_path, rendered(tmp_path, "# T"))[0]
    assert "+0.09" in index and "&lt;b&gt;x&lt;/b&gt;" in index and f"{state['price_usd']:,.0f}" in index
    heads = re.findall(r'<th scope="row">(.*?)</th>', index)
    assert [("Hash Ribbons" in text, "Puell multiple" in text) for text in heads] == [(True, False), (False, True)]
    assert 'data-value="0.18">0.180</td>' in index and "–</td>" in index
    zero, points = re.search(r'y2="([\d.]+)"/><polyline points="([^"]+)"', index).groups()
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert heights == pytest.approx([36, 14.4, 0]) and float(zero) == pytest.approx(21.6)
    summary = (tmp_path / "summary.txt").read_text().splitlines()
    assert "2014-12-31" in summary[0] and len(summary) <= 10 and any("2 reproduced" in line for line in summary)


@pytest.mark.parametrize("broken", ["\\frac{", "\\unknown{x}", "}{"])
def test_a_formula_that_cannot_be_converted_stays_readable(broken):
    assert not ACTIVE.search(render.formula(broken + "<script>", "inline"))

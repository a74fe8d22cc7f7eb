"""What reaches a page: safe HTML, formulas, headings in order, figures with text, the story of the first page."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capitulation.params import make_params
from capitulation.report import render
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


@given(st.one_of(st.sampled_from(HOSTILE), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_hostile_text_is_shown_not_obeyed(text):
    for page in (render.clean(text), render.markdown(text), render.plain(text)):
        assert not ACTIVE.search(page), page


def test_tables_of_the_library_pass_the_cleaning_unchanged():
    table = (
        '<div class="table-scroll" tabindex="0" role="region" aria-label="Days"><table class="data">'
        '<caption>Days <a class="csv" href="tables/x.csv">CSV</a></caption>'
        '<thead><tr><th scope="col" class="num" data-column="n">n <span class="unit">days</span></th></tr></thead>'
        '<tbody><tr><th scope="row" data-value="1">1</th></tr></tbody></table></div>'
    )
    assert sorted(render.clean(table).replace(' rel="noopener noreferrer"', "")) == sorted(table)


def test_formulas_become_mathml_and_dollars_in_code_stay():
    page = render.markdown("Gap $g_t = F_t / S_t - 1$ and\n\n$$z = \\frac{a}{b}$$\n\n`$a$` costs USD 5")
    assert page.count("<math") == 2 and "<mfrac>" in page and page.count("$") == 2


def rendered(tmp_path, *sources, outputs=()):
    cells = [{"cell_type": "markdown", "metadata": {}, "source": text} for text in sources]
    cells.append({"cell_type": "code", "metadata": {}, "source": "1", "outputs": list(outputs)})
    path = tmp_path / "20-a-b.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return render.render_notebook(path)


def test_headings_are_in_order_with_unique_ids(tmp_path):
    page = rendered(tmp_path, "# Title\n\nIntro", "# x\n\n#### Deep\n\n## Two\n\n#### Deep")
    assert page.title == "Title"
    assert [heading.level for heading in page.headings] == [2, 3, 2, 3]
    ids = [heading.id for heading in page.headings]
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
    assert 'alt="Chart of &quot;x&quot; &lt;y&gt;"' in page.body
    assert "<figcaption>Why &amp; how</figcaption>" in page.body
    assert 'src="data:image/png;base64,QUJD"' in page.html() and page.figures[0].name == "f"


def test_output_text_is_escaped(tmp_path):
    shown = {"output_type": "display_data", "metadata": {}}
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["\x1b[31m<script>1</script>\x1b[0m"]},
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["<img src=x onerror=y>"]},
        shown | {"data": {"text/plain": "<img src=x>"}},
        shown | {"data": {"text/markdown": "**b** <script>2</script>"}},
        shown | {"data": {"text/latex": "$\\frac{a}{b}$ <script>"}},
        shown | {"data": {"application/javascript": "alert(1)", "text/plain": "js"}},
    ]
    page = rendered(tmp_path, "# T", outputs=outputs)
    assert not ACTIVE.search(page.body) and "alert" not in page.body and "\x1b" not in page.body
    assert "<strong>b</strong>" in page.body and "<mfrac>" in page.body


def written(tmp_path, page, **changes):
    market = {"source": "file", "simulated": False, "retrieved_at": "", "age_days": None, "notes": [], "licence": ""}
    market |= {"attribution": "local file x", "first_day": "2014-01-01", "last_day": "2014-12-31"} | changes
    facts = {"run": "t", "market": market, "changed": {"fast_days": 20}, "tables": {"a.csv": "0"}}
    render.write_pages(tmp_path, [page], facts, make_params({"fast_days": 20}))
    return [(tmp_path / name).read_text() for name in ("index.html", "report.html", page.file)]


class Acting(html.parser.HTMLParser):
    """What a browser would act on: scripts, policies, anything else that runs, loads or leads somewhere odd."""

    def __init__(self, text):
        super().__init__()
        self.found, self.inside = {"script": [], "style": [], "policy": [], "active": []}, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.inside = tag
        if values.get("http-equiv") == "Content-Security-Policy":
            self.found["policy"].append(values["content"])
        target = (values.get("href") or values.get("src") or "").strip().lower()
        bad = tag in ("iframe", "object", "embed", "base", "form", "link", "video", "audio")
        bad |= any(name.startswith("on") for name in values) or (tag != "a" and target[:11] not in ("", "data:image/"))
        if bad or target.startswith(("javascript:", "vbscript:", "data:text")):
            self.found["active"].append((tag, target))

    def handle_data(self, data):
        if self.inside in ("script", "style"):
            self.found[self.inside].append(data)

    def handle_endtag(self, tag):
        self.inside = ""


def assert_harmless(text):
    """One script and one style, allowed by their digests; nothing else that acts."""
    found = Acting(text).found
    assert found["active"] == [] and len(found["script"]) == len(found["style"]) == len(found["policy"]) == 1
    assert "default-src 'none'" in found["policy"][0] and "unsafe" not in found["policy"][0]
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(found[kind][0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in found["policy"][0]


def test_pages_are_harmless_whatever_the_provenance_says(tmp_path):
    text = '"></title><script>alert(1)</script>'
    for page in written(tmp_path, rendered(tmp_path, "# T"), attribution=text, notes=[text], source=text, licence=text):
        assert_harmless(page)
        assert "&lt;script&gt;alert(1)" in page


def test_facts_of_the_run_stand_on_every_page_and_the_banner_only_where_it_is_simulated(tmp_path):
    page = rendered(tmp_path, "# T")
    for text in written(tmp_path, page):
        assert "2014-01-01 to 2014-12-31" in text and "<span>fast_days</span> 20" in text
        assert "Simulated market" not in text
    assert all("Simulated market" in text for text in written(tmp_path, page, simulated=True))


def test_the_whole_report_has_one_first_heading_and_unique_ids(tmp_path):
    _index, whole, _page = written(tmp_path, rendered(tmp_path, "# T", "# x\n\n## A\n\n### B"))
    ids = re.findall(r'\sid="([^"]+)"', whole)
    assert whole.count("<h1") == 1 and '<h3 id="s20-a">' in whole and len(ids) == len(set(ids))


def test_the_first_page_tells_what_the_tables_say(tmp_path, simulated_panel):
    assert not any(render.story(tmp_path, [], make_params()).values())
    (tmp_path / "tables").mkdir()
    names = ("n_events", "n_clusters", "median", "base_median", "excess_log", "ci_low", "ci_high", "p_rotation")
    rows = ["hash_ribbons,recovery,90,12,11,.25,.12,.09,-.1,.28,.18", "puell_multiple,recovery,90,3,3,.25,.12,.09,,,"]
    rows += ["hash_ribbons,recovery,30,12,11,.25,.12,.09,-.1,.28,.18"]
    head = ",".join(("definition", "anchor", "horizon_days", *names))
    (tmp_path / "tables" / "forward_returns.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "tables" / "claims.csv").write_text("id,verdict\n1,reproduced\n2,reproduced\n3,<b>x</b>\n")
    (tmp_path / "headline.json").write_text('{"sentences": ["Up 5 % <b>.", "p = 0.18"]}')
    (tmp_path / "state.json").write_text(json.dumps(present_state(simulated_panel.tail(900))))
    index = written(tmp_path, rendered(tmp_path, "# T"))[0]
    assert "Up 5\u00a0% &lt;b&gt;." in index and "+0.09" in index and "&lt;b&gt;x&lt;/b&gt;" in index
    assert index.count('<tr class="primary">') == 1 and index.count('<tr><th scope="row">') == 1
    assert 'data-value="0.18">0.180</td>' in index and '<td class="num">–</td>' in index
    points, zero = render.spark([-0.02, 0.01, 0.03])
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert min(heights) == 0 and max(heights) == render.SPARK_HEIGHT and 0 < zero < render.SPARK_HEIGHT


@pytest.mark.parametrize("broken", ["\\frac{", "\\unknown{x}", "}{"])
def test_a_formula_that_cannot_be_converted_stays_readable(broken):
    assert not ACTIVE.search(render.formula(broken + "<script>", "inline"))

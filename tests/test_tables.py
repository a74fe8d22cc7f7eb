"""Tables and cards: heads in words, units once, long tables closed; sorting, filters and copying in a browser."""

from __future__ import annotations

import html
import re

import numpy as np
import pandas as pd
import pytest

from capitulation.mining.rules import RULES
from capitulation.report import render, tables
from test_browser import browser, opened  # noqa: F401  fixtures: Chromium with the network off

ROWS = pd.DataFrame(
    {
        "definition": ["hash_ribbons", "hash_ribbons", "puell_multiple"] * 6,
        "grade": ["real", "=1+1", '"<b>"'] * 6,
        "days": range(18),
        "depth": np.r_[np.nan, np.linspace(-0.1, -0.2, 17)],
        "price_start": 1000.0,
        "price_end": 2000.0,
    }
)


def heads_of(page):
    return [render.text_of(head) for head in re.findall(r'<th scope="col"[^>]*>(.*?)</th>', page)]


def test_every_column_of_the_codebook_has_one_head_in_words():
    book = tables.codebook()
    assert list(book.columns) == ["table", "column", "heading", "unit", "description", "contract"]
    assert not book.duplicated(["table", "column"]).any() and (book["heading"].str.strip() != "").all()
    assert not book["heading"].str.contains("_").any() and set(book["contract"]) == {"yes", "no"}


def test_heads_are_words_of_the_codebook_and_a_unit_is_said_once():
    page = tables.html_table(ROWS.head(3), "Three.", name="episodes", headers={"grade": "how deep"})
    assert heads_of(page)[:2] == ["rule", "how deep"]
    assert page.count('<span class="unit">USD</span>') == 1, "neighbours with one unit"
    assert 'class="unit">fraction' in page
    assert 'class="unit">fraction' not in tables.html_table(ROWS, "", name="episodes", formats={"depth": ".1%"})
    assert RULES["puell_multiple"].words in page and "puell_multiple" not in page
    assert heads_of(tables.html_table(pd.DataFrame({"not_known": [1]}), "Own.")) == ["not known"]


@pytest.mark.parametrize("rows", [tables.LONG, tables.LONG + 1])
def test_a_table_of_many_rows_is_closed_and_passes_the_cleaning(rows):
    page = tables.html_table(ROWS.head(rows), "A <list>. More of it.", name="episodes", filters=("definition", "grade"))
    assert page.startswith("<details") == (rows > tables.LONG)
    assert ("<summary>A &lt;list&gt; (16 rows)</summary>" in page) == (rows > tables.LONG)
    assert page.count("More of it.") == 1
    cleaned, page = (
        text.replace(' rel="noopener noreferrer"', "") for text in (render.clean(page), html.unescape(page))
    )
    assert sorted(html.unescape(cleaned)) == sorted(page) and 'data-filter="definition grade"' in cleaned


def test_a_card_shows_verdict_source_statement_and_leaves_out_what_is_empty():
    rows = {"verdict": ["yes", "no"], "source": "1. S, 2026-01-20", "claim": "<b>", "p_value": [0.04, np.nan]}
    frame = pd.DataFrame(rows | {"measured": ["up 5 %", ""]})
    page = tables.html_cards(frame, "All.", marks={"yes": "✓", "no": "✗"}, name="claims")
    first, second = re.findall(r'<li class="card claim">.*?</li>', page)
    assert "✓ yes" in first and "<dt>p</dt><dd>0.04</dd><dt>measured</dt><dd>up 5\u00a0%</dd>" in first
    assert "✗ no" in second and "<dl></dl>" in second and "<b>" not in page and "&lt;b&gt;" in page
    cleaned = html.unescape(render.clean(page)).replace(' rel="noopener noreferrer"', "")
    assert sorted(cleaned) == sorted(html.unescape(page))


def test_a_number_that_is_not_finite_is_sorted_as_missing():
    page = tables.html_table(pd.DataFrame({"rule": ["a", "b", "c"], "x": [np.inf, -np.inf, 1.0]}), "Rows.")
    assert re.findall('data-value="(.*?)"', page) == ["1"]


# --- in a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(tmp_path):
    """A file with the long table, as it stands on a page."""
    table = tables.html_table(ROWS, "Rows.", name="episodes", filters=("definition", "grade"))
    style, script = (render.PAGES.globals[name] for name in ("style", "script"))
    path = tmp_path / "page.html"
    page = f"<meta charset=utf-8><style>{style}</style><main>{render.clean(table)}</main><script>{script}</script>"
    path.write_text(page, encoding="utf-8")
    return path


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_rows_are_sorted_chosen_and_copied_with_the_network_off(shown, opened):  # noqa: F811
    page = opened(shown)
    assert not page.locator("td").first.is_visible()
    page.locator("summary").press("Enter")
    page.get_by_role("button", name="depth").click()
    cells = page.locator("tbody tr td:nth-child(4)").all_inner_texts()
    assert cells[0] == "-0.2".replace("-", "−") and cells[-1] == "–", "what is missing stays last"
    page.get_by_label("grade").select_option("=1+1")
    assert page.locator("tbody tr:visible").count() == 6
    assert page.get_by_text("6 of 18 rows").is_visible()
    page.evaluate("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }")
    page.get_by_role("button", name="Copy table").click()
    head, *rows = [line.split("\t") for line in page.evaluate("window.copied").split("\n")]
    assert head[0] == "rule" and head[4] == "price at start (USD)" and len(rows) == 6
    assert {row[1] for row in rows} == {"'=1+1"} and all(float(row[3]) < 0 for row in rows if row[3])
    page.get_by_label("grade").select_option('"<b>"')
    page.get_by_role("button", name="Copy table").click()
    assert {line.split("\t")[1] for line in page.evaluate("window.copied").split("\n")[1:]} == {'"""<b>"""'}
    assert not opened.seen.errors and not opened.seen.failed


@pytest.mark.browser
@pytest.mark.xdist_group("browser")
def test_without_a_script_and_on_paper_every_row_and_head_can_be_read(shown, opened):  # noqa: F811
    page = opened(shown, java_script_enabled=False)
    page.locator("summary").click()
    assert page.locator("tbody tr").last.is_visible() and page.locator("button, select").count() == 0
    page = opened(shown)
    page.locator("summary").click()
    page.emulate_media(media="print")
    assert page.locator("thead th").first.inner_text().strip() == "rule" and not page.locator(".tools").is_visible()

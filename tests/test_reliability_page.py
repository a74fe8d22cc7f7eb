"""docs/reliability.md as shipped: made by a whole run of the long tests."""

from __future__ import annotations

import re

from reliability import table


def test_the_shipped_page_holds_what_is_promised():
    text = table.PAGE.read_text(encoding="utf-8")
    kills = [int(row[1]) for row in re.findall(r"\| (kill -9[^|]*) \| (\d+) \|", text)]
    assert len(kills) == 3, "of fetch, of report, of publishing"
    assert min(kills) >= 200
    assert all(f"## {title}\n" in text for title in table.AREAS.values())
    assert not re.search(r"\d\d:\d\d|/tmp/|/root/", text)

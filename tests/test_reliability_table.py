"""The table of faults: merged, sorted, the same for the same outcomes."""

from __future__ import annotations

import random

from reliability import table

ENTRIES = [
    {"area": "service", "fault": "500, API only", "tried": 1, "outcome": "public CSV used"},
    {"area": "service", "fault": "500, nothing stored", "tried": 2, "outcome": "one line"},
    {"area": "crash", "fault": "disk: Input/output error at mkdir", "tried": 1, "outcome": "one line"},
    {"area": "crash", "fault": "disk: Input/output error at fsync", "tried": 1, "outcome": "one line"},
    {"area": "crash", "fault": "a|b <x>", "tried": 3, "outcome": "fine"},
]


def test_entries_of_one_fault_become_one_row():
    assert table.merged(ENTRIES) == {
        "service": {"500": (3, "one line; public CSV used")},
        "disk": {"Input/output error, at each step of storing a snapshot": (2, "one line")},
        "crash": {"a|b <x>": (3, "fine")},
    }


def test_the_page_does_not_depend_on_the_order_of_the_tests():
    first = table.page(ENTRIES)
    shuffled = random.Random(1).sample(ENTRIES, len(ENTRIES))
    assert table.page(shuffled) == first
    assert "**3 kinds of fault, 8 tries:" in first
    assert r"| a\|b \<x\> | 3 | fine |" in first

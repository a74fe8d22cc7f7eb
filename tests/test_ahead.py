"""Results computed ahead, found by the content of the arguments."""

import numpy as np
import pandas as pd
import pytest

import capitulation as cap
from capitulation.ahead import ahead, forgotten_at_the_end

RULES = {"this": 1}


@pytest.fixture
def counted():
    """A function that can be computed ahead, and the arguments of its real calls."""
    calls = []

    @ahead(RULES.copy)
    def total(frame, *more, **options):
        """What it does."""
        calls.append((more, options))
        return {"sum": frame.sum(), "more": [*more]}

    with forgotten_at_the_end():
        yield total, calls


@pytest.fixture
def frame():
    days = pd.date_range("2020-01-01", periods=4)
    return pd.DataFrame({"a": [1.0, 2, np.nan, 4], "b": pd.array([1, 2, None, 4], "Int64"), "c": list("wxyz")}, days)


def test_equal_arguments_find_it_in_any_order_of_keywords_and_after_use(counted, frame):
    total, calls = counted
    total.ahead(frame[["a", "b"]], 1, x={"y": 2.0}, z=1)
    again = frame.copy()
    again["a"], again.loc["2020-01-02":].sum  # which fills what pandas remembers
    found = total(again[["a", "b"]], 1, z=1, x={"y": 2.0})
    assert len(calls) == 1 and found["sum"].equals(frame[["a", "b"]].sum()) and total.__doc__ == "What it does."


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.assign(a=[1.0, 2, np.nan, 4.000001]),
        lambda frame: frame.assign(b=pd.array([1, 2, 3, 4], "Int64")),
        lambda frame: frame.rename(columns={"c": "d"}),
        lambda frame: frame.shift(freq="D"),
        lambda frame: frame.iloc[::-1],
        lambda frame: frame[["b", "a", "c"]],
        lambda frame: frame.astype({"a": "float32"}),
        lambda frame: frame.head(3),
        lambda frame: frame["a"],
    ],
)
def test_any_other_content_is_computed(counted, frame, change):
    total, calls = counted
    total.ahead(frame)
    total(change(frame))
    assert len(calls) == 2


def test_a_result_that_the_caller_changes_stays_as_it_was(counted, frame):
    total, calls = counted
    total.ahead(frame["a"].dropna())
    total(frame["a"].dropna())["more"].append("mine")
    assert total(frame["a"].dropna()) == {"sum": 7.0, "more": []} and len(calls) == 1


def test_what_was_not_computed_ahead_or_cannot_be_compared_is_computed_every_time(counted, frame):
    total, calls = counted
    for _ in range(2):
        assert total(frame["b"])["sum"] == 7
    total.ahead(frame["a"])
    for _ in range(2):
        assert total(frame["b"], lambda: 1)["sum"] == 7
    with pytest.raises(AttributeError):
        total(3)
    assert len(calls) == 6


def test_what_else_decides_must_be_as_it_was_and_the_end_forgets(counted, frame):
    total, calls = counted
    with forgotten_at_the_end():
        total.ahead(frame)
        RULES["that"] = 2
        total(frame)
        del RULES["that"]
        total(frame)
        assert len(calls) == 2
    total(frame)
    assert len(calls) == 3


def test_a_rule_of_ones_own_is_applied_though_the_others_were_ahead(simulated_panel):
    with forgotten_at_the_end():
        cap.apply_rules.ahead(simulated_panel)
        before = cap.apply_rules(simulated_panel)
        try:

            @cap.rule("dear_day")
            def dear_day(panel, *, above_usd=1000.0):
                """Dearer than that."""
                return cap.beyond(panel["price_usd"], panel["price_usd"] - above_usd)

            assert "dear_day" in cap.apply_rules(simulated_panel).states
        finally:
            del cap.RULES["dear_day"]
        pd.testing.assert_frame_equal(cap.apply_rules(simulated_panel).episodes, before.episodes)

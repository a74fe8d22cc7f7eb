"""The checks of a new answer: silent on good data, and each kind of change found, sized and graded."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

import local_server as ls
from capitulation.data import changes
from capitulation.data import quality as q

TODAY = dt.date(2023, 2, 5)


@pytest.fixture(scope="module")
def panel():
    return ls.made_panel(400)


def changed(panel, column, days, factor):
    copy = panel.copy()
    copy.loc[copy.index[days], column] *= factor
    return copy


def found(findings, check):
    return [finding for finding in findings if finding.check == check]


def test_a_good_panel_has_no_findings(panel):
    assert q.check_panel(panel, TODAY) == []
    assert q.check_recent(panel, TODAY) == []
    assert changes.compare_panels(panel, panel) == []
    assert changes.compare_panels(panel, panel.iloc[:-1]) == []


def test_future_days_fail(panel):
    [finding] = found(q.check_panel(panel, dt.date(2023, 2, 1)), "future_day")
    assert finding.severity == q.FAILURE
    assert finding.days == 3
    assert (finding.first_day, finding.last_day) == ("2023-02-02", "2023-02-04")


@pytest.mark.parametrize("factor", [1000, 1 / 1000, 1e6])
def test_a_hash_rate_in_another_unit_fails(panel, factor):
    """Whether difficulty is derived from it (Coin Metrics) or given on its own (the others)."""
    derived = panel.assign(hash_rate_ehs=panel.hash_rate_ehs * factor, difficulty=panel.difficulty * factor)
    assert [f.check for f in q.failures(q.check_panel(derived))] == ["unit"]
    own = panel.assign(hash_rate_ehs=panel.hash_rate_ehs * factor, block_count=panel.block_count * factor)
    assert "unit" in [f.check for f in q.failures(q.check_panel(own))]


def test_a_price_in_another_unit_fails_where_revenue_tells(panel):
    wrong = panel.assign(price_usd=panel.price_usd / 1000)
    [finding] = q.failures(q.check_panel(wrong))
    assert finding.column == "price_usd"
    assert finding.value == pytest.approx(1000)


def test_difficulty_landmarks_are_met_at_their_days():
    days = pd.DatetimeIndex(list(q.DIFFICULTY_LANDMARKS))
    np.testing.assert_allclose(q.expected_difficulty(days), list(q.DIFFICULTY_LANDMARKS.values()))


def test_a_gap_is_a_warning_when_recent_and_a_note_when_old(panel):
    long = ls.made_panel(900)
    for at, severity in ((800, q.WARNING), (100, q.NOTE)):
        [finding] = q.check_panel(changed(long, "hash_rate_ehs", slice(at, at + 3), np.nan))
        assert (finding.check, finding.severity, finding.days) == ("gap", severity, 3)


def test_a_series_that_stopped_is_named(panel):
    [finding] = q.check_panel(changed(panel, "fees_btc", slice(-10, None), np.nan))
    assert (finding.check, finding.column, finding.days) == ("stopped", "fees_btc", 10)
    assert q.check_panel(changed(panel, "fees_btc", slice(-3, None), np.nan)) == []


def test_an_answer_that_ends_long_ago_is_graded_by_its_age(panel):
    for days, severity in ((10, q.WARNING), (100, q.FAILURE)):
        [finding] = q.check_recent(panel, TODAY + dt.timedelta(days=days))
        assert (finding.check, finding.severity, finding.value) == ("stopped", severity, days)


def test_a_newest_day_far_off_fails(panel):
    """An incomplete day, with a third of its blocks, cannot be chance; nor can another unit."""
    for factor, grade in ((0.3, q.FAILURE), (1000, q.FAILURE), (1.0, None)):
        wrong = changed(panel, "hash_rate_ehs", slice(-1, None), factor)
        shifts = found(q.check_panel(wrong), "level_shift")
        assert (shifts[0].severity if shifts else None) == grade


def test_the_z_of_a_day_is_standard_normal_when_nothing_happens():
    """Poisson blocks at constant difficulty: mean 0, spread 1, whatever the level."""
    calm = ls.made_panel(4000, seed=3)
    calm = calm.assign(hash_rate_ehs=calm.block_count, difficulty=1.0)
    z = q.day_z(calm).dropna()
    assert len(z) == 4000 - 30
    assert abs(z.mean()) < 0.1
    assert 0.95 < z.std() < 1.05
    assert z.abs().max() < q.DAY_Z_WARNING


def test_a_week_at_twice_the_level_fails(panel):
    wrong = changed(panel, "hash_rate_ehs", slice(-7, None), 2.3)
    [*_, finding] = found(q.check_panel(wrong), "level_shift")
    assert finding.severity == q.FAILURE
    assert finding.value == pytest.approx(2.3, rel=0.1)


def test_only_days_after_the_last_snapshot_are_judged(panel):
    jump = changed(panel, "hash_rate_ehs", slice(-20, -19), 0.2)
    assert found(q.check_panel(jump, since=jump.index[-10]), "level_shift") == []
    assert found(q.check_panel(jump, since=jump.index[-30]), "level_shift")[0].severity == q.FAILURE


def test_history_that_shrank_is_graded(panel):
    [few] = changes.compare_panels(panel.drop(panel.index[50]), panel)
    assert (few.check, few.severity, few.days) == ("shrunk", q.WARNING, 1)
    [many] = changes.compare_panels(panel.iloc[20:], panel)
    assert (many.severity, many.days, many.first_day) == (q.FAILURE, 20, "2022-01-01")
    [newest] = changes.compare_panels(panel.iloc[:-1], panel)
    assert newest.severity == q.FAILURE
    assert "the newest among them" in newest.message


def test_a_lost_column_is_graded(panel):
    [price] = [f for f in changes.compare_panels(panel.assign(price_usd=np.nan), panel) if f.check == "lost_column"]
    assert price.severity == q.FAILURE
    [fees] = [f for f in changes.compare_panels(panel.assign(fees_btc=np.nan), panel) if f.check == "lost_column"]
    assert fees.severity == q.WARNING


def test_revised_days_are_counted_sized_and_dated(panel):
    [one] = changes.compare_panels(changed(panel, "price_usd", slice(100, 101), 1.02), panel)
    assert (one.check, one.severity, one.column, one.days) == ("revised", q.WARNING, "price_usd", 1)
    assert one.value == pytest.approx(0.02 / 1.02)
    assert one.first_day == one.last_day == f"{panel.index[100]:%Y-%m-%d}"
    [newest] = changes.compare_panels(changed(panel, "price_usd", slice(-3, None), 1.02), panel)
    assert newest.severity == q.NOTE, "the newest days may still settle"
    [restated] = changes.compare_panels(changed(panel, "hash_rate_ehs", slice(100, 200), 1.1), panel)
    assert restated.severity == q.FAILURE
    assert restated.days == 100


def test_a_revision_to_or_from_zero_is_full_size(panel):
    """A share of the larger of both values: bounded by one, defined also where the old value was zero."""
    zero = changed(panel, "fees_btc", slice(100, 101), 0.0)
    for new, old in ((panel, zero), (zero, panel)):
        assert changes.compare_panels(new, old)[0].value == 1.0


def test_rounding_is_no_revision(panel):
    assert changes.compare_panels(panel * (1 + 1e-9), panel) == []


def test_providers_that_agree_and_that_do_not(panel):
    [same, _price] = changes.compare_providers(panel, panel, "other")
    assert (same.severity, same.value) == (q.NOTE, 0.0)
    [off, _price] = changes.compare_providers(panel.assign(hash_rate_ehs=panel.hash_rate_ehs * 1.03), panel, "other")
    assert (off.severity, off.column) == (q.WARNING, "hash_rate_ehs")
    assert off.value == pytest.approx(0.03)
    [far, _price] = changes.compare_providers(panel, panel.assign(hash_rate_ehs=panel.hash_rate_ehs * 2), "other")
    assert far.severity == q.FAILURE
    assert changes.compare_providers(panel, panel * np.nan, "other") == []


def test_findings_become_a_table_failures_first(panel):
    worse = changed(changed(panel, "hash_rate_ehs", slice(-1, None), 0.2), "fees_btc", slice(-10, None), np.nan)
    table = q.findings_table(q.check_panel(worse))
    assert table.severity.tolist()[0] == q.FAILURE
    assert set(table.check) == {"stopped", "level_shift"}
    again = q.findings_table([finding.as_dict() for finding in q.check_panel(worse)])
    pd.testing.assert_frame_equal(table, again)
    assert q.findings_table([]).columns.tolist() == table.columns.tolist()


def test_what_was_found_later_is_not_known_earlier(panel):
    """With as_of, no finding may speak of a later day; what earlier days show is found again."""
    gaps = changed(changed(panel, "hash_rate_ehs", slice(100, 102), np.nan), "hash_rate_ehs", slice(300, 304), np.nan)
    revised = changed(changed(gaps, "price_usd", slice(50, 51), 1.02), "fees_btc", slice(350, 351), 2.0)
    found_now = [f.as_dict() for f in q.check_panel(revised) + changes.compare_panels(revised, gaps)]
    assert {f["check"] for f in found_now} == {"gap", "revised"}
    assert len(found_now) == 3
    known = q.known_by_the_end(found_now, revised.iloc[:200])
    assert [(f["check"], f["column"], f["days"]) for f in known] == [
        ("gap", "hash_rate_ehs", 2), ("revised", "price_usd", 1),
    ]  # fmt: skip
    assert all(f["last_day"] < f"{revised.index[200]:%Y-%m-%d}" and "304" not in f["message"] for f in known)


def test_stored_findings_are_told_from_others(panel):
    [finding] = q.check_panel(changed(panel, "fees_btc", slice(-10, None), np.nan))
    assert q.is_finding(finding.as_dict())
    assert not q.is_finding(finding.as_dict() | {"message": 5})
    assert not q.is_finding({"message": "x"})
    assert not q.is_finding("x")

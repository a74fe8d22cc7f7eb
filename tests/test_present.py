"""The present against markets built by hand, brute force, and its promise to be JSON and plain words."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

import capitulation as cap
import notebook_cells
from capitulation.data.market import Market
from capitulation.mining.episodes import episodes, runs
from capitulation.mining.hashrate import hash_ribbons, pulse, ribbon_state
from capitulation.study import present as pr
from notebook_cells import run_cells
from panels import steady_panel, without

NO_WORD = re.compile(
    r"\b(nan|None|NaT|inf|0 of 0|1 (moment|horizon|time|day|episode|look|recoverie|capitulation)s)\b|–|Warning"
)


def market(hash_rate):
    """A panel whose daily hash rate is exactly `hash_rate` (144 blocks a day), with a random price, from 2016 on."""
    price = 500 * np.exp(np.cumsum(np.random.default_rng(4).normal(0.001, 0.03, len(hash_rate))))
    panel = steady_panel(hash_rate, start="2016-01-01", price=price)
    return panel.assign(height=400_000 + panel["height"])


def waves(n=1500, days=250):
    """Growing hash rate with a regular fall, each deeper and longer than the one before."""
    t = np.arange(n)
    return np.exp(0.0015 * t + (0.2 + 0.0001 * t) * np.sin(2 * np.pi * t / days))


@pytest.fixture(scope="module")
def whole():
    return market(waves())


@pytest.fixture(scope="module")
def capitulating(whole):
    """`whole` up to the tenth day of its third capitulation."""
    third = runs(hash_ribbons(whole)["inverted"]).iloc[2]
    return whole.loc[: third["start"] + pd.Timedelta(days=9)]


@pytest.fixture(scope="module")
def state(capitulating):
    return pr.present_state(capitulating, horizons=[7, 90])


@pytest.mark.parametrize("over_days", [1, 7, 14, 30, 45])
@pytest.mark.parametrize("missing", [[], [-3, -35]])
def test_required_hash_rate_makes_the_means_meet(capitulating, over_days, missing):
    panel = without(capitulating, missing)
    needed = pr.required_hash_rate(panel, 30, 60, over_days)
    for factor, sign in ((1.001, 1), (0.999, -1)):
        rate = np.concatenate([panel["hash_rate_ehs"], np.full(over_days, needed * factor)])
        gap = np.nanmean(rate[-30:]) / np.nanmean(rate[-60:]) - 1
        assert np.sign(gap) == sign and abs(gap) < 0.001


def test_required_hash_rate_is_missing_where_it_makes_no_sense(capitulating):
    holed = without(capitulating, range(-20, -15), "hash_rate_ehs")
    soaring = market(np.concatenate([np.full(59, 1.0), [1e6]]))  # even with no hash rate the fast mean stays on top
    for panel, over_days in ((capitulating, 60), (capitulating.tail(59), 7), (holed, 7), (soaring, 1)):
        assert math.isnan(pr.required_hash_rate(panel, 30, 60, over_days))


def test_state_of_a_known_capitulation(capitulating, state):
    assert state["ribbon_state"] == "capitulation" and state["days_in_state"] == 10
    assert pd.Timestamp(state["state_since"]) == capitulating.index[-10] and state["days_unknown"] == 0
    assert state["gap"] < 0 and state["gap_z"] == pytest.approx(state["gap"] / state["gap_se"])
    assert state["gap_history"][-1] == state["gap"] and len(state["gap_history"]) == 60
    for days in (30, 7):
        mean, fall = capitulating["hash_rate_ehs"].rolling(days).mean(), state["hash_rate_drawdowns"][f"{days}d"]
        assert fall["drawdown"] == pytest.approx(mean.iloc[-1] / mean.max() - 1)
        assert fall["peak_date"] == mean.idxmax().date().isoformat()
    assert pr.status_code(state) == 10
    odds = cap.study.duration.turn_odds(capitulating).iloc[-1]
    assert list(state["turn_odds"].values()) == odds.tolist() and list(state["turn_odds"]) == ["30d", "60d", "90d"]


def test_comparable_moments_are_the_same_age_of_earlier_runs(capitulating, state):
    starts = runs(hash_ribbons(capitulating)["inverted"])["start"].iloc[:-1]
    expected = (starts + pd.Timedelta(days=9)).dt.strftime("%Y-%m-%d").tolist()
    assert state["comparable"]["age_days"] == 10 and state["comparable"]["days"] == expected
    row, price = state["comparable"]["log_returns"][1], np.log(capitulating["price_usd"])
    known = (price.shift(-91) - price.shift(-1)).dropna()
    assert row["n"] == row["n_clusters"] == 2 and row["median"] == pytest.approx(known[expected].median())
    assert row["base_hit_rate"] == pytest.approx((known > 0).mean())
    marks = known.index.isin(pd.DatetimeIndex(expected))
    rotated = [known.to_numpy()[np.roll(marks, k)].mean() for k in range(len(known))]
    assert row["p_rotation"] == pytest.approx(np.mean(np.array(rotated) >= rotated[0] - 1e-12))


@pytest.mark.parametrize("edge", ["start", "end"])  # three days into a capitulation, and into an expansion
def test_comparable_moments_by_the_grade_that_was_known_on_their_day(simulated_panel, edge):
    table = runs(hash_ribbons(simulated_panel)["inverted"])
    lasting = table[(table["days"] > 3) & ((table["start"].shift(-1) - table["end"]).dt.days > 3)]
    panel = simulated_panel.loc[: lasting[edge].iloc[-1] + pd.Timedelta(days=2)]
    found = pr.present_state(panel, horizons=[30, 90], confidence=0.8)
    moments, table = found["comparable"], pd.DataFrame(found["comparable"]["by_grade"])
    for day, known in [*zip(moments["days"], moments["grades"], strict=True), (found["as_of"], found["grade"])]:
        then = panel.loc[:day]
        assert episodes(hash_ribbons(then)["inverted"], then)["grade"].iloc[-1] == known
    assert len(moments["days"]) > 3 and len(set(moments["grades"])) > 1
    for grade, of_grade in table.groupby("grade"):
        days = [day for day, known in zip(moments["days"], moments["grades"], strict=True) if grade in ("all", known)]
        study = cap.event_study(panel, days, [30, 90], confidence=0.8).astype(float)
        names = {"n": "n_events", "excess": "excess_log", "ci_low": "ci_low", "p": "p", "n_effective": "n_effective"}
        for ours, theirs in names.items():
            np.testing.assert_allclose(of_grade[theirs].astype(float), study[ours])
    assert (table["p_family"] >= table["p"] - 1e-12).all()


@pytest.mark.parametrize(("primary_days", "shown"), [(30, 30), (50, 30), (90, 90), (1500, 180)])
def test_words_speak_of_the_known_horizon_nearest_to_the_primary_one(capitulating, primary_days, shown):
    found = pr.present_state(capitulating, horizons=[7, 30, 90, 180, 720], primary_days=primary_days)
    assert pr.shown_moments(found)["horizon_days"].unique().tolist() == [shown]


def test_relapses_are_counted_among_recoveries_that_held_as_long(simulated_panel):
    table = episodes(hash_ribbons(simulated_panel)["inverted"], simulated_panel)
    held = (table["start"].shift(-1) - table["end"]).dt.days
    for last in (12, len(table) - 2):
        day = table["end"].iloc[last] + pd.Timedelta(days=min(20, held.iloc[last] - 1))
        found, age = pr.present_state(simulated_panel.loc[:day]), (day - table["end"].iloc[last]).days + 1
        alike = held[:last][(held >= age) & (table["end"] >= "2014") & (table["grade"] == table["grade"].iloc[last])]
        expected = {"within_days": 90, "n": len(alike), "relapsed": (alike <= 90).sum()}
        assert found["ribbon_state"] == "expansion" and found["relapse_ahead"] == expected
        every = next(row for row in found["relapse"] if (row["within_days"], row["grade"]) == (30, "all"))
        seen = table["end"].between("2014", day - pd.Timedelta(days=30))
        assert (every["n"], every["relapsed"]) == (seen.sum(), (held[seen] <= 30).sum())


@pytest.mark.parametrize("days_after", [9, -15, -60])
def test_what_to_watch_says_what_happens_at_the_present_pace(whole, capitulating, days_after):
    panel = whole.loc[: capitulating.index[-10] + pd.Timedelta(days=days_after)]
    now = pr.present_state(panel)
    rate = np.append(panel["hash_rate_ehs"], np.full(14, now["hash_rate_ehs"]))
    turned = (rate[-30:].mean() < rate[-60:].mean()) == (now["ribbon_state"] == "expansion")
    assert ("unless" in pr.to_watch(now)[-1]) == turned


def test_filters_choose_the_past_not_the_present(capitulating):
    past = episodes(hash_ribbons(capitulating)["inverted"], capitulating).iloc[:-1]
    shorter, longer = past.sort_values("days")["start"] + pd.Timedelta(days=9)
    state = pr.present_state(capitulating, min_days=int(past["days"].max()))
    assert state["days_in_state"] == 10 and state["recovery_odds_n_at_risk"] == 1
    assert state["comparable"]["days"] == [str(longer.date())] != [str(shorter.date())]
    deep = pr.present_state(capitulating, min_depth_z=1000)
    assert deep["recovery_odds_30d"] is None and deep["comparable"]["days"] == []
    expanding = capitulating.loc[: capitulating.index[-15]]
    assert len(pr.present_state(expanding)["comparable"]["days"]) == len(past) - 1
    assert pr.present_state(expanding, min_depth_z=1000)["comparable"]["days"] == []


def test_expansion_has_no_odds_and_stale_data_say_nothing_of_the_present():
    state = pr.present_state(market(np.exp(0.002 * np.arange(500))))
    assert state["ribbon_state"] == "expansion" and pr.status_code(state) == 0
    stale = {**state, "stale": True, "age_days": 247}
    assert pr.status_code(stale) == 12
    assert re.search(r": UNKNOWN, .*\b247 days old", pr.status_text(stale).splitlines()[0])
    assert state["days_in_state"] == 441 and state["recovery_odds_30d"] is None and pr.odds_table(state).empty


def test_unknown_days_are_named_and_a_run_goes_on_over_them():
    holed = market(np.exp(0.002 * np.arange(170)))
    holed.loc[holed.index[100:107], "hash_rate_ehs"] = np.nan
    named, about = f"{holed.index[100]:%F} to {holed.index[106]:%F}", {}
    early, later = (pr.present_state(holed.iloc[:days]) for days in (130, 170))
    assert early["ribbon_state"] == "unknown" and early["days_in_state"] is None and pr.status_code(early) == 12
    assert "53 of the last 60" in early["unknown_because"] and early["comparable"]["log_returns"] == []
    assert later["days_in_state"] == 111 and later["days_unknown"] == 57
    for state in (early, later):
        about = pr.facts(state).set_index("label").loc["age"]
        assert named in about["uncertainty"] and named in pr.status_text(state).splitlines()[0]
    assert "57 days" in about["uncertainty"]


def test_a_run_that_begins_after_unknown_days_is_said_to_be_at_least_so_old(whole):
    ribbon = hash_ribbons(whole)
    start = runs(ribbon["inverted"])["start"].iloc[3]
    hole = pd.date_range(start - pd.Timedelta(days=9), start + pd.Timedelta(days=1))
    panel = without(whole, pd.DatetimeIndex(hole)).loc[: start + pd.Timedelta(days=70)]
    state, certain = pr.present_state(panel), pr.present_state(whole.loc[: panel.index[-1]])
    assert state["days_in_state"] < certain["days_in_state"] == 71 and state["ribbon_state"] == certain["ribbon_state"]
    assert state["days_in_state_at_least"] and not certain["days_in_state_at_least"]
    first = pr.status_text(state).splitlines()[0]
    assert f"at least day {state['days_in_state']} " in first and f"{hole[0]:%F} to {hole[-1]:%F}" in first


def test_the_state_of_a_past_day_is_what_the_whole_history_says_of_it(whole, capitulating):
    ribbon = hash_ribbons(whole)
    names = ribbon_state(ribbon)
    for day in capitulating.index[[80, 200, 420, 555, -1]]:
        state = pr.present_state(whole.loc[:day])
        assert (state["ribbon_state"], state["gap"]) == (names[day], ribbon.loc[day, "gap"])
        assert all(moment < str(day.date()) for moment in state["comparable"]["days"])


def odd(whole):
    """Panels and settings that are out of the ordinary, each with the facts that are then not known."""
    constant, stale = market(np.full(500, 5.0)), whole.copy()
    stale.loc[stale.index[-30:], ["price_usd", "revenue_usd"]] = np.nan
    return {
        "narrow intervals": (whole, {"confidence": 0.8, "primary_days": 30}, []),
        "no event": (whole, {"min_depth_z": 1000.0}, ["relapse in 30 days", "what followed"]),
        "no price for a month": (stale, {}, ["price", "hashprice", "rigs at a loss", "Puell multiple"]),
        "constant hash rate": (constant, {}, ["relapse in 30 days", "what followed"]),
        "before the sample": (whole.iloc[:700], {"since": "2020-01-01"}, ["relapse in 30 days", "what followed"]),
        "a single moment": (whole.iloc[:540], {}, []),
        "three columns": (
            whole[["price_usd", "hash_rate_ehs"]].reindex(columns=whole.columns),
            {},
            ["next adjustment"],
        ),
    }


@pytest.mark.parametrize("name", odd(market(waves())))
def test_odd_runs_say_what_is_not_known_and_why(whole, name):
    panel, settings, unknown = odd(whole)[name]
    state = pr.present_state(panel, **settings)
    table = pr.facts(state).set_index("label")
    assert (
        set(unknown) <= set(table.index[table["value"] == pr.NOT_KNOWN])
        and (table.loc[unknown, "uncertainty"] != "").all()
    )
    words = [pr.status_text(state), table.to_csv(), *map(str, pr.card_facts(state)), *pr.to_watch(state)]
    assert not [text for text in words if NO_WORD.search(text)]
    assert state["confidence"] == 0.95 or "95 %" not in "".join(words)


@pytest.mark.parametrize("missing", [["price_usd", "revenue_usd"], ["block_count", "height", "difficulty"], "all"])
@pytest.mark.parametrize("days", [20, 61, 400, 1000])
def test_whatever_is_missing_is_told_in_plain_words(whole, missing, days):
    panel = whole.iloc[:days].copy()
    panel[list(panel.columns) if missing == "all" else missing] = np.nan
    state = pr.present_state(panel)
    assert json.loads(json.dumps(state, allow_nan=False)) == state
    words = [pr.status_text(state), pr.facts(state).to_csv(), *map(str, pr.card_facts(state))]
    assert not [text for text in words if NO_WORD.search(text)]


def test_table_terminal_and_card_say_the_same(state):
    told, text = pr.facts(state).set_index("label")["text"], pr.status_text(state)
    for label, words in pr.card_facts(state):
        assert told[label] == words and f"{label} " in text and words.strip() in text
    assert max(map(len, text.splitlines())) <= 110 and "\x1b" not in text
    assert re.sub(r"\x1b\[\d+m", "", pr.status_text(state, colour=True)) == text


def test_real_present(real_panel):
    state = pr.present_state(real_panel)
    assert (state["ribbon_state"], state["as_of"], state["days_in_state"]) == ("expansion", "2026-03-22", 25)
    article = pr.present_state(real_panel.loc[:"2026-01-20"])
    assert article["ribbon_state"] == "capitulation"
    assert article["days_in_state"] == 15  # not inverted without a break since 29 November
    assert article["recovery_odds_n_at_risk"] == 21 and article["recovery_odds_30d"] == pytest.approx(14 / 21)


FILTERS, WINDOWS = {"min_days": 20, "min_depth_z": 3.0}, {"fast_days": 10, "slow_days": 90}


@pytest.mark.parametrize(
    ("days", "rules"), [(40, {}), (400, {}), (1250, {}), (400, FILTERS), (1250, FILTERS), (1250, WINDOWS)]
)
def test_the_notebook_agrees_with_the_library_at_any_time_and_setting(whole, tmp_path, monkeypatch, days, rules):
    names = run_cells("80-read-the-present", whole.iloc[:days], tmp_path, monkeypatch, **rules)
    stored = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    assert stored == names["state"] and (tmp_path / "tables" / "present.csv").is_file()


@pytest.mark.parametrize("name", ["narrow intervals", "no event", "before the sample", "a single moment"])
def test_the_page_reads_well_in_odd_runs(whole, tmp_path, monkeypatch, name):
    panel, settings, _ = odd(whole)[name]
    own = {"primary_days": "primary_horizon_days", "since": "sample_start"}
    settings = {
        own.get(key, key): min(value, 100) if key == "min_depth_z" else value for key, value in settings.items()
    }
    shown = run_cells("80-read-the-present", panel, tmp_path, monkeypatch, **settings)["shown"]
    told = [re.sub(r"<td[^>]*>–</td>", "", text) for text in shown]  # a cell may hold a dash, a sentence may not
    assert len(told) > 20 and not [text for text in told if NO_WORD.search(text)]
    if settings.get("confidence"):
        assert not [text for text in told if "95 %" in text.replace("\u00a0", " ")]


def test_questions_written_down_are_answered_by_later_events_alone(real_panel, tmp_path, monkeypatch):
    asked = {"definition": "hash_ribbons", "written": "2020-03-01", "days": 60}
    asked = [asked | {"anchor": anchor, "grade": grade} for anchor, grade in (("recovery", "real"), ("buy", "all"))]
    run_cells("80-read-the-present", real_panel, tmp_path, monkeypatch, hypotheses=asked)
    table = pd.read_csv(tmp_path / "tables" / "hypotheses.csv")
    found = episodes(hash_ribbons(real_panel)["inverted"], real_panel)
    real = found.loc[found["depth_z"] < -3, "end"]
    for row, days in zip(table.itertuples(), (real, found["buy_date"]), strict=True):
        events = days[days >= "2020-03-01"]
        study = cap.event_study(real_panel, events, [60]).iloc[0]
        assert (row.n_events, row.n_known) == (len(events), study["n"]) and 0 < row.n_known < row.n_events + 1
        assert (row.excess_log, row.p) == pytest.approx((study["excess"], study["p"]), abs=1e-9)


def test_the_notebook_on_real_data_gives_odds_in_a_capitulation(real_panel, tmp_path, monkeypatch):
    run_cells("80-read-the-present", real_panel.loc[:"2026-01-20"], tmp_path, monkeypatch)
    odds = pd.read_csv(tmp_path / "tables" / "recovery_odds.csv")
    assert odds["n_at_risk"].eq(21).all() and (odds["low"] < odds["odds"]).all() and (odds["odds"] < odds["high"]).all()


@pytest.fixture(scope="module")
def blocks(capitulating):
    """The last 2,017 blocks before the end of that panel, on average 9 minutes apart."""
    waits = pd.to_timedelta(np.random.default_rng(6).exponential(540, 2017).cumsum().round(), unit="s")
    times = capitulating.index[-1] + pd.Timedelta(hours=23, minutes=50) - waits[::-1]
    heights = pd.RangeIndex(int(capitulating["height"].iloc[-1]) - 2016, int(capitulating["height"].iloc[-1]) + 1)
    return pd.DataFrame({"time": times, "clock": times, "difficulty": 2e11}, index=heights)


def test_the_pulse_stands_in_state_and_facts_where_block_times_are_known(capitulating, state, blocks):
    for n_blocks, shown in ((None, 0), (100, 0), (145, 1), (2017, 2)):
        given = None if n_blocks is None else blocks.tail(n_blocks)
        found = pr.present_state(capitulating, horizons=[7, 90], confidence=0.8, blocks=given)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        table = pr.facts(found).set_index("label")
        lines = table[table.index.str.contains("blocks")]
        assert len(lines) == len(found["pulse"] or ()) == shown and (shown > 0) == (found["pulse"] is not None)
        if not shown:
            assert {**found, "pulse": None} == found
            continue
        rows, expected = pd.DataFrame(found["pulse"]), pulse(blocks, confidence=0.8).iloc[:shown]
        for name in ("from_time", "to_time"):
            assert pd.to_datetime(rows[name]).tolist() == expected[name].tolist()
            rows[name], expected[name] = "", ""
        pd.testing.assert_frame_equal(rows, expected, check_exact=True)
        assert list(lines.index) == ["last 144 blocks", "last 2,016 blocks"][:shown]
        assert f"{rows['hours'][0]:.1f} h" in lines["value"].iloc[0] and "80 % interval" in lines["text"].iloc[0]
        assert all(text in pr.status_text(found) for text in lines["text"])
        assert not [text for text in lines["text"] if NO_WORD.search(text)]
        rest = {key: value for key, value in found.items() if key not in ("pulse", "confidence")}
        assert rest["gap"] == state["gap"] and rest["next_retarget"].keys() == state["next_retarget"].keys()


@pytest.mark.parametrize(
    ("n_blocks", "simulated", "confidence"), [(2017, False, 0.95), (500, True, 0.8), (90, False, 0.95)]
)
def test_the_page_reckons_the_pulse_by_hand(
    capitulating, blocks, tmp_path, monkeypatch, n_blocks, simulated, confidence
):
    market = Market(capitulating, "test", simulated, blocks=blocks.tail(n_blocks))
    monkeypatch.setattr(notebook_cells, "Market", lambda *_, **__: market)
    shown = run_cells("80-read-the-present", capitulating, tmp_path, monkeypatch, confidence=confidence)["shown"]
    table = tmp_path / "tables" / "pulse.csv"
    assert table.is_file() == (n_blocks > 144)
    if table.is_file():
        rows = pd.read_csv(table, parse_dates=["from_time", "to_time"])
        expected = pulse(blocks.tail(n_blocks), confidence=confidence)
        pd.testing.assert_frame_equal(rows, expected, check_dtype=False)
    assert not [text for text in shown if NO_WORD.search(re.sub(r"<td[^>]*>–</td>", "", text))]

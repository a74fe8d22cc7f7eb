"""Any profile and any SET give a valid run or one clear line with exit code 2; nothing else."""

import datetime as dt
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capitulation import params as par
from capitulation.errors import InputError
from capitulation.mining.rules import RULES, thresholds
from capitulation.params import Params, load_params, make_params, parse_overrides, read_profile, save_profile

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(), st.binary(max_size=5))
VALUES = st.recursive(SCALARS, lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(), one, max_size=3))
NAMES = st.sampled_from([*Params.model_fields])
PAIRS = st.lists(st.tuples(NAMES, st.text()), max_size=4).map(lambda pairs: " ".join(map("=".join, pairs)))


def one_error(function, *arguments) -> str:
    """The line that a refused call says; it must be one that can be printed. Empty where the call is not refused."""
    try:
        function(*arguments)
    except InputError as error:
        assert error.exit_code == 2 and str(error).isprintable() and 0 < len(str(error)) < 1200
        return str(error)
    return ""


QUESTION = {"written": "2026-11-26", "definition": "hash_ribbons", "anchor": "buy", "grade": "all", "days": 90}
WRONG = [
    ({"fast_dayz": 30}, ["'fast_dayz'", "did you mean fast_days?", "known are"]),
    ({"fast_days": 60}, ["fast_days=60", "slow_days=60", "smaller"]),
    ({"price_fast_days": 20}, ["price_fast_days=20", "price_slow_days=20"]),
    ({"retargets_k": 9, "retargets_n": 8}, ["retargets_k=9", "retargets_n=8"]),
    ({"horizons_days": [*range(1, 14)]}, ["horizons_days", "primary_horizon_days=90", "at most 13"]),
    ({"pages": [30, 100]}, ["pages", "100"]),
    ({"horizons_days": []}, ["horizons_days=[]"]),
    ({"horizons_days": [0, 90]}, ["horizons_days", "0"]),
    ({"as_of": "2026-13-01"}, ["as_of='2026-13-01'", "a day that there is"]),
    ({"as_of": "2026-02-30"}, ["as_of='2026-02-30'", "a day that there is"]),
    ({"as_of": "yesterday"}, ["YYYY-MM-DD"]),
    ({"as_of": "2008-12-31"}, ["first block"]),
    ({"as_of": "2013-12-31"}, ["as_of=2013-12-31", "sample_start=2014-01-01", "earlier sample_start"]),
    ({"sample_start": ""}, ["sample_start=''"]),
    ({"seed": True}, ["seed=True", "true or false"]),
    ({"confidence": float("nan")}, ["confidence=nan"]),
    ({"entry_lag_days": -1}, ["entry_lag_days=-1", "greater than or equal to 0"]),
    ({"source": "kraken"}, ["source='kraken'", "coinmetrics"]),
    ({"source": "CoinMetric"}, ["did you mean coinmetrics?"]),
    ({"primary_definition": "puell"}, ["primary_definition='puell'", "hash_ribbons"]),
    ({"primary_anchor": "recovry"}, ["did you mean recovery?"]),
    ({"data": "a.csv", "source": "coinmetrics"}, ["exclude each other"]),
    ({"data": "a\x00.csv"}, ["control characters"]),
    ({"hypotheses": [QUESTION | {"written": "2026-11-31"}]}, ["written='2026-11-31'", "a day that there is"]),
    ({"hypotheses": [QUESTION | {"written": ""}]}, ["written=''"]),
    ({"hypotheses": [QUESTION | {"definition": "hash_ribbon"}]}, ["did you mean hash_ribbons?"]),
    ({"hypotheses": [QUESTION | {"anchor": "start", "grade": "real"}]}, ["grade=real", "not known", "choose all"]),
    ({"hypotheses": [QUESTION | {"horizon": 90}]}, ["horizon"]),
    ({"hypotheses": [QUESTION] * 21}, ["hypotheses", "20"]),
]


@pytest.mark.parametrize(("values", "needles"), WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(values, needles):
    line = one_error(make_params, values, "SET")
    assert all(needle in line for needle in [*needles, "SET"]), line


@pytest.mark.parametrize("horizons", [[30], [7, 90], [*range(1, 13)], [1500]])
def test_the_primary_horizon_is_always_among_the_horizons(horizons):
    params = make_params({"horizons_days": horizons[::-1]})
    assert params.horizons_days == sorted({*horizons, 90})
    assert make_params(params.model_dump()) == params, "a record can be read back"
    assert make_params().horizons_days == [7, 30, 60, 90, 180, 365]


def test_two_questions_are_written_down_and_others_may_be():
    """After recoveries, all and those from real capitulations, 90 days; a profile's day need not be quoted."""
    stated = {"written": "2026-11-26", "definition": "hash_ribbons", "anchor": "recovery", "days": 90}
    assert make_params().hypotheses == [stated | {"grade": grade} for grade in ("all", "real")]
    own = make_params({"hypotheses": [QUESTION | {"written": dt.date(2027, 1, 5)}]})
    assert own.hypotheses == [QUESTION | {"written": "2027-01-05"}]
    assert par.shared_settings(own)["stated"] == {"hypotheses": own.hypotheses}


def test_thresholds_come_from_the_rules():
    params = make_params({"puell_threshold": 0.4, "as_of": dt.date(2026, 1, 20)})
    declared = {name: default for rule in RULES.values() for name, (_, default) in rule.thresholds.items()}
    assert declared.items() <= make_params().model_dump().items()
    assert params.model_dump(exclude_defaults=True) == {"as_of": "2026-01-20", "puell_threshold": 0.4}
    assert json.loads(json.dumps(params.model_dump())) == params.model_dump()
    shared = par.shared_settings(params)["rules"]
    assert thresholds().keys() < shared.keys() and shared["puell_threshold"] == 0.4
    with pytest.raises(ValueError, match="frozen"):
        params.fast_days = 3


@pytest.mark.parametrize(("text", "value"), [("030", 30), ("-0", 0), ("+3", 3), ("1e3", 1000), (".5", 0.5)])
def test_numbers_mean_what_a_reader_takes_them_for(text, value):
    """In YAML 1.1 a leading zero makes a number octal."""
    assert make_params(parse_overrides(f"fee_bps={text}")).fee_bps == value


@pytest.mark.parametrize("value", ["1:30", "0o7x", ".inf", pytest.param("1" + "0" * 5000, id="huge")])
def test_what_only_looks_like_a_number_is_refused_by_name(value):
    assert "fast_days" in one_error(lambda: make_params(parse_overrides(f"fast_days={value}")))


def test_what_is_neither_pairs_nor_a_profile_is_refused(tmp_path):
    for text in ("fast_days", "=3", "fast_days=[1", "fast_days=!!python/object:os.system", "seed=1 seed=2"):
        assert "SET" in one_error(parse_overrides, text)
    path = tmp_path / "bad.yml"
    for text in (b"- a\n", b"text", b"\xff\xfe\x00", b"a: [", b"a: !!python/name:os.system", b"x" * 200_000):
        path.write_bytes(text)
        assert "bad.yml" in one_error(load_params, path)
    assert "no-such-profile" in one_error(read_profile, "no-such-profile")
    for name in ("quik", "quik.yml", "QUICK"):
        assert "did you mean quick?" in one_error(read_profile, name)


def test_overrides_win_over_the_profile_and_no_foreign_file_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPITULATION_HOME", str(tmp_path))
    folder = tmp_path / "params"
    folder.mkdir()
    (folder / "mine.yml").write_text("slow_days: 100\nfast_days: 40\n")
    params = load_params("mine", parse_overrides("fast_days=20 horizons_days=[90,030,90]"))
    assert (params.fast_days, params.slow_days, params.horizons_days) == (20, 100, [30, 90])
    assert "mine" in one_error(save_profile, "mine", {"fast_days": 20})
    assert read_profile("mine") == {"slow_days": 100, "fast_days": 40}
    for slow in (80, 90):  # one that was saved before is replaced
        assert "PARAMS=saved" in save_profile("saved", {"slow_days": slow, "fast_days": 30})
        assert read_profile("saved") == {"slow_days": slow}
    for name, values in (("../up", {}), ("Name", {}), ("saved", {"fast_days": 99})):
        assert one_error(save_profile, name, values)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.yml", "saved.yml"]


@settings(deadline=None)
@given(st.dictionaries(NAMES | st.text(max_size=20) | st.integers(), VALUES, max_size=6), st.text() | PAIRS)
def test_any_mapping_and_any_text_in_set_is_valid_or_one_clear_line(values, text):
    one_error(make_params, values)
    one_error(lambda: make_params(parse_overrides(text)))

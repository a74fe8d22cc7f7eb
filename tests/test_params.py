"""Any profile yields a valid run or one clear line; nothing else."""

import datetime as dt

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from capitulation.errors import CapitulationError, InputError, one_line
from capitulation.params import Params, changed_from_default, load_params, make_params, parse_overrides, read_profile

FIELDS = st.sampled_from(list(Params.model_fields))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.dates(),
    st.binary(max_size=5),
    st.just("<script>"),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3)
)


def _one_clear_line(error: CapitulationError) -> None:
    assert "\n" not in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 1200


def test_defaults_are_the_design():
    params = make_params()
    assert (params.fast_days, params.slow_days, params.entry_lag_days) == (30, 60, 1)
    assert params.horizons_days == [7, 30, 60, 90, 180, 365]
    assert (params.primary_definition, params.primary_anchor, params.primary_horizon_days) == (
        "hash_ribbons",
        "recovery",
        90,
    )
    assert params.sample_start == "2014-01-01"


@pytest.mark.parametrize(
    ("values", "needles"),
    [
        ({"fast_dayz": 30}, ["'fast_dayz'", "known are", "fast_days"]),
        ({"fast_days": 60}, ["fast_days=60", "slow_days=60", "smaller"]),
        ({"price_fast_days": 20}, ["price_fast_days=20", "price_slow_days=20"]),
        ({"retargets_k": 9, "retargets_n": 8}, ["retargets_k=9", "retargets_n=8"]),
        ({"as_of": "2026-13-01"}, ["as_of='2026-13-01'"]),
        ({"as_of": "yesterday"}, ["YYYY-MM-DD"]),
        ({"as_of": "2008-12-31"}, ["first block"]),
        ({"as_of": "2013-12-31"}, ["as_of=2013-12-31", "sample_start=2014-01-01"]),
        ({"seed": True}, ["seed=True", "true or false"]),
        ({"confidence": float("nan")}, ["confidence=nan"]),
        ({"entry_lag_days": -1}, ["entry_lag_days=-1", "greater than or equal to 0"]),
        ({"horizons_days": []}, ["horizons_days=[]"]),
        ({"horizons_days": [30]}, ["primary_horizon_days=90"]),
        ({"source": "kraken"}, ["source='kraken'", "coinmetrics"]),
        ({"data": "a.csv", "source": "coinmetrics"}, ["exclude each other"]),
        ({"data": "a\x00.csv"}, ["control characters"]),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(values, needles):
    with pytest.raises(InputError) as caught:
        make_params(values, "SET")
    _one_clear_line(caught.value)
    assert all(needle in str(caught.value) for needle in needles), str(caught.value)
    assert "SET" in str(caught.value)
    assert caught.value.exit_code == 2


def test_parameters_cannot_be_changed_after_validation():
    with pytest.raises(Exception, match="frozen"):
        make_params().fast_days = 3


def test_a_dump_is_plain_json():
    import json

    values = make_params({"as_of": dt.date(2026, 1, 20)}).model_dump()
    assert json.loads(json.dumps(values)) == values
    assert values["as_of"] == "2026-01-20"


def test_overrides_win_over_the_profile_and_the_profile_over_defaults(tmp_path):
    profile = tmp_path / "p.yml"
    profile.write_text("slow_days: 100\nfast_days: 40\n")
    params = load_params(profile, parse_overrides("fast_days=20 horizons_days=[90,30]"))
    assert (params.fast_days, params.slow_days, params.horizons_days) == (20, 100, [30, 90])
    assert changed_from_default(params) == {"fast_days": 20, "slow_days": 100, "horizons_days": [30, 90]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("030", 30),
        ("-0", 0),
        ("+3", 3),
        ("1e3", 1000),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.0e+3", 1000),
        ("[7,030]", [7, 30]),
    ],
)
def test_numbers_mean_what_a_reader_takes_them_for(text, value):
    """In YAML 1.1 a leading zero makes a number octal and a colon makes it base 60."""
    name = "horizons_days" if isinstance(value, list) else "fee_bps"
    extra = {"primary_horizon_days": 7} if isinstance(value, list) else {}
    assert getattr(make_params(parse_overrides(f"{name}={text}") | extra), name) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fast_days=1:30", "fast_days='1:30'"),
        ("fast_days=0x1f", "fast_days='0x1f'"),
        ("as_of=2026-13-45", "as_of='2026"),
        ("fee_bps=.inf", "fee_bps='.inf'"),
        ("fast_days=1" + "0" * 5000, "fast_days='1000"),
    ],
)
def test_what_only_looks_like_a_number_or_a_day_is_refused_by_name(text, shown):
    with pytest.raises(InputError) as caught:
        make_params(parse_overrides(text), "SET")
    _one_clear_line(caught.value)
    assert str(caught.value).startswith(shown)


@pytest.mark.parametrize(
    "text", ["fast_days", "=3", "fast_days:3", "fast_days=[1", "fast_days=!!python/object:os.system"]
)
def test_unreadable_overrides_are_refused(text):
    with pytest.raises(InputError) as caught:
        parse_overrides(text)
    _one_clear_line(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"- a\n- b\n",
        b"just text",
        b"\xff\xfe\x00",
        b"a: [",
        b"a: !!python/object/apply:os.system ['true']",
        b"x" * 200_000,
    ],
)
def test_unreadable_profiles_are_refused(tmp_path, content):
    path = tmp_path / "bad.yml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_params(path)
    _one_clear_line(caught.value)


def test_a_missing_profile_is_named():
    with pytest.raises(InputError, match="no-such-profile"):
        read_profile("no-such-profile")


@pytest.mark.parametrize("name", ["default", "quick", "as-of-2026-01-20"])
def test_shipped_profiles_are_valid(name):
    assert load_params(name)


@given(st.dictionaries(st.one_of(FIELDS, st.text(max_size=20)), VALUES, max_size=6))
def test_any_mapping_is_valid_or_one_clear_line(values):
    try:
        assert isinstance(make_params(values), Params)
    except InputError as error:
        _one_clear_line(error)


@given(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: yaml.dump(value).encode())))
def test_any_file_is_a_valid_profile_or_one_clear_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("profile") / "any.yml"
    path.write_bytes(content)
    try:
        assert isinstance(load_params(path), Params)
    except InputError as error:
        _one_clear_line(error)


@given(st.text())
def test_one_line_is_printable(text):
    assert one_line(text).isprintable()
    assert len(one_line(text, 50)) <= 50

"""Damaged and hostile answers: each parser gives a valid panel or a `DataError` in one line, nothing else."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import local_server as ls
from capitulation.data.panel import read_panel, validate_panel
from capitulation.data.providers import coinmetrics, provider
from capitulation.errors import DataError

PANEL = ls.made_panel(20)
CHARTS = {f"{name}.json": body for name, body in ls.blockchain_charts(PANEL).items()}
ANSWERS = {
    "coinmetrics csv": ("coinmetrics", {"btc.csv": ls.coinmetrics_csv(PANEL)}, "btc.csv"),
    "coinmetrics api": (
        "coinmetrics",
        {"page-01.json": ls.coinmetrics_page(ls.coinmetrics_rows(PANEL))},
        "page-01.json",
    ),
    "blockchain_com hash rate": ("blockchain_com", CHARTS, "hash-rate.json"),
    "blockchain_com price": ("blockchain_com", CHARTS, "market-price.json"),
    "mempool_space": ("mempool_space", {"hashrate.json": ls.mempool_answer(PANEL)}, "hashrate.json"),
}
JSON_ANSWERS = [name for name in ANSWERS if name != "coinmetrics csv"]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["NaN", "-1", "1e400", "<script>", "=cmd", "2022-02-30", "9999-12-31T00:00:00Z", "1_000", "٣"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def check(name, body):
    """Parse the answer with `body` in its place: a valid panel, or one line."""
    source, files, file = ANSWERS[name]
    try:
        panel = provider(source).parse({**files, file: body})
        if len(panel):
            validate_panel(panel)
    except DataError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 500


def paths(node, here=()):
    """The path of every value inside a JSON value."""
    yield here
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in inside:
        yield from paths(value, (*here, key))


def replaced(node, path, value):
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


@pytest.mark.parametrize("name", JSON_ANSWERS)
def test_any_value_replaced_by_an_odd_one(name):
    _source, files, file = ANSWERS[name]
    answer = json.loads(files[file])
    every = list(paths(answer))[:60]

    @QUIET
    @given(path=st.sampled_from(every), value=ODD)
    def replace_one(path, value):
        check(name, json.dumps(replaced(answer, path, value)).encode())

    replace_one()


@pytest.mark.parametrize("name", ANSWERS)
def test_bytes_changed_cut_or_inserted_anywhere(name):
    _source, files, file = ANSWERS[name]
    body = files[file]

    @QUIET
    @given(at=st.integers(0, len(body)), length=st.integers(0, 40), new=st.binary(max_size=6))
    def splice(at, length, new):
        check(name, body[:at] + new + body[at + length :])

    splice()


@QUIET
@given(value=ODD, path=st.sampled_from(list(paths(json.loads(ls.coinmetrics_catalog())))))
def test_any_catalog(value, path):
    catalog = json.dumps(replaced(json.loads(ls.coinmetrics_catalog()), path, value)).encode()
    try:
        metrics = coinmetrics.free_metrics(catalog)
        assert set(coinmetrics.REQUIRED) <= set(metrics) <= set(coinmetrics.METRICS)
    except DataError as error:
        assert "\n" not in str(error)


@QUIET
@given(data=st.binary(max_size=200))
def test_any_bytes_as_a_stored_panel(data):
    with pytest.raises(DataError, match=r"panel\.csv: "):
        read_panel(data)

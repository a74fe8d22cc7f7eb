"""Every figure: drawn whole, in words that follow the data, the same bytes each time, and nothing left behind."""

from __future__ import annotations

import io
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from capitulation.episodes import describe_episodes
from capitulation.mining.hash_rate import hash_rate_band
from capitulation.mining.protocol import halving_days
from capitulation.mining.ribbons import ribbons
from capitulation.params import ANCHORS, DEFINITIONS, Params
from capitulation.plots import Chart, axes, backtest, episodes, market, returns, robustness, style
from capitulation.plots.png import png_bytes

PARAMS = Params()
HEAVIEST_PNG = 90_000


def _forward_returns(rng: np.random.Generator) -> pd.DataFrame:
    """A forward-return table of every definition, anchor and horizon with made-up numbers."""
    keys = [(d, a, h) for d in DEFINITIONS for a in ANCHORS for h in PARAMS.horizons_days]
    table = pd.DataFrame(keys, columns=["definition", "anchor", "horizon_days"])
    n = len(table)
    table["n_events"] = rng.integers(3, 40, n)
    table["excess_log"] = rng.normal(0, 0.1, n)
    table["ci_low"], table["ci_high"] = table["excess_log"] - 0.2, table["excess_log"] + 0.2
    for name in ("p_rotation", "p_matched", "p_hac", "p_hansen_hodrick"):
        table[name] = rng.uniform(0, 1, n)
    return table.assign(t_ols=rng.normal(0, 1.5, n))


def _specifications(table: pd.DataFrame) -> pd.DataFrame:
    parts = [table.assign(sample_start=f"{year}-01-01", lag_days=lag) for year in (2011, 2014) for lag in (0, 1)]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def frames(simulated_panel) -> SimpleNamespace:
    """What the figures take, from one simulated market and made-up tables."""
    rng, panel = np.random.default_rng(3), simulated_panel
    ribbon = ribbons(panel)
    state = ribbon[["in_capitulation", "known"]].rename(columns={"in_capitulation": "in_state"})
    own = describe_episodes(panel, "hash_ribbons", state, PARAMS)
    days = pd.DatetimeIndex(own["end"].dropna()[-12:])
    price = panel["price_usd"].dropna()
    paths = pd.DataFrame(rng.normal(0, 0.02, (426, 9)).cumsum(axis=0), index=pd.RangeIndex(-60, 366, name="day"))
    paths = paths - paths.loc[0]
    low, middle, high = paths.quantile([0.25, 0.5, 0.75], axis=1).to_numpy()
    base = pd.DataFrame({h: rng.normal(0.1, 0.2, 900) for h in PARAMS.horizons_days}, index=price.index[-900:])
    event = pd.DataFrame(
        {"horizon_days": np.repeat(PARAMS.horizons_days, 8), "simple_return": rng.normal(0.1, 0.2, 48)}
    )
    table = _forward_returns(rng)
    names = ["hash_ribbons_recovery_hold_90d", "buy_and_hold", "hash_ribbons_buy_until_start"]
    curves = pd.DataFrame(np.exp(rng.normal(0, 0.02, (900, 3)).cumsum(axis=0)), index=price.index[-900:], columns=names)
    return SimpleNamespace(
        panel=panel,
        ribbon=ribbon,
        episodes=own,
        halvings=halving_days(panel),
        all_episodes=pd.concat([own, own.assign(definition="puell_multiple")], ignore_index=True),
        band=hash_rate_band(panel),
        paths=paths,
        base_paths=pd.DataFrame({"low": low, "median": middle, "high": high}, index=paths.index),
        base_returns=base,
        event_returns=event.assign(definition="hash_ribbons", anchor="recovery", anchor_date=price.index[-900]),
        forward_returns=table,
        rotation=SimpleNamespace(statistic=0.08, p_one_sided=0.0521, null=rng.normal(0, 0.06, 3000), n_events=12),
        left_out=pd.DataFrame(
            {"left_out": [pd.NaT, *days], "excess_log": rng.normal(0.05, 0.02, 1 + len(days)), "p_rotation": 0.2}
        ),
        agreement=pd.DataFrame(rng.uniform(0, 1, (10, 10)), index=DEFINITIONS, columns=DEFINITIONS),
        noise={"days": 365, "growth_per_year": 0.3, "observed": 7, "expected": 13.1, "low": 7.0, "high": 21.0,
               "p_at_least_observed": 0.99},
        probability=pd.Series(rng.uniform(0, 1, len(panel)), index=panel.index),
        curves=curves,
        benchmarks={n: SimpleNamespace(observed=1.5, random=rng.normal(1, 1, 500), share_beaten=0.7) for n in names},
        strategies=pd.DataFrame({"strategy": names, "anchor": ["recovery", "", "buy"], "sharpe": [0.5, 0.9, 1.1],
                                 "deflated_sharpe": [0.1, 0.3, 0.96]}),
        grid=pd.DataFrame(
            [(f, s, rng.normal()) for f in (10, 20, 30) for s in (45, 60, 90)],
            columns=["fast_days", "slow_days", "excess_log"],
        ),
        specifications=_specifications(table),
        family=table[table["horizon_days"] == 90].assign(z=rng.normal(0, 1, 40), p_family=0.31),
        null_max=rng.gumbel(1.5, 0.5, 2000),
        forecasts=pd.DataFrame({"date": days, "forecast": 0.1, "baseline": 0.05, "outcome": rng.normal(0.1, 0.2, 12)}),
    )  # fmt: skip


FIGURES = {
    "coverage": lambda f: market.coverage(f.panel),
    "price": lambda f: market.price_with_capitulations(f.panel, f.episodes),
    "price_recent": lambda f: market.price_with_capitulations(f.panel, f.episodes, years=3),
    "ribbons": lambda f: market.hash_rate_ribbons(f.panel, f.ribbon, f.episodes, band=f.band),
    "gap": lambda f: market.gap_with_noise(f.ribbon, f.episodes, halvings=f.halvings),
    "timeline": lambda f: episodes.definitions_timeline(f.all_episodes, f.panel),
    "agreement": lambda f: episodes.agreement_heatmap(f.agreement),
    "noise": lambda f: episodes.noise_inversions(f.noise),
    "falling": lambda f: episodes.falling_probability(f.probability, f.episodes, halvings=f.halvings),
    "paths": lambda f: returns.event_paths(f.paths, f.base_paths),
    "horizons": lambda f: returns.returns_by_horizon(f.event_returns, f.base_returns, PARAMS),
    "rotation": lambda f: returns.rotation_null(f.rotation, 90),
    "tests": lambda f: returns.test_comparison(f.forward_returns, PARAMS),
    "forest": lambda f: returns.forest(f.forward_returns, PARAMS),
    "grid": lambda f: returns.excess_grid(f.forward_returns),
    "left_out": lambda f: returns.leave_one_out(f.left_out),
    "equity": lambda f: backtest.equity(f.curves, f.curves.columns[0]),
    "drawdown": lambda f: backtest.drawdown(f.curves, f.curves.columns[0]),
    "random": lambda f: backtest.random_entries(f.benchmarks),
    "deflated": lambda f: backtest.deflated_sharpe(f.strategies),
    "windows": lambda f: robustness.window_grid(f.grid, PARAMS),
    "specifications": lambda f: robustness.specification_curve(f.specifications),
    "family": lambda f: robustness.family_null(f.family, f.null_max),
    "prequential": lambda f: robustness.prequential(f.forecasts),
}


def _clipped(chart: Chart) -> list[str]:
    """Texts of a drawn figure that stick out of it by more than a pixel."""
    from matplotlib.text import Text

    figure = chart.figure
    canvas = figure.canvas.get_renderer()
    wide, high = figure.canvas.get_width_height()
    unseen = {
        id(label)
        for one in figure.axes
        for axis in (one.xaxis, one.yaxis)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    }
    found = []
    for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible() and artist.get_text()):
        owner = text.axes
        if id(text) in unseen or (owner is not None and not owner.axison):
            continue
        box = text.get_window_extent(canvas)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > wide + 1 or box.y1 > high + 1:
            found.append(text.get_text())
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_whole_light_and_leaves_nothing_behind(name, frames):
    import matplotlib.pyplot as plt

    before, open_figures = dict(mpl.rcParams), plt.get_fignums()
    chart = FIGURES[name](frames)
    image = png_bytes(chart.figure)
    assert isinstance(chart, Chart)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == open_figures
    assert chart.alt.startswith(chart.title.rstrip(".")) and len(chart.alt) > len(chart.title) + 30
    assert "nan" not in f"{chart.title} {chart.alt}".lower().replace("finance", "").replace("nano", "")
    assert len(image) < HEAVIEST_PNG
    assert not _clipped(chart)


@pytest.mark.parametrize("name", ["price", "horizons", "forest"])
def test_same_frames_give_the_same_bytes(name, frames):
    assert png_bytes(FIGURES[name](frames).figure) == png_bytes(FIGURES[name](frames).figure)


def test_png_is_small_in_colours_and_free_of_metadata(frames):
    chart = FIGURES["rotation"](frames)
    picture = Image.open(io.BytesIO(png_bytes(chart.figure, colours=64)))
    wide, high = chart.figure.get_size_inches()
    assert picture.size == (round(wide * 192), round(high * 192))
    assert not picture.info or set(picture.info) <= {"transparency"}
    colours = picture.convert("RGB").getcolors(maxcolors=256)
    assert len(colours) <= 64
    assert max(colours)[1] == (255, 255, 255)


def test_png_keeps_the_colour_of_a_small_mark():
    with style.use_style():
        figure, one = style.new_figure()
        one.plot(np.random.default_rng(1).normal(size=4000), color=style.COLOURS["hash_rate"])
        one.plot([2000], [0], "o", color="#b0417f", markersize=8, zorder=9)
    picture = Image.open(io.BytesIO(png_bytes(figure))).convert("RGB")
    pixels = np.asarray(picture).reshape(-1, 3).astype(int)
    assert np.abs(pixels - [0xB0, 0x41, 0x7F]).sum(axis=1).min() <= 12


@pytest.mark.parametrize("colours", [1, 257])
def test_png_refuses_an_impossible_palette(colours):
    figure, _ = style.new_figure()
    with pytest.raises(ValueError, match="2 to 256"):
        png_bytes(figure, colours)


def test_watermark_is_written_once_and_seen(frames):
    chart = FIGURES["noise"](frames)
    clean = png_bytes(chart.figure)
    for _ in range(3):
        style.watermark(chart.figure)
    assert [text.get_text() for text in chart.figure.texts].count("SIMULATED") == 1
    assert png_bytes(chart.figure) != clean


def test_style_does_not_depend_on_the_callers_settings(frames):
    plain = png_bytes(FIGURES["noise"](frames).figure)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "figure.constrained_layout.use": False}):
        assert png_bytes(FIGURES["noise"](frames).figure) == plain


def test_price_title_counts_what_the_table_holds(frames):
    table = frames.episodes
    ended = table[~table["ongoing"]].dropna(subset=["price_start", "price_end"])
    rose = int((ended["price_end"] > ended["price_start"]).sum())
    title = FIGURES["price"](frames).title
    assert f"{len(table)} capitulations" in title
    assert f"rose during {rose} of the {len(ended)}" in title


def test_gap_title_counts_grades(frames):
    grades = frames.episodes["grade"].value_counts()
    title = FIGURES["gap"](frames).title
    assert f"Of {len(frames.episodes)} inversions" in title
    assert f"{grades.get('real', 0)} go deeper" in title and f"{grades.get('noise-like', 0)} are no deeper" in title


def test_ribbon_title_gives_side_and_length_of_the_present_state(frames):
    flag = frames.ribbon["in_capitulation"].to_numpy()
    days = next(i for i, value in enumerate(flag[::-1]) if value != flag[-1])
    title = FIGURES["ribbons"](frames).title
    assert ("below" in title) == bool(flag[-1])
    assert f"for {days} day" in title


def test_rotation_title_gives_p(frames):
    assert FIGURES["rotation"](frames).title.startswith("5.2 % of all rotations")


def test_paths_title_gives_medians_of_the_day(frames):
    own, any_day = (np.expm1(x) for x in (frames.paths.loc[90].median(), frames.base_paths.loc[90, "median"]))
    title = FIGURES["paths"](frames).title.replace("−", "-")
    assert f"{100 * own:+.0f} %, after the median day at {100 * any_day:+.0f} %" in title


def test_specification_title_gives_shares(frames):
    share = (frames.specifications["excess_log"] > 0).mean()
    assert FIGURES["specifications"](frames).title.startswith(
        f"{100 * share:.0f} % of {len(frames.specifications):,} ways"
    )


def test_prequential_title_never_calls_a_worse_forecast_better(frames):
    worse = frames.forecasts.assign(baseline=frames.forecasts["outcome"] + 0.01, forecast=9.0)
    better = frames.forecasts.assign(forecast=frames.forecasts["outcome"] + 0.01, baseline=9.0)
    assert "missed by no less" in robustness.prequential(worse).title
    assert "missed by less than" in robustness.prequential(better).title


def test_unknown_outcomes_are_said_not_drawn(frames):
    none_known = frames.event_returns.assign(simple_return=np.nan)
    assert "No event" in returns.returns_by_horizon(none_known, frames.base_returns, PARAMS).title
    no_events = frames.forward_returns.assign(n_events=0)
    assert "No definition" in returns.forest(no_events, PARAMS).title
    assert "No signal" in returns.event_paths(frames.paths * np.nan, frames.base_paths).title
    assert "No signal" in robustness.prequential(frames.forecasts.assign(outcome=np.nan)).title


def test_thin_data_give_a_whole_page(frames):
    short = frames.panel.iloc[:40]
    ribbon, none = ribbons(short), frames.episodes.iloc[:0]
    charts = [
        market.price_with_capitulations(short.assign(price_usd=np.nan), none),
        market.hash_rate_ribbons(short, ribbon, none),
        market.gap_with_noise(ribbon, none),
        market.coverage(short),
        episodes.definitions_timeline(none, short),
        episodes.falling_probability(frames.probability.iloc[:40] * np.nan, none),
        returns.excess_grid(frames.forward_returns.assign(excess_log=np.nan, p_rotation=np.nan)),
        robustness.specification_curve(frames.specifications.assign(excess_log=np.nan)),
        robustness.family_null(frames.family.assign(z=np.nan), np.array([])),
        robustness.window_grid(frames.grid.assign(excess_log=np.nan), PARAMS),
    ]
    assert all(len(png_bytes(chart.figure)) > 1000 and chart.title and chart.alt for chart in charts)


def test_no_episode_is_said():
    panel = pd.DataFrame({"price_usd": 100.0, "height": 1.0}, index=pd.date_range("2020-01-01", periods=200))
    columns = ["definition", "start", "end", "ongoing", "price_start", "price_end", "buy_date"]
    none = pd.DataFrame({name: pd.Series(dtype="datetime64[ns]") for name in columns})
    assert "never" in market.price_with_capitulations(panel, none).title


@given(st.lists(st.floats(0, 200), min_size=1, max_size=8), st.floats(1, 30))
def test_labels_are_moved_apart_in_order_and_stay_near(wanted, gap):
    values = np.sort(np.array(wanted))
    placed = axes._spread(values, gap)
    assert (np.diff(placed) >= gap * 0.9 - 1e-6).all()
    assert abs(placed.mean() - values.mean()) < 1e-6
    far_enough = (np.diff(values) >= gap).all()
    assert not far_enough or np.allclose(placed, values)


def _seen_by_deuteranopes(colour: str) -> np.ndarray:
    """Machado, Oliveira and Fernandes (2009), severity 1, in linear light."""
    from matplotlib.colors import to_rgb

    matrix = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    return np.clip(matrix @ np.array(to_rgb(colour)) ** 2.2, 0, 1) ** (1 / 2.2)


def test_anchors_are_told_apart_by_colour_and_by_shape():
    seen = [_seen_by_deuteranopes(colour) for colour in style.ANCHOR_COLOURS.values()]
    apart = [np.abs(a - b).sum() for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 0.4
    assert len(set(style.ANCHOR_MARKERS.values())) == len(ANCHORS)


def test_label_text_is_legible_on_white():
    from matplotlib.colors import to_rgb

    def luminance(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    used = [*style.ANCHOR_COLOURS.values(), style.COLOURS["fast"], style.COLOURS["slow"], style.COLOURS["capitulation"]]
    assert min(1.05 / (luminance(style.text_colour(colour)) + 0.05) for colour in used) >= 4.0


@pytest.mark.parametrize(("low", "high"), [(0.02, 0.5), (1, 7), (50, 900), (0.01, 100_000)])
def test_log_axis_has_some_ticks_and_says_that_it_is_one(low, high):
    with style.use_style():
        figure, one = style.new_figure()
        one.plot([0, 1], [low, high])
        axes.log_axis(one, "USD")
        figure.canvas.draw()
        inside = [tick for tick in one.get_yticks() if low <= tick <= high]
    assert one.get_ylabel() == "USD (log scale)"
    assert 2 <= len(inside) <= 9


def test_real_market_figures_are_whole(real_panel):
    ribbon = ribbons(real_panel)
    state = ribbon[["in_capitulation", "known"]].rename(columns={"in_capitulation": "in_state"})
    own = describe_episodes(real_panel, "hash_ribbons", state, PARAMS)
    for chart in (market.price_with_capitulations(real_panel, own), market.gap_with_noise(ribbon, own)):
        assert len(png_bytes(chart.figure)) < HEAVIEST_PNG
        assert not _clipped(chart)

"""Charts of the network: drawn whole, in words that follow the data, the same bytes each time, nothing left behind."""

import io

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.formatters import PNGFormatter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from capitulation import figures
from capitulation.figures import style
from capitulation.mining.difficulty import adjustments, halving_days
from capitulation.mining.economics import breakeven_usd_kwh, difficulty_regression, economics, fleet, read_rigs
from capitulation.mining.episodes import episodes
from capitulation.mining.hashrate import expected_noise_inversions, hash_rate_band, hash_ribbons
from capitulation.mining.rules import RULES

POWER = 0.07


def found(panel, *names):
    """Episodes of the ribbons, once more under each of `names`."""
    own = episodes(hash_ribbons(panel)["inverted"], panel)
    return pd.concat([own.assign(definition=name) for name in names], ignore_index=True) if names else own


def made_up(panel):
    """Three inputs whose figures are set here; missing where the panel knows no hash rate."""
    known, weeks = panel["hash_rate_ehs"].notna(), {"direction": "a leads b", "lag_weeks": range(1, 5), "response": 0.2}
    rising = pd.Series(np.linspace(0, 0.97, len(panel)), index=panel.index).where(known)
    alike = pd.DataFrame(0.25 if known.any() else np.nan, index=list(RULES), columns=list(RULES))
    return rising, alike, pd.DataFrame(weeks | {"low": [-1, 0.1, 0.1, 0.1], "high": 0.4})[: known.sum()]


CHARTS = {
    "coverage": figures.coverage,
    "price": lambda p: figures.price_with_capitulations(p, found(p)),
    "ribbons": lambda p: figures.hash_rate_ribbons(hash_ribbons(p), found(p), hash_rate_band(p)),
    "gap": lambda p: figures.gap_with_noise(hash_ribbons(p), found(p), halvings=halving_days(p)),
    "noise": lambda p: figures.noise_inversions(expected_noise_inversions(p, runs=100)),
    "falling": lambda p: figures.falling_probability(made_up(p)[0], found(p)),
    "timeline": lambda p: figures.definitions_timeline(found(p, "hash_ribbons", "my own rule of thumb"), p),
    "agreement": lambda p: figures.agreement_heatmap(made_up(p)[1]),
    "hashprice": lambda p: figures.hashprice(economics(p), halvings=halving_days(p)),
    "revenue": lambda p: figures.revenue(economics(p), halvings=halving_days(p)),
    "puell": lambda p: figures.puell(economics(p)),
    "cost": lambda p: figures.production_cost(p["price_usd"], fleet(p, POWER)),
    "water": lambda p: figures.share_under_water(fleet(p, POWER), POWER),
    "rigs": lambda p: figures.rig_breakeven(breakeven_usd_kwh(p, read_rigs()), POWER),
    "adjustments": lambda p: figures.adjustment_bars(adjustments(p)),
    "regression": lambda p: figures.difficulty_regression(p["price_usd"], difficulty_regression(p)),
    "projections": lambda p: figures.local_projections(made_up(p)[2]),
}


def words(figure):
    """Title and alt text, with ordinary spaces."""
    return tuple(text.replace("\n", " ").replace("\u00a0", " ") for text in (figure.get_suptitle(), figure.get_label()))


def assert_whole(figure):
    """Words without "nan", a light picture, and nothing drawn beyond the figure's edge."""
    title, alt = words(figure)
    assert type(figure) is Figure and alt.startswith(title) and len(alt) > len(title) + 30
    assert not {"nan", "NaT", "None"} & set(f"{title} {alt}".replace(",", " ").split())
    assert len(style.png_bytes(figure)) < 90_000
    box, (wide, high) = figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()), figure.get_size_inches()
    assert min(box.x0, box.y0, wide - box.x1, high - box.y1) > -0.02


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_whole_described_and_leaves_nothing_behind(simulated_panel, name):
    before, figure = dict(mpl.rcParams), CHARTS[name](simulated_panel)
    assert dict(mpl.rcParams) == before
    assert_whole(figure)
    assert all((axes.get_yscale() == "log") == ("log scale" in axes.get_ylabel()) for axes in figure.axes)


@pytest.mark.parametrize("name", CHARTS)
def test_unknown_is_said_not_drawn(simulated_panel, name):
    figure = CHARTS[name](simulated_panel * np.nan)
    assert_whole(figure)
    assert not figure.axes[0].axison or words(figure)[0].startswith(("0 of 8 columns", "0 inversions"))


def test_short_frames_give_whole_figures(simulated_panel):
    none = found(simulated_panel, "hash_ribbons").iloc[:0]
    assert_whole(figures.coverage(simulated_panel.iloc[:0]))
    assert_whole(figures.agreement_heatmap(pd.DataFrame()))
    assert_whole(figures.price_with_capitulations(simulated_panel, none))
    assert_whole(figures.gap_with_noise(hash_ribbons(simulated_panel), none))
    for name in CHARTS:
        assert_whole(CHARTS[name](simulated_panel.iloc[:90]))


def test_words_hold_figures_computed_here(simulated_panel):
    panel, own, last = simulated_panel, found(simulated_panel), fleet(simulated_panel, POWER).iloc[-1]
    price, h, earned = panel["price_usd"], panel["hash_rate_ehs"], panel["revenue_usd"]
    ended = own.dropna(subset=["end", "price_start", "price_end"])
    below = (h.rolling(30).mean() < h.rolling(60).mean()).to_numpy()
    run = len(below) - 1 - np.flatnonzero(below != below[-1])[-1]
    coins = (panel["issuance_btc"] * price).dropna()
    paid, change = breakeven_usd_kwh(panel, read_rigs()).iloc[-1].dropna(), adjustments(panel)["change"].dropna()
    ratio = price.iloc[-1] / difficulty_regression(panel)["regression_price_usd"].iloc[-1]
    expected = {
        "coverage": f"hash_rate_ehs {h.isna().sum():,}",
        "price": f"rose during {(ended.price_end > ended.price_start).sum()} of the {len(ended)} that ended",
        "ribbons": f"{'below' if below[-1] else 'above'} the slow one, for {run} day",
        "gap": f"Of {len(own)} inversions, {(own['depth_z'] < -3).sum()} go deeper",
        "noise": f"{expected_noise_inversions(panel, runs=100)['expected']:.1f} expected",
        "falling": "97 % on the last",
        "timeline": f"my own rule of thumb {len(own)} (",
        "agreement": f"{len(RULES) * (len(RULES) - 1) // 2} pairs of definitions; the closest are Hash Ribbons and",
        "hashprice": f"A PH/s earns {(earned / h).iloc[-1] / 1000:,.3g}",
        "revenue": f"{earned.iloc[-7:].mean() / 1e6:,.3g} million USD",
        "puell": f"Puell multiple is {(coins / coins.rolling(365).mean()).iloc[-1]:.2f}",
        "cost": f"{price.iloc[-1]:,.0f} USD, power cost",
        "water": f"{round(last.share_under_water * last.n_recent)} of {last.n_recent:.0f} recent rig models lose",
        "rigs": f"{(paid >= POWER).sum()} of {len(paid)} rig models",
        "adjustments": f"{(change < 0).sum()} of {len(change)} difficulty adjustments were cuts",
        "regression": f"Price is {100 * abs(ratio - 1):.0f} % {'above' if ratio > 1 else 'below'}",
        "projections": "of “a leads b” 3 of 4",
    }
    alt = {name: words(draw(panel))[1] for name, draw in CHARTS.items()}
    assert [name for name in CHARTS if expected[name] not in alt[name]] == []


def test_titles_follow_small_tables_by_hand():
    days = pd.date_range("2020-01-01", periods=10)
    modelled = pd.DataFrame({"production_cost_usd": 50.0, "n_recent": [1] * 2 + [5] * 8}, index=days)
    cost = figures.production_cost(pd.Series([100.0, 100, 40, 40, *[75] * 6], index=days), modelled)
    assert "1.50 times" in words(cost)[0] and "25.0 % of days since 2020, the last 2020-01-04" in words(cost)[0]
    table = pd.DataFrame({"change": [0.1, -0.1, -0.1, -0.1, 0.2, -0.1, 3.0], "negative_streak": [0, 1, 2, 3, 0, 1, 0]})
    bars = words(figures.adjustment_bars(table.assign(date=days[0] + pd.to_timedelta(14 * table.index, unit="D"))))[0]
    assert bars == "4 of 7 difficulty adjustments were cuts; the longest run of them, 3, ended on 2020-02-12"
    puell = figures.puell(pd.DataFrame({"puell_multiple": [np.nan] * 2 + [0.4] * 2 + [1.5] * 6}, index=days))
    assert "below 0.5 on 25 % of days, the last time on 2020-01-04" in words(puell)[0]
    years = pd.date_range("2020-01-01", "2023-01-01")
    rigs = {"old": (2020, 1.0), "better": (2020, 2.0), "worse": (2021, 1.5), "best": (2022, 4.0)}
    paid = {name: np.where(years.year >= year, level, np.nan) for name, (year, level) in rigs.items()}
    drawn = figures.rig_breakeven(pd.DataFrame(paid, index=years), 0.5)
    assert {text.get_text() for text in drawn.axes[0].texts} == {"better", "best", "0.5 assumed"}


def test_readers_settings_change_nothing_and_bytes_repeat(simulated_panel):
    figure = CHARTS["coverage"](simulated_panel)
    plain = style.png_bytes(figure)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "figure.constrained_layout.use": False}):
        assert style.png_bytes(CHARTS["coverage"](simulated_panel)) == plain
    assert PNGFormatter()(figure) == (plain, {"width": 730, "alt": figure.get_label()})  # as the last line of a cell
    assert style.png_bytes(style.watermark(style.watermark(figure))) != plain
    assert [text.get_text() for text in figure.texts].count("SIMULATED") == 1
    picture = Image.open(io.BytesIO(style.png_bytes(figure, colours=64)))
    assert picture.size == tuple(round(192 * inches) for inches in figure.get_size_inches()) and not picture.info
    assert len(picture.convert("RGB").getcolors(256)) <= 64


@given(st.lists(st.floats(0, 100), min_size=1, max_size=7))
def test_labels_are_moved_apart_and_keep_their_order(values):
    figure, axes = style.new_figure(height=6)
    axes.set_ylim(0, 100)
    style.label_ends(axes, [(value, str(i), "#000000") for i, value in enumerate(values)], gap=10)
    at = [axes.transData.transform((0, text.xy[1]))[1] * 72 / figure.dpi + text.xyann[1] for text in axes.texts]
    assert [values[int(text.get_text())] for text in axes.texts] == sorted(values)
    assert (np.diff(at) >= 9).all()


def test_anchors_are_told_apart_without_red_and_green_and_by_shape():
    # Machado, Oliveira and Fernandes (2009), deuteranopia of severity 1, in linear light.
    matrix = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    seen = [np.clip(matrix @ np.array(to_rgb(c)) ** 2.2, 0, 1) ** (1 / 2.2) for c in style.ANCHOR_COLOURS.values()]
    assert min(np.abs(a - b).sum() for i, a in enumerate(seen) for b in seen[:i]) > 0.4
    assert len(set(style.ANCHOR_MARKERS.values())) == len(style.ANCHOR_MARKERS) == 4

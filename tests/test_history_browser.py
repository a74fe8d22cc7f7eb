"""history.html in a real browser without a network: mouse, keyboard and finger, and what is left without a script."""

import html

import pandas as pd
import pytest
from bokeh.embed import json_item

import capitulation as cap
import test_browser
from capitulation.data.market import Market, about
from capitulation.figures.history import history
from capitulation.report.explore import chart_parts
from capitulation.report.page import Page
from capitulation.report.render import fill

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
browser = test_browser.browser
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = {"name": "capitulations", "alt": "The chart, still", "caption": "", "narrow": {}, "data": PIXEL}
PICTURE |= {"width": 1, "height": 1}
X = "Bokeh.documents[0].get_model_by_name('x')"
SHOWN = f"['start', 'end'].map(edge => {X}[edge])"
PRICES = "['start', 'end'].map(edge => Bokeh.documents[0].roots()[0].children[0].y_range[edge])"
SHADED = "Bokeh.documents[0].get_model_by_name('shaded').indices.length"
DAY = 86_400_000


@pytest.fixture(scope="module")
def market(simulated_panel):
    return Market(simulated_panel, "simulated", True)


@pytest.fixture(scope="module")
def chart(simulated_panel):
    found = cap.apply_rules(simulated_panel).episodes
    return json_item(history(simulated_panel, cap.hash_ribbons(simulated_panel), found, first="hash_ribbons"))


@pytest.fixture(scope="module")
def file(market, chart, tmp_path_factory):
    facts = about(market) | {"last_day": f"{market.panel.index[-1]:%Y-%m-%d}"}
    path = tmp_path_factory.mktemp("report") / "history.html"
    path.write_text(fill("history.html.j2", run="test", market=facts, figure=PICTURE, **chart_parts(chart)))
    return path


@pytest.fixture
def opened(browser, file):
    """A function that opens the page with the network off; at the end nothing was asked for and nothing went wrong."""
    seen, contexts = [], []

    def open_page(drawn=True, **options):
        contexts.append(browser.new_context(offline=True, **({"viewport": test_browser.DESK} | options)))
        page = contexts[-1].new_page()
        page.on("request", lambda request: request.url.startswith(("data:", file.as_uri())) or seen.append(request.url))
        page.on("console", lambda line: seen.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.goto(file.as_uri())
        if drawn:
            page.wait_for_function("document.querySelector('.spans button[aria-pressed=true]')")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert seen == []


def test_it_opens_on_the_last_two_years_and_buttons_and_wheel_change_them(opened, file, simulated_panel):
    assert file.stat().st_size < 1_800_000
    page, last = opened(), (simulated_panel.index[-1] + pd.Timedelta(days=1)).timestamp() * 1000
    start, end = page.evaluate(SHOWN)
    assert end == last and 729 <= (end - start) / DAY <= 732
    for button in page.locator(".spans").first.get_by_role("button").all():
        button.click()
        assert page.locator(".spans button[aria-pressed=true]").all_inner_texts() == [button.inner_text()]
        first, after = pd.to_datetime(page.evaluate(SHOWN), unit="ms")
        values, (low, high) = (
            simulated_panel.loc[first : after - pd.Timedelta(days=1), "price_usd"],
            page.evaluate(PRICES),
        )
        assert low < values.min() and values.max() < high, "the price of all days that are shown fits"
        assert high / low < 1.1 * (values.max() / values.min()) ** 1.2, "and fills its panel"
    box = page.locator("#chart").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.wheel(0, -400)
    page.wait_for_function("document.querySelector('.spans button[aria-pressed=true]') === null")
    start, end = page.evaluate(SHOWN)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 200, box["y"] + 100, steps=4)
    page.mouse.up()
    moved = page.evaluate(SHOWN)
    assert moved[0] < start and moved[1] - moved[0] == pytest.approx(end - start)


def test_the_mouse_reads_a_day_with_its_values_and_its_episode(opened, simulated_panel):
    page = opened()
    found = cap.apply_rules(simulated_panel).episodes.query("definition == 'hash_ribbons' and days > 60").iloc[0]
    day = found["start"] + pd.Timedelta(days=30)
    view = f"moment => {X}.setv({{start: moment - 400 * {DAY}, end: moment + 400 * {DAY}}})"
    page.evaluate(view, (day + pd.Timedelta(hours=12)).timestamp() * 1000)
    left, right = page.evaluate("['left', 'right'].map(edge => Bokeh.index.roots[0].child_views[0].frame.bbox[edge])")
    box = page.locator("#chart").bounding_box()
    for y in (100, 300, 450):  # in each of the panels
        page.mouse.move(box["x"] + (left + right) / 2, box["y"] + y)  # 0.7 days a pixel
        page.wait_for_function("text => document.querySelector('.read').innerText.startsWith(text)", arg=f"{day:%Y-%m}")
        line = page.locator(".read").inner_text()
        read = pd.Timestamp(line[:10])
        assert abs(read - day) <= pd.Timedelta(days=1)
        price = float(line.split("BTC ")[1].split(" USD")[0].replace(",", ""))
        assert price == pytest.approx(simulated_panel["price_usd"][read], rel=1e-3)
        assert f"{found['start']:%Y-%m-%d} to {found['end']:%Y-%m-%d}" in line and "standard errors" in line


def test_the_rule_and_real_ones_only_choose_what_is_shaded(opened, simulated_panel):
    page, found = opened(), cap.apply_rules(simulated_panel).episodes
    counted = found["definition"].map(lambda name: cap.RULES[name].words).value_counts()
    rule, real = page.get_by_label("Capitulations by"), page.get_by_label("deeper than block luck")
    assert rule.locator("option").count() == len(counted)
    assert rule.input_value() == "Hash Ribbons" and page.evaluate(SHADED) == counted["Hash Ribbons"]
    rule.select_option("Puell multiple")
    assert page.evaluate(SHADED) == counted["Puell multiple"]
    real.check()
    assert page.evaluate(SHADED) == found.query("definition == 'puell_multiple' and grade == 'real'").shape[0]


def test_without_an_episode_there_is_no_rule_to_choose(opened, file, market):
    whole, none = file.read_text(), cap.apply_rules(market.panel).episodes.iloc[:0]
    bare = chart_parts(json_item(history(market.panel, cap.hash_ribbons(market.panel), none)))
    facts = about(market) | {"last_day": f"{market.panel.index[-1]:%Y-%m-%d}"}
    try:
        file.write_text(fill("history.html.j2", run="test", market=facts, figure=PICTURE, **bare))
        page = opened()
        assert page.locator("#rule").count() == 0 and page.get_by_role("button", name="all", exact=True).is_visible()
        page.locator("#chart").press("Shift+ArrowLeft")
        assert "BTC" in page.locator(".read").inner_text()
    finally:
        file.write_text(whole)


def test_the_keyboard_moves_zooms_and_reads(opened):
    page = opened()
    page.locator("#chart").focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid" or page.keyboard.press(
        "Tab"
    )
    start, end = page.evaluate(SHOWN)

    def pressed(key):
        page.keyboard.press(key)
        return page.evaluate(SHOWN)

    assert pressed("ArrowRight") == [start, end], "there is nothing after the last day"
    moved = pressed("ArrowLeft")
    assert moved[0] < start and moved[1] - moved[0] == end - start
    near = pressed("+")
    assert near[1] - near[0] == pytest.approx((end - start) / 2)
    far = pressed("-")
    assert far == pytest.approx(moved)
    assert pressed("Home")[0] == page.evaluate(f"{X}.bounds[0]")
    assert pressed("End") == [start, end]
    day = page.locator(".read strong").inner_text()
    page.keyboard.press("Shift+ArrowLeft")
    assert pd.Timestamp(page.locator(".read strong").inner_text()) == pd.Timestamp(day) - pd.Timedelta(days=1)
    for _ in range(12):
        page.keyboard.press("+")
    assert pressed("+")[1] - page.evaluate(SHOWN)[0] == 30 * DAY


def test_a_finger_reads_and_a_phone_scrolls_on(opened):
    page = opened(viewport=test_browser.PHONE, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    before = page.locator(".read").inner_text()
    page.locator("#chart").tap(position={"x": 180, "y": 120})
    page.wait_for_function("text => document.querySelector('.read').innerText !== text", arg=before)
    touch = "getComputedStyle(Bokeh.index.roots[0].child_views[0].canvas_view.events_el).touchAction"
    assert page.evaluate(touch) == "pan-y"


def test_print_and_no_script_show_the_picture_instead(opened):
    page = opened()
    still, chart = page.get_by_alt_text("The chart, still"), page.locator("#chart")
    assert chart.is_visible() and not still.is_visible()
    page.emulate_media(media="print")
    assert still.is_visible() and not chart.is_visible()
    bare = opened(drawn=False, java_script_enabled=False)
    assert bare.get_by_alt_text("The chart, still").is_visible() and not bare.locator("#chart").is_visible()


def test_nothing_but_its_own_scripts_may_run_on_it(opened, file):
    policy = html.unescape(file.read_text().split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0])
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    assert rules.keys() == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    assert rules["default-src"] == ["'none'"] and rules["img-src"] == ["data:"]
    assert len(rules["script-src"]) == 3 and all(one.startswith("'sha256-") for one in rules["script-src"])
    assert opened().evaluate("Boolean(document.querySelector('.banner'))")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_accessibility_violation(opened, scheme):
    if not test_browser.AXE.is_file():
        test_browser.missing("axe-core (npm install in tests/browser)")
    page = opened(color_scheme=scheme, bypass_csp=True)
    page.evaluate(test_browser.AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
    serious = [item for item in found if item["impact"] in ("serious", "critical")]
    assert [(item["id"], item["nodes"][0]["html"][:120]) for item in serious] == []


def test_in_a_notebook_the_same_page_lives_in_a_frame(browser, market, chart, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data["text/html"]))
    Page(market, {}, {}, {}, {}).history(chart)
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>x</title>{shown[0]}", encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "notebook.html").as_uri())
    frame = page.frame_locator("iframe")
    frame.get_by_role("button", name="last 5 years").click()
    frame.locator("button[aria-pressed=true]").get_by_text("last 5 years").wait_for()
    page.close()

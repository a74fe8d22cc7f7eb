(function () {
  "use strict";
  var DAY = 864e5;
  var main = document.getElementById("main");
  var chart = document.getElementById("chart");
  var rule = document.getElementById("rule");
  var real = document.getElementById("real");
  var key = document.querySelector(".key");
  var line = document.querySelector(".read");

  function said(name, value, unit) {
    var digits = value < 1000 ? { minimumSignificantDigits: 4, maximumSignificantDigits: 4 } : { maximumFractionDigits: 0 };
    if (unit === " %") { digits = { minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "exceptZero" }; }
    return name + " " + (isFinite(value) ? value.toLocaleString("en", digits).replace("-", "−") + unit : "not known");
  }

  function explore(layout) {
    var find = function (name) { return layout.document.get_model_by_name(name); };
    var days = find("days").data, told = find("episodes").data, shaded = find("shaded"), x = find("x");
    var plots = layout.children;
    var readers = plots.map(function (plot) { return plot.select_one("reader"); });
    var first = x.bounds[0], last = x.bounds[1];
    var read = days.date.length - 1;

    function show(start, end) {  // keeps the span inside what is known
      var wide = Math.min(Math.max(end - start, x.min_interval), last - first);
      start = Math.min(Math.max(start, first), last - wide);
      x.setv({ start: start, end: start + wide });
    }
    function zoom(by) {
      var middle = (x.start + x.end) / 2, half = (x.end - x.start) / 2 * by;
      show(middle - half, middle + half);
    }
    function tell(at) {
      read = Math.min(Math.max(at, 0), days.date.length - 1);
      var moment = days.date[read];
      var parts = [
        said("BTC", days.price[read], " USD"),
        said("fast mean of hash rate", days.fast[read], " EH/s"),
        said("slow mean", days.slow[read], " EH/s"),
        said("gap", 100 * days.gap[read], " %")
      ];
      shaded.indices.forEach(function (i) {
        if (told.start[i] <= moment && moment < told.stop[i]) { parts.push(told.words[i]); }
      });
      line.replaceChildren(document.createElement("strong"), " · " + parts.join(" · "));
      line.firstChild.textContent = new Date(moment).toISOString().slice(0, 10);
      readers.forEach(function (reader) { reader.location = moment; });
    }
    function choose() {
      shaded.indices = told.rule.map(function (_, i) { return i; }).filter(function (i) {
        return told.rule[i] === rule.value && (told.real[i] || !real.checked);
      });
      tell(read);
    }

    Array.from(new Set(told.rule)).forEach(function (name) { rule.add(new Option(name)); });
    rule.addEventListener("change", choose);
    real.addEventListener("change", choose);
    if (!rule.length) { rule.closest(".choices").remove(); }
    var spans = layout.tags.map(function (span) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = span[0];
      button.addEventListener("click", function () { show(span[1], span[2]); });
      return document.querySelector(".spans").appendChild(button);
    });
    function press() {
      spans.forEach(function (button, i) {
        button.setAttribute("aria-pressed", String(x.start === layout.tags[i][1] && x.end === layout.tags[i][2]));
      });
    }
    function fit() {  // each panel's values to the days that are shown
      var from = Math.max(Math.floor((x.start - days.date[0]) / DAY), 0), to = Math.ceil((x.end - days.date[0]) / DAY) + 1;
      plots.forEach(function (plot) {
        var low = Infinity, high = -Infinity, log = plot.y_scale.type === "LogScale";
        plot.renderers.forEach(function (drawn) {
          [drawn.glyph.y, drawn.glyph.y1, drawn.glyph.y2].forEach(function (of) {
            (of ? days[of.field].slice(from, to) : []).forEach(function (value) {
              if (isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
            });
          });
        });
        if (low > high) { return; }
        var more = log ? Math.max(Math.pow(high / low, 0.06), 1.02) : 0.06 * (high - low);
        plot.y_range.setv(log ? { start: low / more, end: high * more } : { start: low - more, end: high + more });
      });
    }
    document.querySelectorAll("[data-zoom]").forEach(function (button) {
      button.addEventListener("click", function () { zoom(Number(button.dataset.zoom)); });
    });
    chart.addEventListener("keydown", function (event) {
      var wide = x.end - x.start, step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (event.ctrlKey || event.altKey || event.metaKey) { return; }
      if (step && event.shiftKey) { tell(read + step); }
      else if (step) { show(x.start + step * wide / 8, x.end + step * wide / 8); }
      else if (event.key === "+" || event.key === "=") { zoom(0.5); }
      else if (event.key === "-" || event.key === "_") { zoom(2); }
      else if (event.key === "Home") { show(first, first + wide); }
      else if (event.key === "End") { show(last - wide, last); }
      else { return; }
      event.preventDefault();
    });
    function point(event) { tell(Math.floor((event.x - days.date[0]) / DAY)); }
    plots.forEach(function (plot) {
      plot.on_event("mousemove", point);
      plot.on_event("tap", point);
    });
    var named = new Set();
    plots.forEach(function (plot) {
      plot.renderers.forEach(function (drawn) {
        if (!drawn.name || named.has(drawn.name)) { return; }
        named.add(drawn.name);
        var entry = key.appendChild(document.createElement("li")), area = drawn.glyph.fill_color;
        entry.textContent = drawn.name;
        entry.className = area ? "area" : "line";
        entry.style.setProperty("--colour", (area || drawn.glyph.line_color).value);
      });
    });
    plots[plots.length - 1].below[0].ticker.desired_num_ticks = chart.clientWidth < 600 ? 4 : 8;
    function moved() { press(); fit(); }
    x.change.connect(moved);
    moved();
    tell(read);
  }

  var item = JSON.parse(document.getElementById("model").textContent);
  main.classList.remove("no-script");
  Bokeh.embed.embed_item(item, "chart").then(function (views) {
    var layout = views.roots[0];
    layout.child_views.forEach(function (plot) {  // one stop of the keyboard; a finger that moves up or down scrolls the page
      plot.canvas_view.events_el.tabIndex = -1;
      plot.canvas_view.touch_action.replace(".bk-events { touch-action: pan-y; }");
    });
    explore(layout.model);
  });
})();

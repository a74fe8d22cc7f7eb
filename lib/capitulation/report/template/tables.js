(function () {
  "use strict";
  function element(name, text, parent) {
    var made = document.createElement(name);
    made.textContent = text;
    parent.appendChild(made);
    return made;
  }
  function key(row, column) {
    var cell = row.cells[column];
    var raw = cell.getAttribute("data-value");
    return raw === null ? cell.textContent.trim() : Number(raw);
  }
  function empty(value) { return value === "" || value === "–"; }
  function order(a, b, down) {
    if (empty(a) || empty(b)) { return empty(a) - empty(b); }
    var result = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    return down ? -result : result;
  }
  function sort(table, column, header) {
    var down = header.getAttribute("aria-sort") === "ascending";
    table.querySelectorAll("th[aria-sort]").forEach(function (other) { other.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    var body = table.tBodies[0];
    Array.from(body.rows)
      .sort(function (a, b) { return order(key(a, column), key(b, column), down); })
      .forEach(function (row) { body.appendChild(row); });
  }
  function addSorters(table) {
    Array.from(table.tHead.rows[0].cells).forEach(function (header, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sorter";
      while (header.firstChild) { button.appendChild(header.firstChild); }
      header.appendChild(button);
      button.addEventListener("click", function () { sort(table, column, header); });
    });
  }
  function addFilters(table, tools) {
    var heads = Array.from(table.tHead.rows[0].cells), rows = Array.from(table.tBodies[0].rows);
    var count, chosen = (table.getAttribute("data-filter") || "").split(" ").map(function (name) {
      var column = heads.findIndex(function (head) { return head.getAttribute("data-column") === name; });
      if (column < 0) { return null; }
      var label = element("label", heads[column].textContent.trim() + " ", tools);
      var select = element("select", "", label);
      element("option", "all", select).value = "";
      var seen = new Set(rows.map(function (row) { return row.cells[column].textContent.trim(); }));
      seen.delete("");
      seen.forEach(function (text) { element("option", text, select).value = text; });
      select.addEventListener("change", show);
      return { column: column, select: select };
    }).filter(Boolean);
    function show() {
      var left = rows.filter(function (row) {
        row.hidden = chosen.some(function (one) {
          return one.select.value && row.cells[one.column].textContent.trim() !== one.select.value;
        });
        return !row.hidden;
      });
      count.textContent = left.length + " of " + rows.length + " rows";
    }
    if (chosen.length) {
      count = element("span", "", tools);
      count.setAttribute("role", "status");
      show();
    }
  }
  function asText(table) {
    function cell(one) {
      var unit = one.querySelector(".unit");
      var text = one.getAttribute("data-value") || one.textContent;
      if (unit) { text = text.replace(unit.textContent, "(" + unit.textContent + ")"); }
      text = text.replace(/\s+/g, " ").trim();
      if (/^[=+@-]/.test(text) && isNaN(Number(text))) { text = "'" + text; }
      if (text.indexOf('"') >= 0) { return '"' + text.replace(/"/g, '""') + '"'; }  // else a spreadsheet takes it for a quote
      return text === "–" ? "" : text;
    }
    return Array.from(table.rows).filter(function (row) { return !row.hidden; }).map(function (row) {
      return Array.from(row.cells).map(cell).join("\t");
    }).join("\n");
  }
  function copyOldWay(text) {
    var area = element("textarea", "", document.body);
    area.value = text;
    area.select();
    var done = document.execCommand("copy");
    area.remove();
    return done ? Promise.resolve() : Promise.reject();
  }
  function copy(text) {
    if (!navigator.clipboard) { return copyOldWay(text); }
    return navigator.clipboard.writeText(text).catch(function () { return copyOldWay(text); });
  }
  function addCopy(table, tools) {
    var button = element("button", "Copy table", tools);
    var said = element("span", "", tools);
    button.type = "button";
    said.setAttribute("role", "status");
    button.addEventListener("click", function () {
      copy(asText(table)).then(function () { said.textContent = "Copied."; }, function () { said.textContent = "Not allowed here."; })
        .then(function () {
          button.focus();
          window.setTimeout(function () { said.textContent = ""; }, 3000);
        });
    });
  }
  document.querySelectorAll("table.data:not(.plain)").forEach(function (table) {
    if (!table.tHead || !table.tBodies.length) { return; }
    if (table.tBodies[0].rows.length > 2) { addSorters(table); }
    var scroller = table.closest(".table-scroll");
    if (!scroller) { return; }
    var tools = document.createElement("div");
    tools.className = "tools";
    addFilters(table, tools);
    addCopy(table, tools);
    scroller.insertAdjacentElement(table.hasAttribute("data-filter") ? "beforebegin" : "afterend", tools);
  });
})();

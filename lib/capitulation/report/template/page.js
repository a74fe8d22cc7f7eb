(function () {
  "use strict";
  var button = document.querySelector("[data-switch=code]");
  var folds = document.querySelectorAll("details.code");
  if (button && folds.length) {
    button.hidden = false;
    document.body.classList.add("quiet");
    button.addEventListener("click", function () {
      var open = button.getAttribute("aria-pressed") !== "true";
      document.body.classList.toggle("quiet", !open);
      folds.forEach(function (fold) { fold.open = open; });
      button.setAttribute("aria-pressed", String(open));
      button.textContent = open ? "Hide code" : "Show code";
    });
  }
  var links = Array.from(document.querySelectorAll(".toc a"));
  if (links.length && "IntersectionObserver" in window) {
    var byId = {};
    links.forEach(function (link) { byId[decodeURIComponent(link.hash.slice(1))] = link; });
    var watcher = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (!entry.isIntersecting) { return; }
        links.forEach(function (link) { link.removeAttribute("aria-current"); });
        byId[entry.target.id].setAttribute("aria-current", "location");
      });
    }, { rootMargin: "0px 0px -75% 0px" });
    Object.keys(byId).forEach(function (id) {
      var target = document.getElementById(id);
      if (target) { watcher.observe(target); }
    });
    if (window.matchMedia("(max-width: 68rem)").matches) {
      document.querySelectorAll(".toc details").forEach(function (fold) { fold.open = false; });
    }
  }
})();

"use strict";
(function () {
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  // Without a mouse, a drag has to scroll the page, and buttons would cover the legend.
  const mouse = window.matchMedia("(hover: hover)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    // Its default offers to send the figure to a server.
    showSendToCloud: false,
    plotlyServerURL: "",
    displayModeBar: mouse ? "hover" : false,
    modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
  };
  // Text and lines of an SVG can be edited for a paper; null: as large as on the screen.
  function saved(place) {
    const name = document.title.split(":")[0] + " " + place.getAttribute("aria-label");
    const plain = name.normalize("NFKD").replace(/[^A-Za-z0-9_+-]+/g, "-").slice(0, 100);
    return { format: "svg", filename: plain.replace(/^-|-$/g, ""), width: null, height: null };
  }
  const drawn = new Set();
  let printing = false;

  // Parsing plotly takes a second or more: the page is there to be read before.
  function load() {
    const source = document.getElementById("plotly");
    if (!source) return;
    const script = document.createElement("script");
    script.textContent = source.textContent;
    source.remove();
    document.head.appendChild(script);
  }

  function draw(place) {
    load();
    const spec = JSON.parse(document.getElementById("spec-" + place.dataset.spec).textContent);
    const theme = dark.matches && !printing ? "dark" : "light";
    const layout = Object.assign({ autosize: true }, spec.layout, { template: templates[theme] });
    if (!mouse && !layout.scene) layout.dragmode = false;
    const axis = layout.xaxis;
    if (axis && axis.tickvals && place.clientWidth < 480 && axis.tickvals.length > 14) {
      // Fewer labels where they would overlap; every point still says its own when touched.
      const every = Math.ceil(axis.tickvals.length / 14);
      const some = function (_, i) { return i % every === 0; };
      layout.xaxis = Object.assign({}, axis, {
        tickvals: axis.tickvals.filter(some),
        ticktext: axis.ticktext.filter(some),
      });
    }
    drawn.add(place);
    const own = Object.assign({ toImageButtonOptions: saved(place) }, config);
    return Plotly.react(place, spec.data, layout, own);
  }

  const places = Array.from(document.querySelectorAll(".plot"));
  // Figures are drawn when the reader comes near them: a large campaign has a hundred.
  function watch() {
    load();
    if ("IntersectionObserver" in window) {
      const observer = new IntersectionObserver(function (entries) {
        for (const entry of entries) {
          if (entry.isIntersecting) {
            observer.unobserve(entry.target);
            if (!drawn.has(entry.target)) draw(entry.target);
          }
        }
      }, { rootMargin: "900px" });
      places.forEach(function (place) { observer.observe(place); });
    } else {
      places.forEach(draw);
    }
  }
  // After the first picture of the page, which is on the screen by the second frame.
  window.addEventListener("load", function () {
    let begun = false;
    const begin = function () {
      if (!begun) watch();
      begun = true;
    };
    requestAnimationFrame(function () {
      requestAnimationFrame(function () { setTimeout(begin, 20); });
    });
    setTimeout(begin, 500);  // no frame comes in a tab that nobody sees
  });

  const chooser = document.getElementById("choose-structure");
  if (chooser) {
    const place = document.getElementById("structure-view");
    chooser.addEventListener("change", function () {
      place.dataset.spec = chooser.value;
      place.setAttribute("aria-label", chooser.selectedOptions[0].dataset.label);
      draw(place);
    });
  }

  const copy = document.getElementById("copy-methods");
  if (copy) {
    const text = document.getElementById("methods-text");
    const said = document.getElementById("copied");
    copy.addEventListener("click", function () {
      // Pages opened from disk may not use the clipboard's own interface everywhere.
      const range = document.createRange();
      range.selectNodeContents(text);
      const selection = window.getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      said.textContent = document.execCommand("copy") ? "Copied." : "Selected: press Ctrl+C.";
    });
  }

  dark.addEventListener("change", function () { drawn.forEach(draw); });

  // On paper: light colours, one column, a width that fits A4 and Letter.
  window.addEventListener("beforeprint", function () {
    printing = true;
    places.forEach(function (place) { place.style.width = "660px"; draw(place); });
  });
  window.addEventListener("afterprint", function () {
    printing = false;
    places.forEach(function (place) { place.style.width = ""; draw(place); });
  });
})();

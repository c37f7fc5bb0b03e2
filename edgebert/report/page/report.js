"use strict";
(() => {
  const root = document.documentElement;
  const KEPT = "edgebert-theme";
  const NARROW = 560;
  root.classList.add("js");

  // A browser may forbid storage to a file; the page then follows the system until the reader chooses.
  const stored = () => { try { return localStorage.getItem(KEPT); } catch { return null; } };
  const store = (theme) => { try { localStorage.setItem(KEPT, theme); } catch { /* not kept */ } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
  const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

  let figures = {};
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const COLOURS = new Set(["color", "fgcolor", "bgcolor", "fillcolor"]);

  // Figures name their colours, so that both themes draw the same figure.
  function coloured(value, key) {
    if (Array.isArray(value)) return value.map((item) => coloured(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item, name)]));
    }
    return typeof value === "string" && COLOURS.has(key) && value.startsWith("--") ? colour(value) : value;
  }

  function withTheme(given, width) {
    const narrow = width < NARROW;
    const ink = colour("--ink"), soft = colour("--soft"), line = colour("--line"), surface = colour("--surface");
    const axis = {
      gridcolor: line, linecolor: soft, tickcolor: line, zeroline: false, automargin: true, ticks: "outside", ticklen: 4,
      exponentformat: "none", nticks: narrow ? 5 : 10, title: { standoff: 10 }, tickfont: { color: soft },
    };
    const layout = {
      autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: "kept",
      font: { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13, color: ink },
      margin: { l: 8, r: 12, t: 12, b: 8 },
      hoverlabel: { bgcolor: surface, bordercolor: soft, align: "left", font: { color: ink, size: 13 }, namelength: -1 },
      dragmode: narrow ? false : "zoom",
      ...given,
    };
    for (const name of ["xaxis", "yaxis"]) {
      const own = given[name] ?? {};
      layout[name] = { ...axis, ...own, title: { ...axis.title, ...own.title } };
      if (own.tickvals) delete layout[name].nticks;
    }
    const legend = { orientation: "h", x: 0, y: 1.02, xanchor: "left", yanchor: "bottom", font: { color: ink } };
    layout.legend = { ...legend, ...given.legend };
    return layout;
  }

  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };

  function draw(plot) {
    const figure = coloured(figures[plot.id]);
    const legends = figure.data.filter((trace) => trace.showlegend !== false).length;
    const rows = Math.ceil(legends / (plot.clientWidth < NARROW ? 1 : 3));
    const extra = 17 * Math.max(0, rows - 2);  // a long legend takes nothing from the plot
    const layout = withTheme(figure.layout, plot.clientWidth);
    layout.height = (figure.layout.height ?? 420) + extra;
    return Plotly.react(plot, figure.data, layout, CONFIG);
  }

  const plots = () => [...document.querySelectorAll(".plot")];
  const redraw = () => { if (window.Plotly) plots().forEach(draw); };

  function setTheme(theme) {
    root.dataset.theme = theme;
    store(theme);
    showTheme();
    redraw();
  }
  const showTheme = () => document.getElementById("theme").setAttribute("aria-pressed", String(isDark()));

  async function inflate() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);  // the policy has its hash, so it runs at once
    if (!window.Plotly) throw new Error("plotly.js did not run");
  }

  async function drawAll() {
    try {
      figures = JSON.parse(document.getElementById("figures").textContent);
      await inflate();
      for (const plot of plots()) {
        await draw(plot);
        await new Promise((next) => setTimeout(next));  // the page stays alive between two pictures
      }
      root.dataset.pictures = "drawn";
    } catch (error) {
      root.classList.add("no-pictures");
      root.dataset.pictures = "failed";
      document.getElementById("no-pictures").hidden = false;
      document.querySelectorAll("details.numbers").forEach((details) => { details.open = true; });
      console.warn("The pictures cannot be drawn:", error);
    }
  }

  // Cells without a number are last in both directions.
  function compare(one, other, numeric, direction) {
    const values = [one, other].map((cell) => (numeric ? cell.dataset.value : cell.textContent.trim()));
    const missing = values.map((value) => value === undefined || value === "" || value === "n/a");
    if (missing[0] || missing[1]) return missing[0] - missing[1];
    return direction * (numeric ? values[0] - values[1] : values[0].localeCompare(values[1], "en", { numeric: true }));
  }

  function sort(header) {
    const table = header.closest("table"), column = header.cellIndex, numeric = header.classList.contains("number");
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((one, other) => compare(one.cells[column], other.cells[column], numeric, ascending ? 1 : -1));
    table.tBodies[0].append(...rows);
  }

  function makeSortable(table) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(header));
      header.append(button);
      header.setAttribute("aria-sort", "none");
    }
  }

  function listen() {
    document.querySelectorAll("table.sortable").forEach(makeSortable);
    document.getElementById("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
    system.addEventListener("change", () => { showTheme(); redraw(); });
    document.querySelectorAll(".tools input").forEach((box) => box.addEventListener("change", () => {
      const axis = figures[box.dataset.figure].layout[`${box.dataset.axis}axis`];
      axis.type = box.checked ? "log" : "linear";
      if (window.Plotly) draw(document.getElementById(box.dataset.figure));
    }));
    document.querySelectorAll(".save").forEach((button) => button.addEventListener("click", () => {
      const plot = document.getElementById(button.dataset.figure);
      if (!window.Plotly) return;
      const layout = { ...plot.layout, paper_bgcolor: colour("--surface") };  // light text needs its dark background
      const size = { width: plot.clientWidth, height: plot.clientHeight, scale: 2 };
      Plotly.downloadImage({ data: plot.data, layout }, { format: "png", filename: `edgebert-${plot.id}`, ...size });
    }));
    matchMedia(`(max-width: ${NARROW}px)`).addEventListener("change", redraw);
    let before;
    addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; redraw(); });
    addEventListener("afterprint", () => {
      if (before) root.dataset.theme = before; else delete root.dataset.theme;
      redraw();
    });
    showTheme();
    drawAll();
  }
  addEventListener("DOMContentLoaded", listen);
})();

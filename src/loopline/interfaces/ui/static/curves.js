// Draws curves of runs when they come into view: thinned by the server, finer for a part that is chosen, live.
(() => {
  "use strict";
  const LIVE_MS = 5000;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const probe = document.createElement("span");
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const faint = (name) => colour(name).replace(/^rgba?\(([^,]+),([^,]+),([^,)]+).*\)$/, "rgba($1,$2,$3,0.2)");
  const axis = (more) => ({
    stroke: colour("soft"), grid: { stroke: colour("rule"), width: 1 }, ticks: { stroke: colour("rule"), width: 1 },
    font: "12px system-ui, sans-serif", ...more,
  });
  const size = (place) => ({ width: Math.max(240, place.clientWidth), height: 200 });
  const figure = (value) => (value == null ? "–" : Number.isInteger(value) && Math.abs(value) <= 2 ** 53 ? String(value) : Number(value.toPrecision(6)).toString());
  const lasting = (s) => (s == null ? "–" : s < 120 ? `${+s.toFixed(1)} s` : s < 7200 ? `${+(s / 60).toFixed(1)} min` : `${+(s / 3600).toFixed(2)} h`);
  const by = document.querySelector("[data-by]");
  const scale = document.querySelector("[data-scale]");
  const charts = new Map();

  async function fetched(chart) {
    const address = new URL(chart.place.dataset.curve, location.href);
    const way = chart.part ? chart.part.by : by?.value;
    if (way) address.searchParams.set("by", way);
    if (chart.part) {
      address.searchParams.set("from", chart.part.from);
      address.searchParams.set("to", chart.part.to);
    }
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }

  function made(chart, found) {
    const { place } = chart;
    const single = found.lines.length === 1;
    const label = found.by === "time" ? "since its start" : "step";
    const shown = (plot, value) => figure(value);
    const line = (n, name) => ({
      label: name, stroke: colour(single ? "accent" : `line${n % 10}`), width: 1.5, spanGaps: true, value: shown,
      points: { show: found.lines[n].x.length < 60, size: 5 },
    });
    const quiet = { stroke: "transparent", points: { show: false }, value: shown };
    const first = found.lines[0];
    const thinned = single && first.points > first.x.length;
    const tables = found.lines.map((one) => [one.x, one.last]);
    const data = thinned ? [first.x, first.most, first.least, first.last] : tables.length > 1 ? uPlot.join(tables) : tables[0];
    const lines = found.lines.map((one, n) => line(n, single ? found.key : one.name.slice(0, 40)));
    const positive = data.slice(1).every((column) => column.every((value) => value == null || value > 0));
    const split = found.by === "time" ? { values: (plot, at) => at.map(lasting) } : {};
    return [
      {
        ...size(place),
        scales: { x: { time: false }, y: { distr: scale?.value === "log" && positive ? 3 : 1 } },
        cursor: { drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => () => whole(chart) } },
        series: [
          { label, value: (plot, value) => (found.by === "time" ? lasting(value) : figure(value)) },
          ...(thinned ? [{ ...quiet, label: "greatest" }, { ...quiet, label: "least" }] : []),
          ...lines,
        ],
        bands: thinned ? [{ series: [1, 2], fill: faint("accent") }] : [],
        axes: [axis({ ...split, space: 60 }), axis({ size: 64, values: (plot, at) => at.map((value) => (value == null ? "" : figure(value))) })],
        hooks: { setSelect: [(plot) => part(chart, plot, found.by)] },
      },
      data,
    ];
  }

  function part(chart, plot, way) {
    const { left, width } = plot.select;
    if (width < 4) return;
    chart.part = { by: way, from: plot.posToVal(left, "x"), to: plot.posToVal(left + width, "x") };
    draw(chart);
  }
  function whole(chart) {
    chart.part = null;
    draw(chart);
  }

  async function draw(chart) {
    const turn = (chart.turn = (chart.turn || 0) + 1);
    try {
      const found = await fetched(chart);
      if (turn !== chart.turn) return;
      if (chart.part && found.lines.every((one) => one.x.length === 0)) return whole(chart);
      const text = JSON.stringify(found.lines) + by?.value + scale?.value + dark.matches;
      chart.running = found.running;
      if (text === chart.text) return;
      chart.text = text;
      chart.plot?.destroy();
      chart.place.textContent = "";
      chart.plot = new uPlot(...made(chart, found), chart.place);
    } catch (error) {
      if (!chart.plot) chart.place.textContent = "The figures could not be fetched.";
    }
  }

  const resized = new ResizeObserver((seen) => {
    for (const { target } of seen) {
      const { plot } = charts.get(target) || {};
      if (plot && Math.abs(plot.width - size(target).width) > 1) plot.setSize(size(target));
    }
  });
  const viewed = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      const chart = charts.get(target);
      chart.seen = isIntersecting;
      if (isIntersecting && !chart.text) draw(chart);
    }
  }, { rootMargin: "200px" });
  for (const place of document.querySelectorAll("[data-curve]")) {
    charts.set(place, { place });
    viewed.observe(place);
    resized.observe(place);
  }
  const again = () => charts.forEach((chart) => {
    chart.part = null;
    chart.text = "";
    if (chart.seen) draw(chart);
  });
  by?.addEventListener("change", again);
  scale?.addEventListener("change", again);
  dark.addEventListener("change", again);
  setInterval(() => charts.forEach((chart) => {
    if (chart.running && chart.seen && !chart.part && !document.hidden) draw(chart);
  }), LIVE_MS);
})();

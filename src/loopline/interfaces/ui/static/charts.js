// Draws the charts of a page: figures come as JSON, colours from the style sheet.
(() => {
  "use strict";
  const charts = [];
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // A CSS variable as the canvas understands it, light-dark() resolved.
  const probe = document.createElement("span");
  document.body.append(probe);
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const faint = (name, share) => colour(name).replace(/^rgba?\(([^,]+),([^,]+),([^,)]+).*\)$/, `rgba($1,$2,$3,${share})`);

  const axis = (more) => ({
    stroke: colour("soft"),
    grid: { stroke: colour("rule"), width: 1 },
    ticks: { stroke: colour("rule"), width: 1 },
    font: "12px system-ui, sans-serif",
    ...more,
  });
  const utc = (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC");
  const day = (seconds) => new Date(seconds * 1e3).toISOString().slice(0, 10);
  const shown = (digits) => (plot, value) => (value == null ? "–" : value.toFixed(digits));
  const size = (place) => ({ width: Math.max(240, place.clientWidth), height: place.classList.contains("tall") ? 280 : 200 });
  const narrow = (place) => place.clientWidth < 480;
  const days = {
    space: 76,
    values: (plot, splits) => splits.map(day).map((d, i) => (i === 0 || d.endsWith("-01-01") ? d : d.slice(5))),
  };

  function quality(place, all) {
    const found = all.metrics[place.dataset.metric];
    if (!found) return null;
    const marks = all.marks;
    const releases = (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      ctx.setLineDash([]);
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      for (const mark of marks) {
        const x = plot.valToPos(mark.x, "x", true);
        if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
        ctx.strokeStyle = ctx.fillStyle = colour(mark.back ? "bad" : "good");
        ctx.lineWidth = devicePixelRatio;
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.fillText(mark.label, x + 4 * devicePixelRatio, bbox.top + 11 * devicePixelRatio);
      }
      ctx.restore();
    };
    const value = shown(found.digits);
    const none = { stroke: "transparent", points: { show: false }, value };
    const bounds = found.bounds.map((bound) => ({
      label: bound.name, stroke: colour("bad"), width: 1.5, dash: [6, 4], points: { show: false }, value,
    }));
    const first = Math.min(all.x[0], ...marks.map((mark) => mark.x));
    return [
      {
        ...size(place), tzDate: utc,
        scales: { x: { range: (plot, low, high) => [Math.min(first, low), high] } },
        series: [
          { label: "to", value: (plot, x) => (x == null ? "–" : day(x)) },
          { ...none, label: "90 % to" }, { ...none, label: "from" },
          { label: found.name, stroke: colour("accent"), width: 2, points: { size: 4, fill: colour("accent") }, value },
          ...bounds,
        ],
        bands: [{ series: [1, 2], fill: faint("accent", 0.2) }],
        axes: [axis(days), axis({ size: 58 })],
        hooks: { draw: [releases] },
      },
      [all.x, found.high, found.low, found.value, ...found.bounds.map((bound) => bound.value)],
    ];
  }

  const DASHES = { never: [3, 4], quarterly: [10, 5], monthly: [6, 3], loop: [] };
  function worth(place, all) {
    const short = narrow(place);
    const splits = () => all.x.filter((_, i) => !short || i % 2 === 0);
    return [
      {
        ...size(place), tzDate: utc,
        series: [
          { label: "month", value: (plot, x, s, i) => (i == null ? "–" : all.months[i]) },
          ...all.lines.map((line) => ({
            label: line.name, stroke: colour(line.key), width: line.key === "loop" ? 3 : 2,
            dash: DASHES[line.key] || [2, 2], points: { show: true, size: 6, fill: colour(line.key) }, value: shown(3),
          })),
        ],
        axes: [axis({ splits, values: (plot, at) => at.map((s) => new Date(s * 1e3).toISOString().slice(0, 7)) }), axis({ size: 58 })],
      },
      [all.x, ...all.lines.map((line) => line.value)],
    ];
  }

  const KINDS = { quality, worth };
  function draw(chart) {
    const made = KINDS[chart.place.dataset.chart](chart.place, chart.figures);
    chart.plot?.destroy();
    if (made) chart.plot = new uPlot(made[0], made[1], chart.place);
  }

  const asked = new Map();
  const figures = (address) => {
    if (!asked.has(address)) asked.set(address, fetch(address).then((answer) => answer.json()));
    return asked.get(address);
  };
  const resized = new ResizeObserver((seen) => {
    for (const { target } of seen) {
      const chart = charts.find((one) => one.place === target);
      if (chart?.plot && Math.abs(chart.plot.width - size(target).width) > 1) chart.plot.setSize(size(target));
    }
  });
  for (const place of document.querySelectorAll("[data-chart]")) {
    figures(place.dataset.src)
      .then((found) => {
        const chart = { place, figures: found };
        charts.push(chart);
        draw(chart);
        resized.observe(place);
      })
      .catch(() => place.append("The figures could not be fetched; they are in the table."));
  }
  dark.addEventListener("change", () => charts.forEach(draw));
})();

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  // Base is grey; lines differ in their dashes, too.
  const colors = ["--c8", "--c1", "--c0", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];
  const dashes = [[], [], [8, 3], [3, 3], [9, 3, 2, 3], [14, 4], [5, 2], [2, 4], [11, 3, 3, 3]];
  const color = i => ink(colors[i]);
  const shade = (i, alpha) => ink(colors[i], alpha);

  const perSecond = v => v == null ? "–" : round(v) + "/s";
  const tick = v => v == null ? "" : v >= 1000 ? v / 1000 + " s" : v >= 1 ? v + " ms" : Math.round(v * 1000) + " µs";
  const plain = v => v == null ? "" : v.toLocaleString("en");
  const seconds = t => (t < 0 ? "−" : "") + Math.abs(+t.toFixed(2)) + " s";

  const shown = data.sides.map(() => true);
  const charts = [];
  let printing = false;

  // faults draws the bands of all sides that are shown.
  const faults = () => ({ hooks: { drawClear: u => {
    const { left, top, width, height } = u.bbox, px = devicePixelRatio;
    const at = t => Math.round(u.valToPos(t, "x", true));
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(left, top, width, height);
    u.ctx.clip();
    data.sides.forEach((side, i) => {
      if (!shown[i]) return;
      for (const { marks_s: [requested, injected, recovered] } of side.faults) {
        const from = injected ?? requested;
        if (from == null) continue;
        u.ctx.fillStyle = shade(i, 0.13);
        if (injected != null) u.ctx.fillRect(at(from), top, Math.max(1, at(recovered ?? data.end_s[0]) - at(from)), height);
        u.ctx.fillStyle = color(i);
        u.ctx.fillRect(at(from) - px / 2, top, 1.5 * px, height);
      }
    });
    u.ctx.restore();
  } } });

  // injection draws the instant 0.
  const injection = () => ({ hooks: { drawClear: u => {
    u.ctx.fillStyle = ink("--ink");
    u.ctx.fillRect(Math.round(u.valToPos(0, "x", true)), u.bbox.top, 1.5 * devicePixelRatio, u.bbox.height);
  } } });

  // names writes the fault's names into the first chart.
  const names = () => ({ hooks: { draw: u => {
    const px = devicePixelRatio, { left, top, width } = u.bbox;
    u.ctx.save();
    u.ctx.font = 12 * px + "px system-ui, sans-serif";
    u.ctx.textBaseline = "top";
    u.ctx.textAlign = "left";
    const seen = new Set();
    for (const side of data.sides) for (const { name, marks_s: [requested, injected] } of side.faults) {
      const from = injected ?? requested;
      if (from == null || seen.has(name) || seen.size > 7) continue;
      const y = top + (3 + 16 * (seen.size % 4)) * px, wide = u.ctx.measureText(name).width;
      seen.add(name);
      const x = Math.max(left + 3 * px, Math.min(u.valToPos(from, "x", true) + 5 * px, left + width - wide - 4 * px));
      u.ctx.fillStyle = ink("--card");
      u.ctx.globalAlpha = 0.8;
      u.ctx.fillRect(x - 2 * px, y - px, wide + 4 * px, 15 * px);
      u.ctx.globalAlpha = 1;
      u.ctx.fillStyle = ink("--ink");
      u.ctx.fillText(name, x, y);
    }
    u.ctx.restore();
  } } });

  // chart draws the spread of every side. lines has one for each.
  function chart(id, height, x, lines, o) {
    const place = document.getElementById(id);
    if (!place) return;
    if (!x.length || !lines.some(l => l.median.some(v => v != null))) {
      const none = document.createElement("p");
      none.className = "none";
      none.textContent = "Nothing to show: there are no histories of these runs.";
      if (o.none) none.textContent = o.none;
      place.removeAttribute("tabindex");
      place.append(none);
      return;
    }
    const table = [x], series = [{}], bands = [], of = [];
    lines.forEach((l, i) => {
      const empty = x.map(() => null);
      const line = (values, more) => {
        table.push(values && values.length ? values : empty);
        of.push(i);
        series.push(Object.assign({ stroke: () => color(i), width: 2, dash: dashes[i], points: { show: false }, paths: o.paths }, more));
      };
      if (l.low) {
        line(l.low, { width: 0, stroke: "transparent" });
        line(l.high, { width: 0, stroke: "transparent" });
        bands.push({ series: [series.length - 1, series.length - 2], fill: () => shade(i, 0.16) });
      }
      line(l.median, {});
    });
    const readout = document.createElement("p");
    readout.className = "readout";
    const axis = more => Object.assign({
      stroke: () => ink("--soft"), grid: { stroke: () => ink("--grid"), width: 1 }, ticks: { stroke: () => ink("--line"), width: 1 },
      font: "12px system-ui, sans-serif",
    }, more);
    const tell = u => {
      const i = u.cursor.idx;
      readout.replaceChildren();
      const word = (text, name) => {
        const span = document.createElement("span");
        if (name) {
          const mark = document.createElement("i");
          mark.style.borderTopColor = "var(" + name + ")";
          span.append(mark);
        }
        span.append(text);
        readout.append(span);
      };
      word(i == null ? o.about : o.at(x[i]));
      lines.forEach((l, s) => {
        if (!shown[s]) return;
        let text = data.sides[s].name;
        if (i != null) {
          text += " " + o.value(l.median[i]);
          if (l.low && l.low[i] != null && l.low[i] !== l.high[i]) text += " (" + o.value(l.low[i]) + " to " + o.value(l.high[i]) + ")";
        }
        word(text, colors[s]);
      });
    };
    const full = { min: x[0], max: o.end ?? x[x.length - 1] };
    const u = new uPlot({
      width: Math.max(200, place.clientWidth), height,
      plugins: o.plugins,
      legend: { show: false },
      cursor: { y: false, sync: { key: o.key, setSeries: false }, drag: { x: true, y: false }, points: { show: false } },
      scales: { x: { time: false, range: (u, min, max) => min == null ? [full.min, full.max] : [min, max] }, y: o.scale },
      axes: [axis({ size: 30, splits: o.splits, values: (u, ticks) => ticks.map(o.tick) }), axis({ size: 58, values: (u, ticks) => ticks.map(o.ticks) })],
      series, bands,
      hooks: { setCursor: [tell] },
    }, table, place);
    u.setScale("x", full);
    place.after(readout);
    tell(u);
    const all = { u, place, height, of, tell, full, key: o.key };
    const out = () => charts.filter(c => c.key === o.key).forEach(c => c.u.setScale("x", c.full));
    u.over.addEventListener("dblclick", out);
    place.addEventListener("keydown", e => {
      const last = x.length - 1, now = u.cursor.idx;
      const to = { ArrowRight: now == null ? 0 : Math.min(now + 1, last), ArrowLeft: now == null ? last : Math.max(now - 1, 0), Home: 0, End: last }[e.key];
      if (e.key === "Escape") out();
      if (to == null) return;
      e.preventDefault();
      if (x[to] < u.scales.x.min || x[to] > u.scales.x.max) out();
      const shared = { left: u.valToPos(x[to], "x"), top: u.bbox.height / devicePixelRatio / 2 };
      u.setCursor(shared);
      document.getElementById("live").textContent = Array.from(readout.children, e => e.textContent).join(", ");
    });
    charts.push(all);
    new ResizeObserver(() => {
      if (printing || place.clientWidth === 0 || place.clientWidth === u.width) return;
      requestAnimationFrame(() => u.setSize({ width: place.clientWidth, height }));
    }).observe(place);
  }

  const lines = name => data.sides.map(s => s[name]);
  const middle = data.at_s.map(t => t + data.width_s[0] / 2);
  const above = { range: (u, min, max) => [0, (max || 1) * 1.1] };
  const over = { key: "time", plugins: [faults()], end: data.end_s[0], tick: t => +t.toFixed(3) + " s", at: seconds, about: "Point at a chart for figures:" };
  chart("throughput", 210, middle, lines("ok_per_s"), { ...over, plugins: [faults(), names()], scale: above, ticks: plain, value: perSecond });
  chart("p50", 180, middle, lines("p50_ms"), { ...over, scale: { distr: 3 }, ticks: tick, value: ms });
  chart("p99", 210, middle, lines("p99_ms"), { ...over, scale: { distr: 3 }, ticks: tick, value: ms });
  const failed = data.sides.some(s => s.not_ok_per_s.median.some(v => v > 0));
  chart("notok", 140, failed ? middle : [], lines("not_ok_per_s"), { ...over, scale: above, ticks: plain, value: perSecond, none: data.sides.some(s => s.runs) ? "All operations were answered ok." : undefined });

  const percentile = n => "p" + +(100 * (1 - Math.pow(10, -n))).toPrecision(n > 3 ? 5 : 4);
  chart("distribution", 240, data.nines, lines("distribution_ms"), {
    key: "distribution", plugins: [], scale: { distr: 3 }, ticks: tick, value: ms, at: percentile, about: "Point at the chart for figures:",
    splits: () => [data.nines[0], 1, 2, 3, 4], tick: percentile,
  });
  data.recovery.forEach((r, i) => {
    const step = r.at_s[1] - r.at_s[0];
    chart("recovery-" + i, 210, r.at_s.map(t => t + step / 2), r.sides, {
      key: "recovery", plugins: [injection()], scale: above, ticks: plain, value: perSecond, tick: t => +t.toFixed(3) + " s", at: seconds, about: "Point at the chart for figures:",
    });
  });

  const sides = document.getElementById("sides");
  data.sides.forEach((s, i) => {
    const label = document.createElement("label"), box = document.createElement("input"), mark = document.createElement("span");
    box.type = "checkbox";
    box.checked = true;
    mark.className = "swatch";
    mark.style.borderTopColor = "var(" + colors[i] + ")";
    if (dashes[i].length) mark.style.borderTopStyle = "dashed";
    label.append(box, mark, s.name + ", " + s.runs + (s.runs === 1 ? " run" : " runs") + (s.all ? ", none of them usable" : ""));
    sides.append(label);
    box.addEventListener("change", () => {
      shown[i] = box.checked;
      for (const { u, of, tell } of charts) {
        of.forEach((side, n) => side === i && u.setSeries(n + 1, { show: box.checked }));
        u.redraw(false, true);
        tell(u);
      }
    });
  });
  if (!charts.length) sides.remove();

  const repaint = () => {
    inks.clear();
    charts.forEach(({ u }) => u.redraw(false, true));
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  addEventListener("beforeprint", () => {
    printing = true;
    root.dataset.theme = "light";
    charts.forEach(({ u, height }) => u.setSize({ width: 680, height }));
    repaint();
  });
  addEventListener("afterprint", () => {
    printing = false;
    delete root.dataset.theme;
    charts.forEach(({ u, place, height }) => u.setSize({ width: Math.max(200, place.clientWidth), height }));
    repaint();
  });
})();

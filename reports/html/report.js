"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const ink = name => getComputedStyle(root).getPropertyValue(name).trim();
  // Told apart on a light and on a dark ground, and with the usual kinds of
  // colour blindness; lines of one chart differ in their dashes too.
  const colors = ["#2f7fc1", "#c8670a", "#1f9d76", "#b65fa0", "#8d8a1c", "#d2543f", "#4aa3a2", "#8b72d8", "#7d858e"];
  const dashes = [[], [7, 3], [2, 2], [9, 3, 2, 3]];

  const round = v => v === 0 || v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
  const ms = v => v == null ? "–" : v >= 1000 ? round(v / 1000) + " s" : v >= 1 ? round(v) + " ms" : (v * 1000).toFixed(0) + " µs";
  const tick = v => v == null ? "" : v >= 1000 ? v / 1000 + " s" : v >= 1 ? v + " ms" : Math.round(v * 1000) + " µs";
  const value = unit => (u, v) => v == null ? "–" : round(v) + unit;

  const charts = [];

  // bands draws the load phase and the faults; what is not known is not drawn.
  // Beneath the lines come the areas, above them the marks with their names.
  function bands(named) {
    const at = (u, t) => Math.round(u.valToPos(t, "x", true));
    const clip = u => {
      const { left, top, width, height } = u.bbox;
      u.ctx.save();
      u.ctx.beginPath();
      u.ctx.rect(left, top, width, height);
      u.ctx.clip();
    };
    const rule = (u, t, color, width, dash) => {
      const { top, height } = u.bbox, px = devicePixelRatio;
      u.ctx.strokeStyle = color;
      u.ctx.lineWidth = width * px;
      u.ctx.setLineDash(dash.map(d => d * px));
      u.ctx.beginPath();
      u.ctx.moveTo(at(u, t), top);
      u.ctx.lineTo(at(u, t), top + height);
      u.ctx.stroke();
    };
    return { hooks: {
      drawClear: u => {
        clip(u);
        const area = (from, to, alpha) => {
          u.ctx.fillStyle = "rgba(200, 103, 10, " + alpha + ")";
          u.ctx.fillRect(at(u, from), u.bbox.top, Math.max(1, at(u, to) - at(u, from)), u.bbox.height);
        };
        for (const { marks_s: [requested, injected, recovered, steady] } of data.faults) {
          const from = requested ?? injected;
          if (from == null) continue;
          const to = injected == null ? from : recovered ?? data.end_s[0];
          area(from, to, 0.2);
          if (steady != null && steady > to) area(to, steady, 0.08);
        }
        u.ctx.restore();
      },
      draw: u => {
        clip(u);
        const px = devicePixelRatio, strong = ink("--ink"), soft = ink("--soft");
        for (const t of data.load_s) rule(u, t, soft, 1, []);
        u.ctx.font = 12 * px + "px system-ui, sans-serif";
        u.ctx.textBaseline = "top";
        u.ctx.textAlign = "left";
        data.faults.forEach(({ name, marks_s: [requested, injected, recovered, steady] }, i) => {
          if (requested != null) rule(u, requested, strong, 1.5, [1.5, 2.5]);
          if (injected != null) rule(u, injected, strong, 1.5, []);
          if (recovered != null) rule(u, recovered, strong, 1.5, [6, 4]);
          if (steady != null) for (const d of [-1.5, 1.5]) {
            u.ctx.translate(d * px, 0);
            rule(u, steady, soft, 1, []);
            u.ctx.translate(-d * px, 0);
          }
          const begin = requested ?? injected;
          if (!named || begin == null) return;
          const x = at(u, injected ?? begin) + 6 * px, y = u.bbox.top + (4 + 17 * (i % 4)) * px;
          const width = u.ctx.measureText(name).width;
          const left = Math.min(x, u.bbox.left + u.bbox.width - width - 6 * px);
          u.ctx.fillStyle = ink("--card");
          u.ctx.globalAlpha = 0.8;
          u.ctx.fillRect(left - 3 * px, y - 2 * px, width + 6 * px, 16 * px);
          u.ctx.globalAlpha = 1;
          u.ctx.fillStyle = strong;
          u.ctx.fillText(name, left, y);
        });
        u.ctx.restore();
      },
    } };
  }

  function chart(id, height, series, table, y, named) {
    const place = document.getElementById(id);
    if (table[0].length === 0) {
      const none = document.createElement("p");
      none.className = "none";
      none.textContent = "Nothing to show.";
      place.append(none);
      return;
    }
    const axis = more => Object.assign({
      stroke: () => ink("--soft"), grid: { stroke: () => ink("--grid"), width: 1 }, ticks: { stroke: () => ink("--line"), width: 1 },
      font: "12px system-ui, sans-serif",
    }, more);
    const u = new uPlot({
      width: Math.max(200, place.clientWidth), height,
      plugins: [bands(named)],
      cursor: {
        y: false, sync: { key: "run" }, drag: { x: true, y: false },
        points: { fill: (u, i) => u.series[i].stroke(u, i) },
      },
      scales: { x: { time: false, range: (u, min, max) => min === null ? [0, data.end_s[0]] : [min, max] }, y: y.scale },
      axes: [
        axis({ size: 30, values: (u, ticks) => ticks.map(t => +t.toFixed(3) + " s") }),
        axis({ size: 58, values: y.ticks }),
      ],
      series: [{ label: "time", value: (u, t) => t == null ? "–" : t.toFixed(2) + " s" }].concat(series),
    }, table, place);
    u.setScale("x", { min: 0, max: data.end_s[0] || 1 });
    u.over.addEventListener("dblclick", () => charts.forEach(c => c.setScale("x", { min: 0, max: data.end_s[0] || 1 })));
    charts.push(u);
    new ResizeObserver(() => {
      if (printing || place.clientWidth === 0 || place.clientWidth === u.width) return;
      requestAnimationFrame(() => u.setSize({ width: place.clientWidth, height }));
    }).observe(place);
  }
  let printing = false;

  // A bucket is a step from its start to the next one's; the last one gets an end
  // to reach to, and one between unknown ones, which has no step, a point.
  const stepped = {
    paths: uPlot.paths.stepped({ align: 1 }),
    points: { show: true, size: 5, filter: (u, i) => {
      const d = u.data[i];
      return [...d.keys()].filter(k => d[k] != null && d[k - 1] == null && d[k + 1] == null);
    } },
  };
  const steps = (...columns) => {
    const at = data.at_s || [], n = at.length;
    return n === 0 ? [[]] : [at.concat(at[n - 1] + data.width_s[0]), ...columns.map(c => c.concat(c[n - 1]))];
  };
  const line = (label, i, more) => Object.assign({ label, stroke: colors[i], width: 1.5, dash: dashes[i % dashes.length] }, more);
  const upward = room => ({ range: (u, min, max) => [0, Math.max(1, max * room)] });
  const plain = (u, ticks) => ticks.map(t => t == null ? "" : t.toLocaleString("en"));

  const all = data.views[0], none = data.at_s.map(() => 0);
  const notOK = none.map((v, i) => [all.fail_per_s, all.info_per_s, all.unsent_per_s].reduce((sum, c) => sum + (c ? c[i] : 0), 0));
  chart("throughput", 200, [
    line("ok/s", 0, { ...stepped, value: value("/s") }),
    line("not ok/s", 5, { ...stepped, value: value("/s"), width: 2 }),
  ], steps(all.ok_per_s || none, notOK), { scale: upward(1.3), ticks: plain }, true);

  const answered = all.max_ms.some(v => v != null);
  chart("latency", 230, [
    line("p50", 0, { ...stepped, value: (u, v) => ms(v) }),
    line("p99", 1, { ...stepped, value: (u, v) => ms(v), dash: [] }),
    line("max", 3, { ...stepped, value: (u, v) => ms(v), width: 1, dash: [2, 2] }),
  ], answered ? steps(all.p50_ms, all.p99_ms, all.max_ms) : [[]], { scale: { distr: 3 }, ticks: (u, ticks) => ticks.map(tick) }, false);

  // Nodes are looked at at instants of their own: a missing instant is no gap, an
  // unknown value is one.
  const joined = values => data.nodes.length ? uPlot.join(data.nodes.map(n => [n.at_s, n[values]])) : [[]];
  const nodes = unit => data.nodes.map((n, i) => {
    const last = i === data.nodes.length - 1 && n.name === "load generator";
    return line(n.name, last ? 8 : i, { value: value(unit), points: { size: 5, fill: () => ink("--card") }, dash: last ? [1.5, 3] : dashes[i % dashes.length] });
  });
  chart("cpu", 180, nodes(" %"), joined("cpu_percent"), { scale: upward(1.05), ticks: plain }, false);
  chart("rss", 180, nodes(" MiB"), joined("rss_mib"), { scale: upward(1.05), ticks: plain }, false);

  // The charts of a search for the highest rate have rates for an x axis.
  function byRate(id, series, table, y, bound) {
    const place = document.getElementById(id), { knee: [knee] } = data.find_max;
    const axis = more => Object.assign({
      stroke: () => ink("--soft"), grid: { stroke: () => ink("--grid"), width: 1 }, ticks: { stroke: () => ink("--line"), width: 1 },
      font: "12px system-ui, sans-serif",
    }, more);
    const rule = (u, x0, y0, x1, y1, color, dash) => {
      u.ctx.strokeStyle = color;
      u.ctx.lineWidth = 1.5 * devicePixelRatio;
      u.ctx.setLineDash(dash.map(d => d * devicePixelRatio));
      u.ctx.beginPath();
      u.ctx.moveTo(x0, y0);
      u.ctx.lineTo(x1, y1);
      u.ctx.stroke();
    };
    const u = new uPlot({
      width: Math.max(200, place.clientWidth), height: 220,
      plugins: [{ hooks: { draw: u => {
        const { left, top, width, height } = u.bbox;
        u.ctx.save();
        if (knee != null) {
          const x = Math.round(u.valToPos(knee, "x", true));
          rule(u, x, top, x, top + height, ink("--ink"), []);
        }
        if (bound != null) {
          const at = Math.round(u.valToPos(bound, "y", true));
          if (at >= top && at <= top + height) rule(u, left, at, left + width, at, ink("--bad"), [6, 4]);
        }
        u.ctx.restore();
      } } }],
      cursor: { y: false, sync: { key: "search" }, drag: { x: false, y: false }, points: { fill: (u, i) => u.series[i].stroke(u, i) } },
      scales: { x: { time: false }, y: y.scale },
      axes: [axis({ size: 30, values: (u, ticks) => ticks.map(t => t.toLocaleString("en") + "/s") }), axis({ size: 58, values: y.ticks })],
      series: [{ label: "requested", value: (u, v) => v == null ? "–" : round(v) + "/s" }].concat(series),
    }, table, place);
    charts.push(u);
    new ResizeObserver(() => {
      if (printing || place.clientWidth === 0 || place.clientWidth === u.width) return;
      requestAnimationFrame(() => u.setSize({ width: place.clientWidth, height: 220 }));
    }).observe(place);
  }
  if (data.find_max && data.find_max.rate_per_s) {
    const found = data.find_max, dots = { points: { show: true, size: 6 } };
    const lines = [line("p50", 0, { ...dots, value: (u, v) => ms(v) })], columns = [found.p50_ms];
    if (found.percentile !== "p50") {
      lines.push(line(found.percentile, 1, { ...dots, value: (u, v) => ms(v), dash: [] }));
      columns.push(found.bounded_ms);
    }
    const known = columns.flat().filter(v => v != null), bound = found.bound_ms[0];
    const low = Math.min(bound, ...known), high = Math.max(bound, ...known);
    // The ends are ticks, too: 1, 2 or 5 times a power of ten.
    const power = Math.pow(10, Math.floor(Math.log10(low))), above = Math.pow(10, Math.floor(Math.log10(high)));
    const range = [[5, 2, 1].find(d => d * power <= low) * power, [2, 5, 10].find(d => d * above >= high) * above];
    byRate("search-latency", lines, [found.rate_per_s, ...columns],
      { scale: { distr: 3, range: () => range }, ticks: (u, ticks) => ticks.map(v => v == null ? "" : tick(+v.toPrecision(3))) }, bound);
    byRate("search-rate", [
      line("ok/s", 0, { ...dots, value: value("/s") }),
      line("as requested", 8, { value: value("/s"), dash: [2, 4] }),
    ], [found.rate_per_s, found.ok_per_s, found.rate_per_s], { scale: upward(1.05), ticks: plain }, null);
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(u => u.redraw(false, true)));
  const opened = [];
  addEventListener("beforeprint", () => {
    printing = true;
    root.dataset.theme = "light";
    for (const d of document.querySelectorAll("details:not([open])")) {
      d.open = true;
      opened.push(d);
    }
    charts.forEach(u => u.setSize({ width: 680, height: u.height }));
  });
  addEventListener("afterprint", () => {
    printing = false;
    delete root.dataset.theme;
    for (const d of opened.splice(0)) d.open = false;
    charts.forEach(u => u.setSize({ width: Math.max(200, u.root.parentElement.clientWidth), height: u.height }));
  });
})();

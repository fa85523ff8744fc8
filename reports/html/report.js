"use strict";
(() => {
  const $ = id => document.getElementById(id);
  const root = document.documentElement;
  const make = (tag, text) => {
    const e = document.createElement(tag);
    if (text != null) e.textContent = text;
    return e;
  };

  const plain = v => v >= 1000 ? Math.round(v).toLocaleString("en") : String(+v.toFixed(1));
  const seconds = v => v.toFixed(2) + " s";
  const msTick = v => v == null ? "" : v >= 1000 ? +(v / 1000).toPrecision(3) + " s" : v >= 1 ? +v.toPrecision(3) + " ms" : Math.round(v * 1000) + " µs";
  const plainTick = v => v == null ? "" : v.toLocaleString("en", { maximumFractionDigits: 3 });

  const narrow = matchMedia("(max-width: 700px)");
  const gutter = () => narrow.matches ? 54 : 84;
  const px = () => devicePixelRatio;

  let data, views, end, charts = [], all = [];
  let printing = false;

  const within = (u, draw) => {
    const { left, top, width, height } = u.bbox;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(left, top, width, height);
    u.ctx.clip();
    draw();
    u.ctx.restore();
  };
  const stroke = (u, x0, y0, x1, y1, color, width, dash) => {
    u.ctx.strokeStyle = color;
    u.ctx.lineWidth = width * px();
    u.ctx.setLineDash(dash.map(d => d * px()));
    u.ctx.beginPath();
    u.ctx.moveTo(x0, y0);
    u.ctx.lineTo(x1, y1);
    u.ctx.stroke();
  };
  const atX = (u, t) => Math.round(u.valToPos(t, "x", true));
  const upright = (u, t, color, width, dash) => stroke(u, atX(u, t), u.bbox.top, atX(u, t), u.bbox.top + u.bbox.height, color, width, dash);
  const letters = (u, size, align, baseline) => {
    u.ctx.font = size * px() + "px system-ui, sans-serif";
    u.ctx.textAlign = align;
    u.ctx.textBaseline = baseline;
  };
  // label writes on a ground of its own, so that lines do not cross it.
  const label = (u, text, x, y, color) => {
    const width = u.ctx.measureText(text).width, pad = 3 * px();
    x = Math.max(u.bbox.left + pad, Math.min(x, u.bbox.left + u.bbox.width - width - pad));
    u.ctx.fillStyle = ink("--card", 0.85);
    u.ctx.fillRect(x - pad, y - pad, width + 2 * pad, 11 * px() + 2 * pad);
    u.ctx.fillStyle = color;
    u.ctx.fillText(text, x, y);
  };
  // Areas have patterns beside their colours.
  const pattern = (u, color, draw) => {
    const size = 6 * px(), tile = make("canvas");
    tile.width = tile.height = size;
    const c = tile.getContext("2d");
    c.fillStyle = ink("--card"); // what it lies on does not shine through
    c.fillRect(0, 0, size, size);
    c.strokeStyle = c.fillStyle = color;
    c.lineWidth = 1.5 * px();
    c.beginPath();
    draw(c, size);
    c.stroke();
    return u.ctx.createPattern(tile, "repeat");
  };
  const hatched = (u, color) => pattern(u, color, (c, s) => {
    for (const d of [-s, 0, s]) {
      c.moveTo(d - 1, s + 1);
      c.lineTo(d + s + 1, -1);
    }
  });
  const dotted = (u, color) => pattern(u, color, (c, s) => c.fillRect(s / 4, s / 4, s / 2.5, s / 2.5));

  const when = ({ marks_s: [requested, injected, recovered, steady] }) => {
    const from = requested ?? injected;
    return { requested, injected, recovered, steady, from, to: from == null ? null : injected == null ? from : recovered ?? end };
  };

  // bands draws the load phase, the faults with their names and the violations;
  // what is not known is not drawn.
  const bands = named => ({ hooks: {
    drawClear: u => within(u, () => {
      const area = (from, to, alpha) => {
        u.ctx.fillStyle = ink("--fault", alpha);
        u.ctx.fillRect(atX(u, from), u.bbox.top, Math.max(1, atX(u, to) - atX(u, from)), u.bbox.height);
      };
      for (const fault of data.faults) {
        const { from, to, steady } = when(fault);
        if (from == null) continue;
        area(from, to, 0.2);
        if (steady > to) area(to, steady, 0.08);
      }
    }),
    drawAxes: u => within(u, () => {
      if (!named) return;
      letters(u, 11, "left", "top");
      const place = [];
      for (const fault of data.faults) {
        const { from, to, injected } = when(fault);
        if (from == null) continue;
        // Names that would overlap stand below one another, as long as there is room.
        const x = Math.max(u.bbox.left, atX(u, injected ?? from)) + 5 * px(), right = x + u.ctx.measureText(fault.name).width;
        if (atX(u, to) < u.bbox.left || x > u.bbox.left + u.bbox.width) continue;
        let row = place.findIndex(taken => taken < x);
        if (row < 0) row = place.length;
        if (row > 2) continue;
        place[row] = right + 6 * px();
        label(u, fault.name, x, u.bbox.top + (4 + 17 * row) * px(), ink("--ink"));
      }
    }),
    draw: u => within(u, () => {
      for (const t of data.load_s) upright(u, t, ink("--soft"), 1, []);
      for (const fault of data.faults) {
        const { requested, injected, recovered, steady } = when(fault);
        if (requested != null) upright(u, requested, ink("--ink"), 1.5, [1.5, 2.5]);
        if (injected != null) upright(u, injected, ink("--ink"), 1.5, []);
        if (recovered != null) upright(u, recovered, ink("--ink"), 1.5, [6, 4]);
        if (steady != null) for (const d of [-1.5, 1.5]) {
          u.ctx.translate(d * px(), 0);
          upright(u, steady, ink("--soft"), 1, []);
          u.ctx.translate(-d * px(), 0);
        }
      }
      for (const v of data.violations || []) for (const t of v.at_s) if (t != null) upright(u, t, ink("--bad"), 1.5, [2, 4]);
    }),
  } });

  // A threshold is a line with its words; met or missed is a word and a dash.
  const limits = chart => (data.thresholds || []).filter(t => t.chart === chart && t.value[0] > 0);
  const thresholds = list => ({ hooks: { draw: u => within(u, () => {
    letters(u, 11, "left", "top");
    const taken = [];
    for (const t of list) {
      const y = Math.round(u.valToPos(t.value[0], "y", true)), color = ink(t.met ? "--good" : "--bad");
      stroke(u, u.bbox.left, y, u.bbox.left + u.bbox.width, y, color, 1.5, t.met ? [10, 4] : [3, 3]);
      const text = (t.met ? "✓ met: " : "✗ missed: ") + t.label;
      let x = u.bbox.left + u.bbox.width - u.ctx.measureText(text).width - 8 * px();
      while (taken.some(([ty, tx]) => Math.abs(ty - y) < 17 * px() && tx === x) && x > u.bbox.left) x -= 260 * px();
      taken.push([y, x]);
      const above = y - 16 * px();
      label(u, text, x, above > u.bbox.top ? above : y + 5 * px(), color);
    }
  }) } });

  const swatch = s => {
    const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), line = document.createElementNS(ns, s.area ? "rect" : "line");
    svg.setAttribute("width", 22);
    svg.setAttribute("height", 12);
    svg.setAttribute("aria-hidden", "true");
    const put = o => { for (const k in o) line.setAttribute(k, o[k]); };
    line.style.stroke = "var(" + s.color + ")";
    if (s.area) {
      put({ x: 1, y: 1, width: 20, height: 10, "stroke-width": 1.5, "stroke-dasharray": { dots: "2 2", hatch: "5 2", solid: "" }[s.area] });
      line.style.fill = s.area === "solid" ? "var(" + s.color + ")" : "none";
      line.style.fillOpacity = 0.6;
    } else {
      put({ x1: 0, x2: 22, y1: 6, y2: 6, "stroke-width": s.width || 2, "stroke-dasharray": (s.dash || []).join(" ") });
    }
    svg.append(line);
    return svg;
  };

  // chart draws one panel. series: label, color, dash, width, fill, say(value), and
  // raw, the values to read out, where those drawn are others.
  function chart(id, { height, series, table, scale = {}, tick, bandsOf, plugins = [], x = {}, cursor = {}, pad }) {
    const place = $(id), legend = $(id + "-legend");
    if (!place) return null;
    if (!table[0] || table[0].length === 0) {
      const none = make("p", "Nothing to show.");
      none.className = "none";
      place.append(none);
      return null;
    }
    const axis = more => Object.assign({
      stroke: () => ink("--soft"), grid: { stroke: () => ink("--grid"), width: 1 }, ticks: { stroke: () => ink("--line"), width: 1, size: 4 },
      font: "11px system-ui, sans-serif", gap: 3,
    }, more);
    const values = series.map(s => {
      if (!legend || s.silent) return null;
      const item = make("li"), value = make("b");
      item.append(swatch(s), s.label + " ", value);
      legend.append(item);
      return value;
    });
    const u = new uPlot({
      width: Math.max(200, place.clientWidth), height, plugins, bands: bandsOf, padding: [6, 8, 0, 0],
      legend: { show: false },
      cursor: Object.assign({ y: false, drag: { x: true, y: false, setScale: false }, points: { fill: (u, i) => u.series[i].stroke(u, i), size: 6 } }, cursor),
      scales: { x: { time: false, ...x.scale }, y: scale },
      axes: [
        axis({ size: 20, splits: x.splits, values: (u, ticks) => ticks.map(x.tick) }),
        axis({
          size: gutter(), values: (u, ticks) => ticks.map(tick),
          grid: { stroke: () => ink("--grid"), width: 1, filter: (u, splits) => splits.map(v => scale.distr !== 3 || Number.isInteger(+Math.log10(v).toFixed(9)) ? v : null) },
        }),
      ],
      series: [{}].concat(series.map(s => ({
        label: s.label, stroke: () => ink(s.color), dash: s.dash, width: s.width || 1.5, paths: s.paths, points: s.points, fill: s.fill, show: true,
      }))),
      hooks: {
        setCursor: [u => series.forEach((s, i) => {
          if (!values[i]) return;
          const at = u.cursor.idxs[i + 1], from = s.raw ? s.raw() : u.data[i + 1], v = at == null ? null : from && from[at];
          const text = at == null || u.cursor.left < 0 ? "" : v == null ? "–" : s.say(v);
          if (values[i].textContent !== text) values[i].textContent = text;
        })],
      },
    }, table, place);
    u.panel = { id, height };
    all.push(u);
    new ResizeObserver(() => {
      if (printing || place.clientWidth === 0 || place.clientWidth === u.width) return;
      requestAnimationFrame(() => u.setSize({ width: place.clientWidth, height }));
    }).observe(place);
    return u;
  }

  // The time axis.

  let shown = [0, 1], zooming = false;
  const status = $("shown");
  let saying;
  function say(text) {
    clearTimeout(saying);
    saying = setTimeout(() => { status.textContent = text; }, 250);
  }
  function zoom(from, to) {
    const least = Math.min(end, Math.max(data.width_s[0] * 3, 0.02)), span = Math.min(end, Math.max(to - from, least));
    from = Math.max(0, Math.min(from, end - span));
    shown = [from, from + span];
    zooming = true;
    for (const u of charts) u.setScale("x", { min: shown[0], max: shown[1] });
    zooming = false;
    slide();
    const whole = span >= end - 1e-9;
    for (const id of ["zoom-out", "whole"]) $(id).disabled = whole;
    $("earlier").disabled = from <= 0;
    $("later").disabled = shown[1] >= end - 1e-9;
    if (figures.open) figuresTable();
    say(describe());
  }
  const grow = by => {
    const middle = cursorAt != null && cursorAt >= shown[0] && cursorAt <= shown[1] ? cursorAt : (shown[0] + shown[1]) / 2, ratio = (middle - shown[0]) / (shown[1] - shown[0]);
    const span = Math.min(end, (shown[1] - shown[0]) * by);
    zoom(middle - ratio * span, middle + (1 - ratio) * span);
  };
  const pan = by => zoom(shown[0] + by * (shown[1] - shown[0]), shown[1] + by * (shown[1] - shown[0]));
  const whole = () => zoom(0, end);

  let cursorAt = null;
  const timeCursor = {
    sync: { key: "run", setSeries: false, scales: ["x", null] },
    // A step reaches from its start to the next one's.
    dataIdx: (u, i, closest, x) => u.panel && u.panel.stepped && u.data[0][closest] > x && closest > 0 ? closest - 1 : closest,
  };
  const timeX = () => ({
    tick: t => +t.toFixed(3) + " s",
    scale: { range: (u, min, max) => min === null ? [0, end] : [min, max] },
  });
  function panel(id, options) {
    const u = chart(id, { ...options, x: timeX(), cursor: timeCursor, plugins: [bands(options.named !== false), ...(options.plugins || [])] });
    if (!u) return null;
    u.panel.stepped = options.stepped;
    u.setScale("x", { min: 0, max: end });
    u.over.addEventListener("dblclick", whole);
    u.hooks.setSelect = [u => {
      if (u.select.width > 4 && !zooming) zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
      u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    }];
    u.hooks.setCursor.push(u => {
      if (u !== charts[0]) return;
      cursorAt = u.cursor.left < 0 ? null : u.posToVal(u.cursor.left, "x");
      if (cursorAt != null && document.activeElement !== slider) slideTo(cursorAt);
    });
    charts.push(u);
    return u;
  }

  // The slider is the cursor for the keyboard, and says what is there.
  const slider = $("cursor");
  const bucketOf = t => {
    const at = data.at_s || [];
    let low = 0, high = at.length - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if (at[mid] <= t) low = mid; else high = mid - 1;
    }
    return low;
  };
  const slideTo = t => { slider.value = bucketOf(t); };
  function slide() {
    const at = data.at_s || [];
    slider.min = bucketOf(shown[0]);
    slider.max = Math.max(+slider.min, bucketOf(shown[1]));
    const left = gutter(), right = 8;
    slider.style.marginLeft = left + "px";
    slider.style.width = "calc(100% - " + (left + right) + "px)";
    slider.hidden = at.length < 2;
  }
  function pointed() {
    const at = data.at_s, i = +slider.value, t = Math.min(at[i] + data.width_s[0] / 2, shown[1]);
    for (const u of charts) u.setCursor({ left: u.valToPos(t, "x"), top: 1 }, true, false);
    slider.setAttribute("aria-valuetext", readout(i));
  }
  const faultsAt = (from, to) => data.faults.filter(f => {
    const w = when(f);
    return w.from != null && w.from < to && w.to >= from;
  }).map(f => f.name);
  function readout(i) {
    const from = data.at_s[i], said = [seconds(from)], faults = faultsAt(from, from + data.width_s[0]);
    if (faults.length) said.push("during " + faults.join(", "));
    for (const [name, key, text] of columns) {
      const v = (view[key] || [])[i];
      if (v != null && (v !== 0 || key === "ok_per_s")) said.push(name + " " + text(v));
    }
    return said.join(", ");
  }

  // Filters.

  let view = null;
  const op = $("op"), node = $("node"), show = $("show"), figures = $("figures");
  const viewOf = (o, n) => views.find(v => v.op === o && v.node === n);
  const name = v => (v.op || "All operations") + (v.node ? " executed by " + v.node : "");
  const describe = () => name(view) + (view.n && view.n.length ? ", " + view.n[0].toLocaleString("en") + " in the run" : "") + ". Shown: " + seconds(shown[0]) + " to " + seconds(shown[1]) + ".";
  function options() {
    const offer = (select, values, everything, kept, other) => {
      const chosen = select.value;
      select.replaceChildren(...["", ...values].map(v => {
        const o = make("option", (v || everything) + (kept(v) ? "" : " (not kept for " + other + ")"));
        o.value = v;
        o.disabled = !kept(v);
        return o;
      }));
      select.value = chosen;
    };
    offer(op, data.ops || [], "all", v => viewOf(v, node.value), node.value);
    offer(node, data.op_nodes || [], "all nodes", v => viewOf(op.value, v), op.value);
  }
  function filter() {
    const found = viewOf(op.value, node.value);
    if (!found) return;
    view = found;
    options();
    for (const u of charts) if (u.panel.refill) {
      u.setData(u.panel.refill(), false);
      u.setScale("x", { min: shown[0], max: shown[1] });
    }
    const used = view.node;
    for (const u of charts) if (u.panel.nodes) {
      const named = data.nodes.some(n => n.name === used);
      data.nodes.forEach((n, i) => u.setSeries(i + 1, { show: !named || n.name === used || n.name === "load generator" }));
    }
    if (figures.open) figuresTable();
    say(describe());
  }

  // The figures as a table.

  const columns = [
    ["ok/s", "ok_per_s", plain], ["fail/s", "fail_per_s", plain], ["info/s", "info_per_s", plain], ["unsent/s", "unsent_per_s", plain],
    ["p50", "p50_ms", ms], ["p90", "p90_ms", ms], ["p99", "p99_ms", ms], ["p99.9", "p999_ms", ms], ["max", "max_ms", ms], ["in flight", "in_flight", plain],
  ];
  const tableRows = 400;
  function figuresTable() {
    const at = data.at_s || [], first = bucketOf(shown[0]), last = bucketOf(shown[1]);
    const table = make("table"), caption = make("caption"), head = make("tr"), body = make("tbody"), thead = make("thead");
    table.className = "figures";
    const count = Math.min(tableRows, last - first + 1), kept = columns.filter(c => view[c[1]]);
    caption.textContent = describe() + (last - first + 1 > tableRows ? " The first " + tableRows + " of " + (last - first + 1) + " steps: zoom in for others." : "");
    for (const text of ["from", ...kept.map(c => c[0]), "faults"]) {
      const th = make("th", text);
      th.scope = "col";
      head.append(th);
    }
    for (let i = first; i < first + count && i < at.length; i++) {
      const row = make("tr"), th = make("th", seconds(at[i]));
      th.scope = "row";
      row.append(th);
      for (const [, key, text] of kept) row.append(make("td", view[key][i] == null ? "–" : text(view[key][i])));
      row.append(make("td", faultsAt(at[i], at[i] + data.width_s[0]).join(", ")));
      body.append(row);
    }
    thead.append(head);
    table.append(caption, thead, body);
    const scroll = make("div");
    scroll.className = "scroll tall";
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "Figures of the charts");
    scroll.append(table);
    $("figures-table").replaceChildren(scroll);
  }

  // The panels.

  // A bucket is a step from its start to the next one's; the last one gets an end
  // to reach to.
  const stepped = { paths: uPlot.paths.stepped({ align: 1, alignGaps: 1 }), points: { show: false } };
  const steps = columns => {
    const at = data.at_s || [], n = at.length;
    return n === 0 ? [[]] : [at.concat(at[n - 1] + data.width_s[0]), ...columns.map(c => c ? c.concat(c[n - 1]) : new Array(n + 1).fill(0))];
  };
  const upward = (room, ...more) => ({ range: (u, min, max) => [0, Math.max(1, ...more.map(v => v * 1.1), (max ?? 1) * room)] });

  function events() {
    if (!$("events")) return null;
    const rows = [], at = data.faults.map(f => {
      const { from, to, steady } = when(f);
      if (from == null) return null;
      let row = rows.findIndex(until => until < from);
      if (row < 0) row = rows.length;
      rows[row] = Math.max(to, steady ?? 0) + end * 0.12;
      return row;
    });
    const shownRows = Math.min(rows.length, 6), violations = (data.violations || []).filter(v => v.at_s[0] != null);
    const low = violations.length ? 30 : 0, u = panel("events", {
      height: 28 + 20 * shownRows + low, table: [[0, end], [null, null]], series: [{ label: "", color: "--soft", silent: true }],
      scale: { range: () => [0, 1] }, tick: () => "", named: false,
      plugins: [{ hooks: { draw: u => within(u, () => {
        letters(u, 12, "left", "middle");
        data.faults.forEach((f, i) => {
          const { from, to } = when(f), row = at[i];
          if (row == null || row >= shownRows) return;
          const x0 = atX(u, from), x1 = Math.max(x0 + 3 * px(), atX(u, to)), y = u.bbox.top + (1 + 20 * row) * px();
          u.ctx.fillStyle = ink("--fault", 0.55);
          u.ctx.fillRect(x0, y, x1 - x0, 17 * px());
          const width = u.ctx.measureText(f.name).width, right = u.bbox.left + u.bbox.width;
          const inside = Math.max(x0, u.bbox.left) + 5 * px();
          const x = x1 - x0 > width + 10 * px() ? inside : x1 + width + 10 * px() < right ? x1 + 6 * px() : x0 - width - 6 * px();
          u.ctx.fillStyle = ink("--ink");
          u.ctx.fillText(f.name, Math.max(x, u.bbox.left + 3 * px()), y + 9 * px());
        });
      }) } }],
    });
    u.root.querySelectorAll(".u-axis").forEach(e => { e.hidden = true; });
    if (!violations.length) return u;
    // Marks that would overlap are one, with their number.
    const marks = make("div");
    marks.className = "marks";
    u.over.append(marks);
    const place = () => {
      const groups = [];
      for (const v of [...violations].sort((a, b) => a.at_s[0] - b.at_s[0])) {
        const x = u.valToPos(v.at_s[0], "x");
        if (x < -1 || x > u.over.clientWidth + 1) continue;
        const last = groups[groups.length - 1];
        if (last && x - last.x < 26) last.all.push(v); else groups.push({ x, all: [v] });
      }
      marks.replaceChildren(...groups.map(({ x, all }) => {
        const v = all.find(v => v.anchor) || all[0], a = make(v.anchor ? "a" : "span", all.length > 1 ? (all.length > 99 ? "99+" : all.length) : "✗");
        if (v.anchor) a.href = "#" + v.anchor;
        const text = (all.length > 1 ? all.length + " violations, the first: " : "") + v.kind + " on " + v.on + " at " + seconds(v.at_s[0]);
        a.title = text;
        a.setAttribute("aria-label", "Violation: " + text);
        if (!v.anchor) a.setAttribute("role", "img");
        a.style.left = Math.max(12, Math.min(x, u.over.clientWidth - 12)) + "px";
        a.addEventListener("mousedown", e => e.stopPropagation());
        return a;
      }));
    };
    u.hooks.draw.push(place);
    place();
    return u;
  }

  const has = key => views.some(v => v[key] && v[key].some(x => x));
  function throughput() {
    const list = limits("throughput"), u = panel("throughput", {
      height: 150, stepped: true, table: steps([view.ok_per_s]), scale: upward(1.25, ...list.map(t => t.value[0])), tick: plainTick, plugins: [thresholds(list)],
      series: [{ label: "ok", color: "--c0", ...stepped, say: v => plain(v) + "/s", fill: () => ink("--c0", 0.1) }],
    });
    if (u) u.panel.refill = () => steps([view.ok_per_s]);
  }
  function errors() {
    const kinds = [["unsent", "unsent_per_s", "--c8", "dots"], ["info", "info_per_s", "--c1", "hatch"], ["fail", "fail_per_s", "--c5", "solid"]].filter(k => has(k[1]));
    if (!kinds.length) {
      $("errors").remove();
      return;
    }
    // On top of one another; the sum of all is drawn first.
    const n = (data.at_s || []).length, stack = () => {
      const columns = [];
      let sum = new Array(n).fill(0);
      for (const k of kinds) {
        sum = sum.map((s, i) => s + ((view[k[1]] || [])[i] || 0));
        columns.unshift(sum);
      }
      return steps(columns);
    };
    const u = panel("errors", {
      height: 110, stepped: true, table: stack(), scale: upward(1.25), tick: plainTick,
      series: [...kinds].reverse().map(([label, key, color, area]) => ({
        label, color, area, ...stepped, say: v => plain(v) + "/s", raw: () => view[key] || [],
        fill: u => area === "solid" ? ink(color, 0.6) : area === "hatch" ? hatched(u, ink(color)) : dotted(u, ink(color)),
      })),
    });
    if (u) u.panel.refill = stack;
  }
  function latency() {
    const keys = [["p50", "p50_ms", "--c0", 2, []], ["p90", "p90_ms", "--c0", 1, [6, 3]], ["p99", "p99_ms", "--c1", 2, []],
      ["p99.9", "p999_ms", "--c3", 1, [6, 3]], ["max", "max_ms", "--c3", 1, [2, 2]]];
    const known = () => keys.map(k => view[k[1]] || new Array((data.at_s || []).length).fill(null));
    const list = limits("latency"), answered = views[0].max_ms && views[0].max_ms.some(v => v != null);
    const u = panel("latency", {
      height: 230, stepped: true, table: answered ? steps(known()) : [[]], tick: msTick, plugins: [thresholds(list)],
      scale: { distr: 3, range: (u, min, max) => {
        const low = Math.min(min ?? 1, ...list.map(t => t.value[0])), high = Math.max(max ?? 10, ...list.map(t => t.value[0] * 1.5));
        return uPlot.rangeLog(Math.max(low, 1e-3), Math.max(high, low * 10), 10, true);
      } },
      bandsOf: [[2, 1, "--c0", 0.3], [3, 2, "--c0", 0.16], [4, 3, "--c1", 0.16], [5, 4, "--c3", 0.12]].map(([a, b, c, alpha]) => ({ series: [a, b], fill: () => ink(c, alpha) })),
      series: keys.map(([label, , color, width, dash]) => ({ label, color, width, dash, ...stepped, say: ms })),
    });
    if (u) u.panel.refill = () => steps(known());
  }
  function inFlight() {
    const u = panel("in-flight", {
      height: 110, stepped: true, table: view.in_flight ? steps([view.in_flight]) : [[]], scale: upward(1.25), tick: plainTick,
      series: [{ label: "at most", color: "--c2", ...stepped, say: plain, fill: () => ink("--c2", 0.1) }],
    });
    if (u) u.panel.refill = () => steps([view.in_flight]);
  }
  // Nodes are looked at at instants of their own: a missing instant is no gap, an
  // unknown value is one.
  const dashes = [[], [7, 3], [2, 2], [9, 3, 2, 3]];
  function nodes(id, key, unit) {
    const u = panel(id, {
      height: 120, table: data.nodes.length ? uPlot.join(data.nodes.map(n => [n.at_s, n[key]])) : [[]], scale: upward(1.2), tick: plainTick,
      series: data.nodes.map((n, i) => {
        const last = n.name === "load generator";
        return { label: n.name, color: last ? "--c8" : "--c" + i % 8, dash: last ? [1.5, 3] : dashes[i % 4], say: v => plain(v) + unit, points: { size: 4 } };
      }),
    });
    if (u) u.panel.nodes = true;
  }

  // One row per key; how full a cell is says the same as its colour.
  const cells = {
    o: { height: 0.3, color: "--c2", text: "all ok" },
    s: { height: 0.55, color: "--c1", text: "ok, but late", fill: hatched },
    x: { height: 0.8, color: "--c5", text: "some not ok", fill: hatched },
    X: { height: 1, color: "--c5", text: "none ok" },
  };
  function keys() {
    const place = $("keys"), k = data.keys;
    if (!place) return;
    if (!k || !k.rows || !k.rows.length) {
      place.append(make("p", "Nothing to show."));
      return;
    }
    const rowHeight = k.rows.length > 40 ? 9 : k.rows.length > 20 ? 11 : 14;
    const runs = k.rows.map(({ cells }) => {
      const found = [];
      for (let i = 0; i < cells.length;) {
        let j = i + 1;
        while (j < cells.length && cells[j] === cells[i]) j++;
        found.push([cells[i], i, j]);
        i = j;
      }
      return found;
    });
    const width = k.width_s[0], legend = $("keys-legend"), value = make("b");
    for (const c of Object.values(cells)) {
      const item = make("li"), box = make("canvas");
      box.width = 18 * px();
      box.height = 12 * px();
      box.style.width = "18px";
      box.style.height = "12px";
      item.append(box, " " + c.text);
      legend.append(item);
      c.box = box;
    }
    const item = make("li");
    item.append(value);
    legend.append(item);
    const keyed = () => {
      for (const c of Object.values(cells)) {
        const ctx = c.box.getContext("2d");
        ctx.clearRect(0, 0, c.box.width, c.box.height);
        ctx.fillStyle = c.fill ? c.fill({ ctx }, ink(c.color)) : ink(c.color);
        ctx.fillRect(0, c.box.height * (1 - c.height), c.box.width, c.box.height * c.height);
      }
    };
    const short = key => key.slice(key.indexOf("/") + 1);
    const u = panel("keys", {
      height: 26 + rowHeight * k.rows.length, table: [k.at_s.length ? k.at_s.concat(k.at_s[k.at_s.length - 1] + width) : [0, end], new Array(k.at_s.length ? k.at_s.length + 1 : 2).fill(null)],
      series: [{ label: "", color: "--soft", silent: true }], scale: { range: () => [0, 1] }, tick: () => "", named: false, stepped: true,
      plugins: [{ hooks: { drawClear: u => within(u, () => {
        const step = u.bbox.height / k.rows.length, paint = {};
        for (const c in cells) paint[c] = cells[c].fill ? cells[c].fill(u, ink(cells[c].color)) : ink(cells[c].color);
        runs.forEach((row, i) => {
          for (const [c, from, to] of row) {
            const how = cells[c];
            if (!how) continue;
            const x0 = atX(u, k.at_s[from]), x1 = atX(u, k.at_s[to - 1] + width), h = (step - 2 * px()) * how.height;
            if (x1 < u.bbox.left || x0 > u.bbox.left + u.bbox.width) continue;
            u.ctx.fillStyle = paint[c];
            u.ctx.fillRect(x0, u.bbox.top + step * (i + 1) - px() - h, Math.max(px(), x1 - x0), h);
          }
        });
        keyed();
      }),
      draw: u => {
        // The names, as wide as the gutter.
        const step = u.bbox.height / k.rows.length;
        u.ctx.save();
        letters(u, Math.min(10, rowHeight - 1), "right", "middle");
        u.ctx.fillStyle = ink("--soft");
        k.rows.forEach((r, i) => {
          const name = [...short(r.key)], room = u.bbox.left - 6 * px();
          let kept = name.length, text = name.join("");
          while (kept > 3 && u.ctx.measureText(text).width > room) text = name.slice(0, --kept).join("") + "…";
          u.ctx.fillText(text, u.bbox.left - 5 * px(), u.bbox.top + step * (i + 0.5));
        });
        u.ctx.restore();
      } } }],
    });
    u.hooks.setCursor.push(u => {
      const { left, top } = u.cursor, i = u.cursor.idxs[1] ?? u.cursor.idx;
      let text = "";
      if (left >= 0 && u.over.matches(":hover") && i != null) {
        const row = k.rows[Math.min(k.rows.length - 1, Math.max(0, Math.floor(top / u.over.clientHeight * k.rows.length)))], c = cells[row.cells[i]];
        text = row.key + " at " + seconds(k.at_s[i] ?? 0) + ": " + (c ? c.text : "nothing due");
      }
      if (value.textContent !== text) value.textContent = text;
    });
  }

  function distribution() {
    const kept = (data.distribution || []).filter(d => d.percent.length);
    const far = p => -Math.log10(1 - p / 100);
    const looks = [["--c0", []], ["--c5", [7, 3]], ["--c2", [2, 2]], ["--c3", [9, 3, 2, 3]]];
    const ticks = [50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999, 99.9999].map(far).filter((_, i) => !narrow.matches || [0, 2, 4, 6, 8, 9, 10].includes(i));
    chart("distribution", {
      height: 230, tick: msTick,
      table: kept.length ? uPlot.join(kept.map(d => [d.percent.map(far), d.ms])) : [[]],
      scale: { distr: 3, range: (u, min, max) => uPlot.rangeLog(Math.max(min ?? 1, 1e-3), Math.max(max ?? 10, (min ?? 1) * 2), 10, true) },
      cursor: { drag: { x: false, y: false } },
      x: {
        tick: v => +(100 - 100 * Math.pow(10, -v)).toFixed(4) + " %",
        splits: (u, i, min, max) => ticks.filter(t => t >= min - 1e-9 && t <= max + 1e-9),
        scale: { range: (u, min, max) => [Math.min(min ?? 0, far(50)), Math.max(max ?? 2, far(99))] },
      },
      series: kept.map((d, i) => ({ label: d.name, color: looks[i % 4][0], dash: looks[i % 4][1], width: 2, say: ms, points: { size: 5 } })),
    });
  }

  // The charts of a search for the highest rate have rates for an x axis.
  function search() {
    const found = data.find_max;
    if (!found || !found.rate_per_s || !$("search-latency")) return;
    const rule = bound => ({ hooks: { draw: u => within(u, () => {
      const knee = found.knee[0];
      if (knee != null) upright(u, knee, ink("--ink"), 1.5, []);
      if (bound != null) {
        const y = Math.round(u.valToPos(bound, "y", true));
        stroke(u, u.bbox.left, y, u.bbox.left + u.bbox.width, y, ink("--bad"), 1.5, [6, 4]);
      }
    }) } });
    const rates = { tick: v => v == null ? "" : v.toLocaleString("en") + "/s" }, dots = { points: { show: true, size: 6 } };
    const lines = [{ label: "p50", color: "--c0", ...dots, say: ms }], columns = [found.p50_ms], cursor = { drag: { x: false, y: false }, sync: { key: "search" } };
    if (found.percentile !== "p50") {
      lines.push({ label: found.percentile, color: "--c1", ...dots, say: ms });
      columns.push(found.bounded_ms);
    }
    const known = columns.flat().filter(v => v != null), bound = found.bound_ms[0];
    const low = Math.min(bound, ...known), high = Math.max(bound, ...known);
    // The ends are ticks, too: 1, 2 or 5 times a power of ten.
    const power = Math.pow(10, Math.floor(Math.log10(low))), above = Math.pow(10, Math.floor(Math.log10(high)));
    const range = [[5, 2, 1].find(d => d * power <= low) * power, [2, 5, 10].find(d => d * above >= high) * above];
    chart("search-latency", { height: 220, series: lines, table: [found.rate_per_s, ...columns], scale: { distr: 3, range: () => range }, tick: msTick, x: rates, cursor, plugins: [rule(bound)] });
    chart("search-rate", {
      height: 200, table: [found.rate_per_s, found.ok_per_s, found.rate_per_s], scale: upward(1.05), tick: plainTick, x: rates, cursor, plugins: [rule(null)],
      series: [{ label: "ok", color: "--c0", ...dots, say: v => plain(v) + "/s" }, { label: "requested", color: "--c8", dash: [2, 4], say: v => plain(v) + "/s" }],
    });
  }

  function controls() {
    options();
    const go = [["Whole run", 0, end]];
    if (data.load_s.length) go.push(["Load", data.load_s[0], data.load_s[1]]);
    for (const f of data.faults.slice(0, 50)) {
      const { from, to, steady } = when(f);
      if (from == null) continue;
      const until = Math.max(to, steady ?? 0), room = Math.max(1, (until - from) / 2);
      go.push(["Fault " + f.name, from - room, until + room]);
    }
    show.replaceChildren(make("option", "…"), ...go.map(([text], i) => {
      const o = make("option", text);
      o.value = i;
      return o;
    }));
    show.options[0].value = "";
    show.addEventListener("change", () => {
      if (show.value !== "") zoom(go[show.value][1], go[show.value][2]);
      show.value = "";
    });
    op.addEventListener("change", filter);
    node.addEventListener("change", filter);
    $("zoom-in").addEventListener("click", () => grow(0.5));
    $("zoom-out").addEventListener("click", () => grow(2));
    $("earlier").addEventListener("click", () => pan(-0.5));
    $("later").addEventListener("click", () => pan(0.5));
    $("whole").addEventListener("click", whole);
    slider.addEventListener("input", pointed);
    slider.addEventListener("focus", pointed);
    slider.addEventListener("keydown", e => {
      const act = { "+": () => grow(0.5), "=": () => grow(0.5), "-": () => grow(2), "0": whole }[e.key]
        || (e.shiftKey && { ArrowLeft: () => pan(-0.25), ArrowRight: () => pan(0.25) }[e.key]);
      if (!act || e.ctrlKey || e.metaKey || e.altKey) return;
      e.preventDefault();
      act();
      pointed();
    });
    figures.addEventListener("toggle", () => { if (figures.open) figuresTable(); });
    figures.hidden = !(data.at_s || []).length;
    document.querySelector(".controls").hidden = false;
  }

  const repaint = () => {
    inks.clear();
    for (const u of all) u.redraw(false, true);
  };
  function theme() {
    const button = $("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
    const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
    const name = () => { button.textContent = now() === "dark" ? "Light" : "Dark"; };
    button.addEventListener("click", () => {
      root.dataset.theme = now() === "dark" ? "light" : "dark";
      name();
      repaint();
    });
    dark.addEventListener("change", () => {
      name();
      repaint();
    });
    name();
    button.hidden = false;
  }
  theme();

  // What a link leads to is open.
  const reveal = () => {
    const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", e => {
    const a = e.target.closest && e.target.closest("a[href^='#']");
    if (a) setTimeout(reveal);
  });
  reveal();

  // The first paint does not wait for the charts.
  let drawn = false;
  function draw() {
    if (drawn) return;
    drawn = true;
    data = JSON.parse($("data").textContent);
    views = data.views || [];
    if (!views.length) views = [{ op: "", node: "", n: [0] }];
    view = views[0];
    end = data.end_s[0] || 1;
    shown = [0, end];
    search();
    events();
    throughput();
    errors();
    latency();
    inFlight();
    nodes("cpu", "cpu_percent", " %");
    nodes("rss", "rss_mib", " MiB");
    keys();
    distribution();
    controls();
    whole();
    for (const e of document.querySelectorAll(".scroll")) if (e.scrollWidth > e.clientWidth) e.tabIndex = 0;
    performance.mark("charts");
  }
  requestAnimationFrame(() => setTimeout(draw));

  const opened = [];
  addEventListener("beforeprint", () => {
    draw();
    printing = true;
    inks.clear();
    for (const d of document.querySelectorAll("main details:not([open]), header details:not([open])")) {
      if (d === figures) continue;
      d.open = true;
      opened.push(d);
    }
    root.dataset.printing = root.dataset.theme || "";
    root.dataset.theme = "light";
    for (const u of all) u.setSize({ width: 680, height: u.height });
    repaint();
  });
  addEventListener("afterprint", () => {
    printing = false;
    if (root.dataset.printing) root.dataset.theme = root.dataset.printing; else delete root.dataset.theme;
    for (const d of opened.splice(0)) d.open = false;
    for (const u of all) u.setSize({ width: Math.max(200, u.root.parentElement.clientWidth), height: u.height });
    repaint();
  });
})();

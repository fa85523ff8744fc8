"use strict";
// What the charts of every page share. A canvas knows no variables, so colours are
// looked up, once per theme: who changes the theme clears inks.
const probe = document.body.appendChild(document.createElement("span"));
probe.hidden = true;
const inks = new Map();
const ink = (name, alpha) => {
  if (!inks.has(name)) {
    probe.style.color = "var(" + name + ")";
    inks.set(name, getComputedStyle(probe).color);
  }
  const color = inks.get(name);
  return alpha == null ? color : color.replace("rgb(", "rgba(").replace(")", ", " + alpha + ")");
};

const round = v => v === 0 || v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
const ms = v => v == null ? "–" : v >= 1000 ? round(v / 1000) + " s" : v >= 1 ? round(v) + " ms" : (v * 1000).toFixed(0) + " µs";

"use strict";

// What the reader does: points, drags, presses keys, prints. Figures answer (plot.js), time is zoomed (zoom.js).
// Without any of it the page is complete.

const plots = new Map(); // by their SVG
const HELP = "Arrow keys read the values. Plus and minus zoom into time, 0 shows the whole run. " +
  "Number keys hide or show what the legend names.";
const SERIES = ["baseline", "candidate", "stable", "extra"]; // colors of data; others mark limits and outcomes

const help = made("p");
help.id = "plot-help";
help.hidden = true; // figures are described by it all the same
help.textContent = HELP;
const announced = made("p", "unseen");
announced.setAttribute("role", "status"); // read out when it changes, politely
const bar = made("div", "zoom");
bar.setAttribute("role", "region");
bar.setAttribute("aria-label", "The part of the run that the figures show");
bar.hidden = true;
const range = made("span");
bar.append(range, ...[
  ["Earlier", () => pan(-0.5)], ["Later", () => pan(0.5)], ["Closer", () => scale(0.5)], ["Wider", () => scale(2)],
  ["Whole run", () => show(null)],
].map(([name, act]) => {
  const button = made("button");
  button.type = "button";
  button.textContent = name;
  button.addEventListener("click", act);
  return button;
}));
bar.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays with the figure
document.body.append(help, announced, bar);

function begin() {
  for (const [svg, plot] of plots) if (!plot.box.isConnected) plots.delete(svg);
  for (const svg of document.querySelectorAll("svg.figure[data-plot]")) if (!plots.has(svg)) prepare(new Plot(svg));
  show(view);
}

function prepare(plot) {
  plots.set(plot.svg, plot);
  if (!plot.panel) return;
  const { box, svg } = plot;
  box.tabIndex = 0;
  // An application gets the arrow keys from a screen reader, which keeps them for itself otherwise.
  for (const [name, value] of [["role", "application"], ["aria-roledescription", "figure"],
    ["aria-label", svg.ariaLabel], ["aria-describedby", help.id]]) box.setAttribute(name, value);
  svg.ariaHidden = "true";
  box.classList.toggle("time", Boolean(plot.time));
  box.addEventListener("keydown", (event) => { if (pressed(plot, event)) event.preventDefault(); });
  box.addEventListener("focus", () => { bar.hidden = !view && !plot.time; });
  box.addEventListener("blur", (event) => {
    plot.hide();
    bar.hidden = !view && !bar.contains(event.relatedTarget);
  });
  followPointer(plot);
  for (const text of svg.querySelectorAll(".legend text")) {
    const color = plot.colorOf(text.textContent);
    if (!SERIES.includes(color)) continue;
    text.classList.add("choice");
    text.addEventListener("click", () => plot.toggle(color));
  }
}

function followPointer(plot) {
  const { box } = plot;
  let from = null; // where a drag began
  const chosen = drawn("rect", { class: "chosen" });
  const end = () => { from = null; chosen.remove(); };
  const panelOf = (y) => plot.panelAt(y, plot.panels.filter((panel) => panel.time));

  box.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest?.(".choice")) return;
    if (plot.time) from = plot.place(event);
    point(plot, event);
  });
  box.addEventListener("pointermove", (event) => {
    if (from) {
      const to = plot.place(event);
      const { box: [left, top, right, bottom] } = panelOf(from[1]);
      const edges = [from[0], to[0]].map((edge) => Math.max(left, Math.min(edge, right))).sort((a, b) => a - b);
      if (edges[1] - edges[0] > 4) {
        box.setPointerCapture(event.pointerId);
        const [x, width] = [edges[0], edges[1] - edges[0]];
        for (const [name, value] of Object.entries({ x, width, y: top, height: bottom - top })) {
          chosen.setAttribute(name, value);
        }
        plot.svg.append(chosen);
        plot.hide();
        return;
      }
    }
    point(plot, event);
  });
  box.addEventListener("pointerup", () => {
    if (chosen.isConnected) {
      const panel = panelOf(from[1]);
      const left = Number(chosen.getAttribute("x"));
      show([secondsAt(panel, left), secondsAt(panel, left + Number(chosen.getAttribute("width")))]);
    }
    end();
  });
  box.addEventListener("pointercancel", end);
  // A finger leaves at once; what it chose stays until it points elsewhere.
  box.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch" && !from) plot.hide(); });
  box.addEventListener("dblclick", () => { if (plot.time) show(null); });
}

function point(plot, event) {
  const place = plot.place(event);
  const panel = plot.panelAt(place[1]);
  const at = panel.nearest(place);
  if (at === null) plot.hide();
  else plot.choose(panel, at);
}

// Whether the key meant something to a figure.
function pressed(plot, { key, ctrlKey, altKey, metaKey }) {
  if (ctrlKey || altKey || metaKey) return false;
  if (key === "Escape") plot.hide();
  else if (plot.time && "+=".includes(key)) scale(0.5, plot);
  else if (plot.time && key === "-") scale(2, plot);
  else if (plot.time && key === "0") show(null);
  else if (/^[1-9]$/.test(key)) hideNumber(plot, Number(key) - 1);
  else return move(plot, key);
  return true;
}

function hideNumber(plot, number) {
  const color = [...new Set(plot.names.values())].filter((one) => SERIES.includes(one))[number];
  if (!color) return;
  plot.toggle(color);
  const names = [...plot.names.keys()].filter((name) => plot.names.get(name) === color).join(", ");
  announced.textContent = `${names} ${plot.off.has(color) ? "hidden" : "shown"}`;
}

// Left and right go through the values of a panel, up and down through panels; where a panel lists rows all four go
// through all of them.
function move(plot, name) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity }[name];
  if (!step) return false;
  const rows = plot.panel.by === "row";
  const every = plot.readable.filter((panel) => rows || panel === plot.panel)
    .flatMap((panel) => panel.inSight().map((at) => [panel, at]));
  if (!rows && ["ArrowUp", "ArrowDown"].includes(name) && plot.readable.length > 1) {
    const next = plot.readable[plot.readable.indexOf(plot.panel) + step] ?? plot.panel;
    const here = plot.at === null ? next.box[0] : plot.panel.shown(plot.at);
    const found = next.nearest([here, here]);
    if (found !== null) announced.textContent = plot.choose(next, found);
    return true;
  }
  const chosen = every.findIndex((one) => one[0] === plot.panel && one[1] === plot.at);
  const from = chosen < 0 && step < 0 ? every.length : chosen; // the first key enters at its end
  const at = Math.max(0, Math.min(from + step, every.length - 1));
  if (every.length) announced.textContent = plot.choose(...every[at]);
  return true;
}

// Show a part of the run, [from, to] in seconds, in all figures; null: all of it.
function show(wanted) {
  const before = view;
  const over = [...plots.values()].flatMap((plot) => plot.panels).filter((panel) => panel.time);
  view = wanted && over.length ? within(theTime(), ...wanted) : null;
  for (const panel of over) if (view || panel.parts) redraw(panel);
  for (const plot of plots.values()) if (plot.time && String(before) !== String(view)) plot.hide();
  bar.hidden = !view && ![...plots.values()].some(({ box, time }) => time && box === document.activeElement);
  const words = view ? `${inSeconds(view[0])} s to ${inSeconds(view[1])} s of the run` : "the whole run";
  range.textContent = words;
  if (String(before) !== String(view)) announced.textContent = `Shown: ${words}`;
}

// Wider or closer, around what was chosen in the figure, else around the middle.
function scale(factor, plot = null) {
  const [from, to] = view ?? theTime();
  const middle = (from + to) / 2;
  const chosen = plot?.panel.time && plot.at !== null ? secondsAt(plot.panel, plot.panel.shown(plot.at)) : middle;
  show([chosen - (chosen - from) * factor, chosen + (to - chosen) * factor]);
}

function pan(share) {
  const [from, to] = view ?? theTime();
  show([from + share * (to - from), to + share * (to - from)]);
}

function theTime() { return [...plots.values()].find((plot) => plot.time).time; }

// Printed pages cannot be clicked: all that is folded opens, the whole run is shown; afterwards it is as it was.
const opened = [];
let seen = null;
addEventListener("beforeprint", () => {
  seen = view;
  show(null);
  for (const details of document.querySelectorAll("details:not([open])")) {
    details.open = true;
    opened.push(details);
  }
});
addEventListener("afterprint", () => {
  for (const details of opened.splice(0)) details.open = false;
  show(seen);
});

document.addEventListener("content", begin);
begin();

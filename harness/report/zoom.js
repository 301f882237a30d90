"use strict";

// One part of the run, shown by all figures over time in step. Their drawings are moved and stretched along x: paths
// are written anew rather than transformed, so that lines keep their width and marks their shape.

let view = null; // [from, to] in seconds, or null: the whole run
const PAIR = /(-?[\d.]+) (-?[\d.]+)/g; // of coordinates in a path
const CLOSEST = 100; // times; the drawing has no more detail

function zoomed(panel, x) {
  if (!view) return x;
  const [left, right] = [panel.box[0], panel.box[2]];
  const [from, to] = view.map((seconds) => pixelOf(panel, seconds));
  return left + ((x - from) / (to - from)) * (right - left);
}

function pixelOf({ box, time }, seconds) {
  return box[0] + ((seconds - time[0]) / (time[1] - time[0])) * (box[2] - box[0]);
}

// The moment that is drawn at x.
function secondsAt({ box, time }, x) {
  const [from, to] = view ?? time;
  return from + ((x - box[0]) / (box[2] - box[0])) * (to - from);
}

// The part of `time` that was asked for: within the run, and not closer than the drawing allows.
function within(time, from, to) {
  const width = Math.min(time[1] - time[0], Math.max(to - from, (time[1] - time[0]) / CLOSEST));
  const begin = Math.max(time[0], Math.min((from + to - width) / 2, time[1] - width));
  return width < time[1] - time[0] ? [begin, begin + width] : null;
}

function redraw(panel) {
  panel.parts ??= parts(panel.group);
  const moved = (x) => zoomed(panel, Number(x));
  for (const [node, attribute, was] of panel.parts) {
    if (attribute === "x") node.setAttribute("x", moved(was));
    else if (attribute === "d") node.setAttribute("d", was.replace(PAIR, (_, x, y) => `${moved(x).toFixed(2)} ${y}`));
    else node.setAttribute("transform", `matrix(${moved(1) - moved(0)} 0 0 1 ${moved(0)} 0)`);
  }
  panel.group.querySelectorAll(".note").forEach((note, index) => moveNote(panel, note, panel.notes[index]));
  redrawTicks(panel);
}

// All that is clipped to the axes is data: [element, what to change, what it was].
function parts(group) {
  return Array.from(group.querySelectorAll("path[d][clip-path], [clip-path] path[d], [clip-path] use"), (node) => {
    if (node.localName === "path") return [node, "d", node.getAttribute("d")];
    // A mark is used at its place; an area is drawn at its place and used at 0.
    return Number(node.getAttribute("x")) === 0 ? [node, "transform"] : [node, "x", node.getAttribute("x")];
  });
}

// A stage's name stands in the middle of what is seen of the stage, if there is room.
function moveNote(panel, note, [begin, end]) {
  const [left, right] = [panel.box[0], panel.box[2]];
  const [from, to] = [Math.max(left, zoomed(panel, begin)), Math.min(right, zoomed(panel, end))];
  note.style.display = "";
  note.setAttribute("transform", `translate(${(from + to) / 2 - (begin + end) / 2} 0)`);
  const room = begin === end ? Infinity : to - from;
  if (from > to || (view && note.getBBox().width > room)) note.style.display = "none";
}

// Ticks as they were drawn, at new places: copies of one of them.
function redrawTicks(panel) {
  panel.group.querySelectorAll(".xtick.new").forEach((tick) => tick.remove());
  const ticks = panel.group.querySelectorAll(".xtick");
  for (const tick of ticks) tick.style.display = view ? "none" : "";
  if (!view || !ticks.length) return;
  const step = roundStep((view[1] - view[0]) / 5);
  for (let number = Math.ceil(view[0] / step); number * step <= view[1]; number++) {
    const tick = ticks[0].cloneNode(true);
    tick.classList.add("new");
    tick.style.display = "";
    tick.querySelector("defs")?.remove(); // the mark's shape is there once
    const x = zoomed(panel, pixelOf(panel, number * step));
    for (const node of tick.querySelectorAll("use, text")) {
      node.setAttribute("x", x);
      node.removeAttribute("transform");
    }
    for (const text of tick.querySelectorAll("text")) text.textContent = inSeconds(number * step, step);
    ticks[0].parentNode.append(tick);
  }
}

function roundStep(about) {
  const power = 10 ** Math.floor(Math.log10(about));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= about * 0.999);
}

// Digits enough to tell `step` apart; without it, what a figure's width can tell.
function inSeconds(seconds, step = view ? (view[1] - view[0]) / 200 : 0.1) {
  return (seconds || 0).toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
}

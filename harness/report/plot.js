"use strict";

// A figure that tells its values. They were written into its SVG (data-plot, see plotted.py) and are only looked up
// here: places are pixels of the SVG, values are words.

const hidden = new Map(); // colors that the reader hid, by the name of the figure: one drawn anew hides them again

class Plot {
  constructor(svg) {
    this.svg = svg;
    const groups = svg.querySelectorAll(".axes");
    this.panels = JSON.parse(svg.dataset.plot).map((panel, index) => new Panel(panel, groups[index]));
    this.readable = this.panels.filter((panel) => panel.stops.length);
    this.panel = this.readable[0];
    this.at = null; // what was chosen last, among the panel's stops
    this.off = hidden.get(svg.ariaLabel) ?? new Set();
    hidden.set(svg.ariaLabel, this.off);
    // Names in the legends and their colors.
    this.names = new Map(this.panels.flatMap((panel) => panel.lines.map(({ name, color }) => [name, color])));
    this.cross = drawn("g", { class: "cross" });
    svg.append(this.cross);
    this.tip = made("div", "tip");
    this.tip.ariaHidden = "true"; // what keys choose is announced instead
    this.tip.hidden = true;
    this.box = made("div", "plot");
    svg.before(this.box);
    this.box.append(svg, this.tip);
    this.mute();
  }

  get time() { return this.panels.find((panel) => panel.time)?.time; }

  // Pixels of the SVG from pixels of the window.
  place(event) {
    const shown = this.svg.getBoundingClientRect();
    const scale = this.svg.viewBox.baseVal.width / shown.width;
    return [(event.clientX - shown.left) * scale, (event.clientY - shown.top) * scale];
  }

  // Between two panels the one above counts, and beside them the first or the last.
  panelAt(y, among = this.readable) {
    return among.find((panel) => y <= panel.box[3]) ?? among.at(-1);
  }

  choose(panel, at) {
    this.panel = panel;
    this.at = at;
    const values = panel.read(at, this.off);
    const head = panel.head(at, values);
    this.mark(panel, values);
    this.tell(panel, head, values);
    return `${head}: ${values.map(({ name, said }) => (name ? `${name} ${said}` : said)).join(", ") || "no value"}`;
  }

  mark(panel, values) {
    const along = panel.by === "x" ? panel.shown(this.at) : this.at;
    const lines = panel.time ? this.panels.filter((one) => one.time) : [panel];
    this.cross.replaceChildren(
      ...lines.map(({ box: [left, top, right, bottom] }) => drawn("line", panel.by === "x"
        ? { x1: along, x2: along, y1: top, y2: bottom } : { x1: left, x2: right, y1: along, y2: along })),
      ...values.filter((value) => value.color).map(({ to, at, color }) => drawn("circle", {
        cx: panel.by === "x" ? panel.shown(at) : to, cy: panel.by === "x" ? to : at, r: 3.2,
        style: `fill: var(--${color})`,
      })),
    );
  }

  tell(panel, head, values) {
    const title = made("strong");
    title.textContent = head;
    this.tip.replaceChildren(title, ...values.map(({ name, said, color }) => {
      const row = made("span");
      if (color) {
        const key = made("i");
        key.style.background = `var(--${color})`;
        row.append(key);
      }
      row.append(name ? `${name}: ${said}` : said);
      return row;
    }));
    this.tip.hidden = false;
    // Beside what it tells, on the side with more room, and never out of the figure.
    const scale = this.svg.clientWidth / this.svg.viewBox.baseVal.width;
    const x = scale * (panel.by === "x" ? panel.shown(this.at) : (values[0]?.to ?? panel.box[2]));
    const room = this.box.clientWidth;
    const width = this.tip.offsetWidth;
    const left = x < room / 2 ? x + 12 : x - width - 12;
    this.tip.style.left = `${Math.max(0, Math.min(left, room - width))}px`;
    this.tip.style.top = panel.by === "row" ? `${scale * this.at + 12}px` : `${scale * panel.box[1]}px`;
  }

  hide() {
    this.tip.hidden = true;
    this.cross.replaceChildren();
  }

  // A color is an arm, or one of several devices: its lines, points and bars go together.
  toggle(color) {
    if (!this.off.delete(color)) this.off.add(color);
    this.mute();
    this.hide();
  }

  mute() {
    this.svg.dataset.off = [...this.off].join(" ");
    for (const text of this.svg.querySelectorAll(".legend text")) {
      text.classList.toggle("off", this.off.has(this.colorOf(text.textContent)));
    }
  }

  // A legend may name an arm alone, where lines say what they are of it.
  colorOf(name) {
    return this.names.get(name) ?? [...this.names].find(([line]) => line.startsWith(`${name} `))?.[1];
  }
}

class Panel {
  constructor({ box, title, by, at, head, said, lines = [], axis = "", time, notes = [] }, group) {
    Object.assign(this, { box, title, by, lines, axis, time, notes, group });
    this.rows = by === "row" ? at.map((place, index) => ({ at: place, head: head[index], said: said[index] })) : [];
    const places = by === "row" ? at : lines.flatMap((line) => line.at);
    this.stops = [...new Set(places)].sort((a, b) => a - b);
    for (const line of lines) {
      // A point speaks for its surroundings, as far as halfway to the next: where a line has a gap it is silent.
      const gaps = line.at.slice(1).map((place, index) => Math.abs(place - line.at[index])).sort((a, b) => a - b);
      line.reach = Math.max(1, (gaps[gaps.length >> 1] ?? 0) / 2 + 0.1);
    }
  }

  // Where a place is drawn while a part of the run is shown (zoom.js).
  shown(x) { return this.time ? zoomed(this, x) : x; }

  inSight() {
    if (!this.time) return this.stops;
    return this.stops.filter((x) => this.shown(x) >= this.box[0] - 0.1 && this.shown(x) <= this.box[2] + 0.1);
  }

  nearest([x, y]) {
    const wanted = this.by === "x" ? x : y;
    const far = (stop) => Math.abs((this.by === "x" ? this.shown(stop) : stop) - wanted);
    return this.inSight().reduce((best, stop) => (best === null || far(stop) < far(best) ? stop : best), null);
  }

  // What is there to say at one of the stops: the nearest point of each line.
  read(at, off) {
    if (this.by === "row") return this.rows.filter((row) => row.at === at).map(({ said }) => ({ said }));
    const found = [];
    for (const { name, color, at: places, to, said, head, reach } of this.lines) {
      if (off.has(color)) continue;
      const far = places.map((place) => Math.abs(place - at));
      const index = far.indexOf(Math.min(...far));
      if (far[index] <= reach) {
        found.push({ name, color, at: places[index], to: to[index], said: said[index], head: head?.[index] });
      }
    }
    return found;
  }

  head(at, values) {
    if (this.by === "row") return this.rows.find((row) => row.at === at).head;
    if (!this.time) return `${this.axis}: ${values[0]?.head ?? ""}`;
    return (this.title ? `${this.title}, ` : "") + `${inSeconds(secondsAt(this, this.shown(at)))} s`;
  }
}

function drawn(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function made(name, kind = "") {
  const node = document.createElement(name);
  node.className = kind;
  return node;
}

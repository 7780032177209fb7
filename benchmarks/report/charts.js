// ---- Elements: every text enters as a text node, so that nothing of the data is ever read as markup

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
const h = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

// ---- Numbers

const known = (value) => typeof value === "number" && Number.isFinite(value);

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(1).replace("e+", "e").replace(/-/g, "\u2212");
  return value.toLocaleString("en-US", { maximumSignificantDigits: size >= 1000 ? 6 : 3 }).replace("-", "\u2212");
}
const signed = (value, digits = 3) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(digits);

function linearTicks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

function logTicks(low, high) {
  for (const factors of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      ticks.push(...factors.map((factor) => factor * 10 ** power).filter((tick) => tick >= low && tick <= high));
    }
    if (ticks.length > 2) return ticks;
  }
  return [low, high];
}

// An axis from the values that lie on it. `log` asks for a logarithm, which needs positive values.
function axis({ values, label, log = false, include = [], margin = 0.05, low = null, high = null }) {
  const all = [...values, ...include].filter((value) => known(value) && (!log || value > 0));
  let from = low ?? Math.min(...all), to = high ?? Math.max(...all);
  if (!all.length) [from, to] = [log ? 1 : 0, log ? 10 : 1];
  if (log) {
    const room = margin * Math.log(to / from) || 0.2;
    return { label, log, from: from * Math.exp(-room), to: to * Math.exp(room) };
  }
  const room = margin * (to - from) || Math.abs(to) * 0.1 || 0.5;
  return { label, log, from: low ?? from - room, to: high ?? to + room };
}

// ---- A frame with axes

// Charts two a line are wider than those three a line, except on a narrow screen, where each takes a line of its own.
const NARROW = 420, WIDE = matchMedia("(min-width: 45rem)").matches ? 500 : NARROW;

function frame({ x, y, description, width, height = 250, left = 52, top = 10 }) {
  const right = width - 14, bottom = height - 40;
  const place = (axis, start, end) => {
    const scale = axis.log ? Math.log : Number;
    const [low, high] = [scale(axis.from), scale(axis.to)];
    return (value) => start + ((scale(value) - low) / (high - low)) * (end - start);
  };
  const X = place(x, left, right), Y = place(y, bottom, top);
  const ticks = (axis, count) => (axis.log ? logTicks(axis.from, axis.to) : linearTicks(axis.from, axis.to, count));
  const node = s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": description });
  for (const tick of ticks(x, 6)) {
    node.append(s("g", { class: "tick" },
      s("line", { x1: X(tick), x2: X(tick), y1: top, y2: bottom }),
      s("text", { x: X(tick), y: bottom + 15, "text-anchor": "middle" }, short(tick))));
  }
  if (!y.hidden) {
    for (const tick of ticks(y, 5)) {
      node.append(s("g", { class: "tick" },
        s("line", { x1: left, x2: right, y1: Y(tick), y2: Y(tick) }),
        s("text", { x: left - 6, y: Y(tick) + 4, "text-anchor": "end" }, short(tick))));
    }
    node.append(s("text", { class: "axis", x: 12, y: (top + bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 12 ${(top + bottom) / 2})` }, y.label));
  }
  node.append(s("path", { class: "border", d: `M${left} ${top}V${bottom}H${right}` }));
  node.append(s("text", { class: "axis", x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, x.label));
  return { node, X, Y, left, right, top, bottom };
}

// ---- Markers, which tell the methods apart without colour

const SHAPES = ["circle", "square", "triangle", "diamond", "plus", "down", "cross", "star"];
const DASHES = [null, "7 3", "2 3", "9 3 2 3", "5 5", "12 4", "4 2", "1 4"];

function marker(shape, x, y, r, cls) {
  const polygon = (...points) => `M${points.map(([dx, dy]) => `${x + dx * r} ${y + dy * r}`).join("L")}Z`;
  const paths = {
    circle: () => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
    square: () => polygon([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]),
    triangle: () => polygon([0, -1.15], [1.1, 0.85], [-1.1, 0.85]),
    down: () => polygon([0, 1.15], [1.1, -0.85], [-1.1, -0.85]),
    diamond: () => polygon([0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]),
    plus: () => `M${x - r} ${y}H${x + r}M${x} ${y - r}V${y + r}`,
    cross: () => `M${x - r * 0.8} ${y - r * 0.8}l${r * 1.6} ${r * 1.6}M${x - r * 0.8} ${y + r * 0.8}l${r * 1.6} ${-r * 1.6}`,
    star: () => `M${x} ${y - r}V${y + r}M${x - r * 0.87} ${y - r / 2}l${r * 1.74} ${r}M${x - r * 0.87} ${y + r / 2}l${r * 1.74} ${-r}`,
  };
  const stroked = ["plus", "cross", "star"].includes(shape) ? " stroked" : "";
  return s("path", { class: `marker${stroked} ${cls || ""}`, d: paths[shape]() });
}

// ---- Lines

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

// The mean of each value and some before it, a fortieth of all.
function runningMean(points) {
  const window = Math.max(Math.floor(points.length / 40), 1);
  return points.slice(window - 1).map(([x], i) => {
    const part = points.slice(i, i + window);
    return [x, part.reduce((sum, [, y]) => sum + y, 0) / window];
  });
}

/* A chart of lines. Each of `series` has `points` of [x, y] and may have `cls` and `dash` for the look, `shape` to put
   markers on the line (`every` point if `dots`), `name` for a tooltip, `band` of [x, low, high], `smooth`. */
function lineChart({ title, note, series, x, y, width = NARROW, log = false, low = null, high = null, level = null }) {
  const drawn = series.map((one) => ({ ...one, points: one.points.filter((p) => known(p[0]) && known(p[1]) && (!log || p[1] > 0)) }))
    .filter((one) => one.points.length);
  const caption = h("figcaption", null, title, note && h("small", null, note));
  if (!drawn.length) return h("figure", null, caption, h("p", { class: "quiet" }, "Not measured."));
  if (drawn.every((one) => one.points.length === 1)) { // a dot shows nothing
    const told = drawn.map((one) => `${one.name} ${short(one.points[0][1])} (${x} ${short(one.points[0][0])})`);
    return h("figure", null, caption, h("p", { class: "quiet" }, `Measured once: ${told.join(", ")}.`));
  }
  const xs = drawn.flatMap((one) => one.points.map((p) => p[0]));
  const ys = drawn.flatMap((one) => [...one.points.map((p) => p[1]), ...(one.band || []).flatMap((b) => [b[1], b[2]])]);
  const f = frame({
    x: axis({ values: xs, label: x, margin: 0.02 }),
    y: axis({ values: ys, label: y, log, low, high, include: level === null ? [] : [level] }),
    description: `${title}: ${y} by ${x}, for ${drawn.map((one) => one.name).join(", ")}`,
    width,
  });
  if (level !== null) f.node.append(s("line", { class: "zero", x1: f.left, x2: f.right, y1: f.Y(level), y2: f.Y(level) }));
  for (const one of drawn) {
    const at = ([px, py]) => [f.X(px), f.Y(py)];
    const group = s("g", { class: one.cls }, one.name && s("title", null, one.name));
    if (one.band && one.band.length > 1) {
      const upper = one.band.map((b) => at([b[0], b[2]])), lower = one.band.map((b) => at([b[0], b[1]])).reverse();
      group.append(s("path", { class: "band", d: `${path([...upper, ...lower])}Z` }));
    } else if (one.band && one.band.length) { // a band of no width would not be seen
      const [bx, low, high] = one.band[0];
      group.append(s("line", { class: "whisker", x1: f.X(bx), x2: f.X(bx), y1: f.Y(low), y2: f.Y(high) }));
    }
    const line = one.smooth ? runningMean(one.points) : one.points;
    if (line.length < one.points.length) group.append(s("path", { class: "faint", d: path(one.points.map(at)) }));
    group.append(s("path", { class: `line ${one.thin ? "thin" : ""}`, d: path(line.map(at)), "stroke-dasharray": one.dash }));
    if (one.shape) {
      const step = one.dots && line.length <= 30 ? 1 : Math.max(Math.ceil(line.length / 6), 1);
      const first = Math.floor(((line.length - 1) % step) / 2);
      for (let i = first; i < line.length; i += step) group.append(marker(one.shape, ...at(line[i]), 3.4));
    }
    f.node.append(group);
  }
  return h("figure", null, caption, f.node);
}

function legend(entries, points = false) {
  return h("ul", { class: "legend" }, entries.map(({ name, cls, shape, dash }) => h("li", null,
    s("svg", { class: `key ${points ? "point" : ""} ${cls}`, viewBox: points ? "10 0 14 14" : "0 0 34 14", "aria-hidden": "true" },
      points ? null : s("path", { class: "line", d: "M1 7H33", "stroke-dasharray": dash }),
      shape ? marker(shape, 17, 7, 4) : null), name)));
}

// ---- Labels that keep clear of each other

function labeller(f) {
  const taken = [];
  const width = (text) => 6.6 * text.length;
  const free = (box) => box[0] >= f.left && box[2] <= f.right + 8 && box[1] >= 0 && box[3] <= f.bottom
    && taken.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
  return {
    take(x, y, r) { taken.push([x - r, y - r, x + r, y + r]); },
    // Each of `spots` is [x, baseline, anchor]; the first that is free is used, else the text is left to the legend.
    put(text, spots) {
      const cut = text.length > 26 ? `${text.slice(0, 25)}\u2026` : text;
      const boxes = spots.map(([x, y, anchor]) => {
        const start = x - { start: 0, middle: width(cut) / 2, end: width(cut) }[anchor];
        return [start, y - 10, start + width(cut), y + 3];
      });
      const chosen = boxes.findIndex(free);
      if (chosen < 0) return;
      taken.push(boxes[chosen]);
      const [x, y, anchor] = spots[chosen];
      f.node.append(s("text", { class: "name", x, y, "text-anchor": anchor }, cut, s("title", null, text)));
    },
  };
}

// ---- Quality against cost

/* `points`: {name, cls, shape, cost: [mean, half width], quality: [mean, half width]}, of which the interval of quality
   is drawn within `bounds`. `front`: names of those that no other beats in both, cheapest first. */
function scatterChart({ title, points, front, x, y, better, bounds }) {
  const caption = h("figcaption", null, title);
  if (points.length < 2) {
    const why = points.length ? `Only ${points[0].name} was trained and measured: there is nothing to weigh it against.` : "No method was trained and measured.";
    return h("figure", null, caption, h("p", { class: "quiet" }, why));
  }
  const [least, most] = bounds.map((bound, i) => bound ?? [-Infinity, Infinity][i]);
  const ends = ([mean, half]) => [Math.max(mean - (half || 0), least), Math.min(mean + (half || 0), most)];
  const costs = points.map((p) => p.cost[0]);
  const log = Math.min(...costs) > 0 && Math.max(...costs) > 6 * Math.min(...costs);
  const f = frame({
    x: axis({ values: costs, label: log ? `${x}, logarithmic` : x, log, include: log ? [] : [0], margin: 0.08, low: log ? null : 0 }),
    y: axis({ values: points.flatMap((p) => ends(p.quality)), label: y, margin: 0.08 }),
    description: `${title}. ${points.map((p) => `${p.name}: ${short(p.quality[0])} at ${short(p.cost[0])}`).join("; ")}. Beaten by no other in both: ${front.join(", ")}.`,
    width: WIDE, height: 320,
  });
  const labels = labeller(f), at = (p) => [f.X(p.cost[0]), f.Y(p.quality[0])];
  for (const p of points) labels.take(...at(p), 7);
  const corner = front.map((name) => points.find((p) => p.name === name)).filter(Boolean);
  if (corner.length) {
    const worst = better === "low" ? f.top : f.bottom;
    const steps = [`M${at(corner[0])[0]} ${worst}`, ...corner.flatMap((p) => [`H${at(p)[0]}`, `V${at(p)[1]}`]), `H${f.right}`];
    f.node.append(s("path", { class: "front", d: steps.join("") }));
  }
  for (const p of points) {
    const [cx, cy] = at(p), [low, high] = ends(p.quality);
    const group = s("g", { class: p.cls }, s("title", null, `${p.name}: ${short(p.quality[0])} at ${short(p.cost[0])}`));
    if (high > low) group.append(s("line", { class: "whisker", x1: cx, x2: cx, y1: f.Y(low), y2: f.Y(high) }));
    group.append(marker(p.shape, cx, cy, 6));
    f.node.append(group);
  }
  for (const p of [...corner, ...points.filter((p) => !corner.includes(p))]) {
    const [cx, cy] = at(p);
    labels.put(p.name, [[cx + 10, cy + 4, "start"], [cx - 10, cy + 4, "end"], [cx + 10, cy - 8, "start"], [cx - 10, cy - 8, "end"],
      [cx + 10, cy + 17, "start"], [cx - 10, cy + 17, "end"], [cx, cy - 14, "middle"], [cx, cy + 22, "middle"]]);
  }
  return h("figure", null, caption, f.node);
}

// ---- Differences with their intervals

function forestChart({ title, rows, x }) {
  const height = 56 + 26 * rows.length;
  const f = frame({
    x: axis({ values: rows.flatMap((row) => [row.difference, row.low, row.high]), label: x, include: [0], margin: 0.06 }),
    y: { from: rows.length - 0.5, to: -0.5, hidden: true, label: "" },
    description: `${title}. ${rows.map((row) => `${row.name}: ${short(row.difference)}${known(row.low) ? `, 95 % interval ${short(row.low)} to ${short(row.high)}` : ""}`).join("; ")}.`,
    width: WIDE, height, left: 170,
  });
  f.node.append(s("line", { class: "zero", x1: f.X(0), x2: f.X(0), y1: f.top, y2: f.bottom }));
  rows.forEach((row, i) => {
    const y = f.Y(i), cut = row.name.length > 24 ? `${row.name.slice(0, 23)}\u2026` : row.name;
    const group = s("g", { class: row.cls }, s("title", null, row.name));
    group.append(s("text", { x: f.left - 8, y: y + 4, "text-anchor": "end" }, cut));
    if (known(row.low) && known(row.high)) group.append(s("path", { class: "whisker", fill: "none",
      d: `M${f.X(row.low)} ${y - 4}v8M${f.X(row.low)} ${y}H${f.X(row.high)}M${f.X(row.high)} ${y - 4}v8` }));
    group.append(marker(row.shape, f.X(row.difference), y, 5));
    f.node.append(group);
  });
  return h("figure", null, h("figcaption", null, title), f.node);
}

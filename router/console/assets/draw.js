// Nodes and pictures. Text becomes text nodes and nothing else, whoever wrote it.
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const filled = (node, attributes, children) => {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, what] of Object.entries(value)) node.addEventListener(event, what);
    else if (name === "data") for (const [field, what] of Object.entries(value)) node.dataset[field] = String(what);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
};
const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);
const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const put = (node, ...children) => node.replaceChildren(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
// A name that others wrote: whole in its title, short where it stands.
const named = (text, most = 40) => h("bdi", { class: "name", title: clean(text, 400) }, clean(text, most));
const tag = (kind) => kind && h("span", { class: "kind", data: { kind } }, WORDS[prefs.lang][kind] ? t(kind) : clean(kind, 24));
const tags = (kinds) => kinds.map(tag);
// A figure with the number that it stands for, as it came.
const figure = (name, value, text, unit = "") => h("span", { class: "fig", data: { figure: name, value: value ?? "" }, title: finite(value) ? String(value) : null }, text, unit && h("small", null, "\u202f" + unit));
const gramsFigure = (name, value) => { const [text, unit] = quantity(value, "g"); return figure(name, value, text, unit); };

// From clean to dirty: blue over grey to orange, which all can tell apart, lighter in between.
const RAMP = [[24, 110, 140], [104, 150, 160], [168, 166, 146], [204, 150, 80], [184, 98, 30]];
const shade = (value, least, most) => {
  if (!finite(value)) return "var(--muted)";
  const part = most > least ? (value - least) / (most - least) : 0;
  const place = Math.min(Math.max(part, 0), 1) * (RAMP.length - 1);
  const low = Math.min(Math.floor(place), RAMP.length - 2);
  const mix = RAMP[low].map((from, i) => Math.round(from + (RAMP[low + 1][i] - from) * (place - low)));
  return `rgb(${mix.join(" ")})`;
};

// "M x y L x y ..."; null breaks the line.
const lineOf = (points) => {
  let path = "", pen = "M";
  for (const point of points) {
    if (point === null) { pen = "M"; continue; }
    path += `${pen}${point[0].toFixed(1)} ${point[1].toFixed(1)}`;
    pen = "L";
  }
  return path;
};
const between = (upper, lower) => (upper.length ? `${lineOf(upper)}L${lineOf([...lower].reverse()).slice(1)}Z` : "");

// The line of a grid zone: observed behind, forecast with its band ahead; 0 is the floor.
const outlookPaths = (zone, now, most, width = 480, height = 58) => {
  const y = (value) => height - 2 - (Math.min(value, most) / most) * (height - 4);
  const mid = width / 2, hour = width / 48;
  const ahead = zone.ahead;
  const start = ahead ? ahead.start : Math.floor(now / 3600) * 3600;
  const x = (at) => mid + ((at - start) / 3600) * hour;
  const past = (zone.past?.g || []).map((value, i) => (value === null ? null : [x(zone.past.start + 3600 * (i + 0.5)), y(value)]));
  const middle = (i) => x(ahead.start + 3600 * (i + 0.5));
  const points = ahead ? ahead.g.map((value, i) => [middle(i), y(value)]) : [];
  const high = ahead ? ahead.high.map((value, i) => [middle(i), y(value)]) : [];
  const low = ahead ? ahead.low.map((value, i) => [middle(i), y(value)]) : [];
  const known = past.filter((point) => point !== null);
  const floor = known.map(([at]) => [at, height]);
  const came = (zone.came?.g || []).map((value, i) => (value === null ? null : [x(zone.came.start + 3600 * (i + 0.5)), y(value)]));
  return { came: lineOf(came), past: lineOf(past), ahead: lineOf(points), band: between(high, low), under: between(known, floor), now: x(now) };
};

const download = (name, rows) => {
  const url = URL.createObjectURL(new Blob(["\ufeff", csv(rows)], { type: "text/csv" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
};
const meter = (part, marks = []) => h("span", { class: "meter" }, (() => {
  const bar = h("i", { class: "bar" });
  bar.style.width = `${Math.min(Math.max(part, 0), 1) * 100}%`;
  return bar;
})(), marks.map(([at, name, late]) => {
  const mark = h("i", { class: `mark ${name}${late ? " late" : ""}` });
  mark.style.left = `${Math.min(Math.max(at, 0), 1) * 100}%`;
  return mark;
}));

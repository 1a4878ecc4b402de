// Figures and names as people read them. What is not known is a dash, never 0.
const finite = (value) => typeof value === "number" && Number.isFinite(value);
const formats = new Map();
const format = (options) => {
  const key = prefs.lang + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(prefs.lang, options));
  return formats.get(key);
};
const number = (value, digits = 3) => {
  if (!finite(value)) return t("none");
  if (Math.abs(value) >= 1000) return format({ maximumFractionDigits: 0 }).format(value);
  return format({ minimumSignificantDigits: value && digits > 1 ? digits : 1, maximumSignificantDigits: digits }).format(value);
};
const count = (value) => (finite(value) ? format({ maximumFractionDigits: 0 }).format(value) : t("none"));
const share = (value, digits = 1) => {
  if (!finite(value)) return t("none");
  // 99.96 % is not 100 %.
  const floor = Math.floor(value * 100 * 10 ** digits) / 10 ** digits;
  return `${format({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value < 1 ? floor : value * 100)} %`;
};
const SCALES = {
  g: [["t", 1e6], ["kg", 1e3], ["g", 1], ["mg", 1e-3], ["µg", 1e-6]],
  W: [["MW", 1e6], ["kW", 1e3], ["W", 1], ["mW", 1e-3]],
  J: [["MWh", 3.6e9], ["kWh", 3.6e6], ["Wh", 3.6e3], ["J", 1], ["mJ", 1e-3]],
  ms: [["s", 1e3], ["ms", 1]],
};
// [number, unit]; `suffix` such as "/s".
const quantity = (value, unit, suffix = "") => {
  if (!finite(value)) return [t("none"), ""];
  const scales = SCALES[unit];
  const size = Math.abs(value);
  const [name, by] = value === 0 ? [unit, 1] : scales.find(([, least]) => size >= least) || scales[scales.length - 1];
  return [number(value / by), name + suffix];
};
const said = (value, unit, suffix = "") => quantity(value, unit, suffix).join("\u202f").trim();
const grams = (value) => said(value, "g");
const duration = (value) => said(value, "ms");

// What others wrote: short, and nothing in it moves or hides what stands beside it.
// eslint-disable-next-line no-control-regex
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
const clean = (text, most = 120) => {
  const plain = String(text ?? "").replace(UNSEEN, "\ufffd");
  return plain.length > most ? plain.slice(0, most - 1) + "…" : plain;
};

const times = new Map();
const timed = (at, options) => {
  if (!finite(at)) return t("none");
  const key = prefs.lang + prefs.zone + JSON.stringify(options);
  if (!times.has(key)) {
    const zone = prefs.zone === "utc" ? { timeZone: "UTC" } : {};
    times.set(key, new Intl.DateTimeFormat(prefs.lang === "en" ? "en-GB" : "ko", { ...options, ...zone }));
  }
  return times.get(key).format(new Date(at * 1000));
};
const zoneName = () => (prefs.zone === "utc" ? "UTC" : Intl.DateTimeFormat().resolvedOptions().timeZone);
const clockTime = (at) => timed(at, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayTime = (at) => timed(at, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const hourOf = (at) => timed(at, { hour: "2-digit", hourCycle: "h23" });

// By how much less than another: −24 % of what that would be.
const change = (now, then) => {
  if (!finite(now) || !finite(then) || !(then > 0)) return NaN;
  return now / then - 1;
};
const signed = (value) => {
  if (!finite(value)) return t("none");
  if (Math.abs(value) < 0.0005) return "0 %";
  return `${value < 0 ? "−" : "+"}${format({ maximumSignificantDigits: 3 }).format(Math.abs(value) * 100)} %`;
};

// Of sums by kind, the kinds that make up nearly all of it, largest first.
const mainKinds = (sums) => {
  const entries = Object.entries(sums || {}).sort((a, b) => b[1] - a[1]);
  const total = entries.reduce((sum, [, value]) => sum + value, 0);
  const found = [];
  let so_far = 0;
  for (const [kinds, value] of entries) {
    for (const kind of kinds.split("/")) if (!found.includes(kind)) found.push(kind);
    so_far += value;
    if (so_far >= 0.99 * total) break;
  }
  return found;
};

// A cell of CSV: what a spreadsheet would take for a formula is text.
const cell = (value) => {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  let text = String(value);
  if (/^[=+\-@\t\r]/.test(text)) text = "'" + text;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = (rows) => rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";

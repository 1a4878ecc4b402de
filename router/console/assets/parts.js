// The parts of the page, each drawn from what the feed last said.
// What is known, of now or of some other time, and which of it is drawn.
const blank = () => ({ fleet: null, grid: null, tick: null, deferred: null, history: [], decisions: new Map(), flows: new Map(), own: [], ownRates: null });
const live = blank();
let seen = live;
// How it is looked at. `past`: which moment is drawn instead of now, and how that is known.
const view = { held: false, all: false, open: "", drawn: false, past: null };
const STATES = ["healthy", "ejected", "probing"];
const SHOWN_STATES = ["awake", "idle", "probing", "ejected"];
const FEW = 16;
// Height of a lane, with its line.
const LANE = 71;
const MOST_DECISIONS = 400;
const SHOWN_DECISIONS = 16;

const zoneOf = (region) => seen.grid?.zones[region.zone] || {};
const intensityOf = (region) => zoneOf(region).now?.g ?? NaN;
const mostOf = (zones) => Object.values(zones).reduce((most, zone) => Math.max(most, zone.now?.high || 0, ...(zone.ahead?.high || []), ...(zone.past?.g || []).map((value) => value || 0), ...(zone.came?.g || []).map((value) => value || 0)), 1);

// The cleanest and the dirtiest that there is now: between them colours are spread.
const rangeOf = () => {
  const known = seen.fleet.regions.map(intensityOf).filter(finite);
  return [Math.min(...known), Math.max(...known)];
};

// ------------------------------------------------------------------ the answer
const drawAnswer = () => {
  const { tick } = seen;
  const totals = tick.totals, own = tick.own;
  const rates = tick.rates || seen.ownRates || {};
  const first = rates.gco2e_g_per_s + rates.saved_g_per_s;
  const less = change(rates.gco2e_g_per_s, first);
  const kinds = totals || tick.kinds;
  const known = kinds ? mainKinds(kinds.grams_kinds) : [];
  const [amount, unit] = quantity(rates.gco2e_g_per_s, "g", "/s");
  put(byId("rate"), figure("rates.gco2e_g_per_s", rates.gco2e_g_per_s, amount, unit));
  put(byId("rate-under"), tags(known), finite(rates.watts) && h("span", null, said(rates.watts, "W") + " IT"));
  const saved = byId("saved");
  put(saved, figure("rates.saved_g_per_s", rates.saved_g_per_s, signed(less)));
  saved.dataset.sign = less > 0.0005 ? "more" : "less";
  put(byId("saved-under"), finite(rates.saved_g_per_s) && h("span", null, t(rates.saved_g_per_s < 0 ? "more_than" : "less_than", { x: said(Math.abs(rates.saved_g_per_s), "g", "/s") })), tags(kinds ? mainKinds(kinds.saved_kinds) : []));
  put(byId("met"), figure("rates.budgets_met", rates.budgets_met, share(rates.budgets_met)));
  put(byId("met-under"), finite(rates.budgets_met) ? [tag("measured"), h("span", null, t("of_budgets"))] : t("no_budgets"));
  drawSums(totals, own);
  drawPulse();
};
const drawSums = (totals, own) => {
  const sum = (word, value, more) => h("div", null, h("dt", null, t(word)), h("dd", null, value, more || null));
  if (seen.tick.sums) { drawPastSums(sum, seen.tick.sums); return; }
  if (!totals) {
    put(byId("sums"), own && [sum("sum_own", figure("own.requests", own.requests, count(own.requests))), sum("sum_emitted", gramsFigure("own.gco2e_g", own.gco2e_g)), sum("sum_saved", gramsFigure("own.saved_g", own.saved_g))]);
    return;
  }
  const net = totals.saved_g - totals.excess_g;
  const [energy, unit] = quantity(totals.energy_j, "J");
  const refused = Object.values(totals.refused).reduce((a, b) => a + b, 0);
  put(byId("sums"),
    sum("sum_emitted", gramsFigure("totals.gco2e_g", totals.gco2e_g)),
    sum("sum_saved", gramsFigure("totals.net_saved_g", net), totals.gco2e_g + net > 0 ? h("small", null, ` ${share(net / (totals.gco2e_g + net))} ${t("of_it")}`) : null),
    sum("sum_energy", figure("totals.energy_j", totals.energy_j, energy, unit), [" ", tags(mainKinds(totals.joules_kinds))]),
    sum("sum_requests", figure("totals.answered", totals.requests.OK || 0, count(totals.requests.OK || 0))),
    refused ? sum("sum_refused", figure("totals.refused", refused, count(refused))) : null,
    totals.unaccounted ? sum("sum_unaccounted", figure("totals.unaccounted", totals.unaccounted, count(totals.unaccounted))) : null);
};
const drawPulse = () => {
  const svg = byId("pulse"), rows = seen.history;
  if (rows.length < 2) { put(svg); return; }
  const end = rows[rows.length - 1][0], span = Math.max(60, Math.min(300, end - rows[0][0]));
  const most = rows.reduce((top, [, emitted, saved]) => Math.max(top, emitted, emitted + saved), 1e-12) * 1.08;
  const x = (at) => 600 * (1 - (end - at) / span), y = (value) => 120 - (120 * Math.max(value, 0)) / most;
  const shown = rows.filter(([at]) => end - at <= span);
  const emitted = shown.map(([at, value]) => [x(at), y(value)]);
  const first = shown.map(([at, value, saved]) => [x(at), y(value + saved)]);
  const floor = shown.map(([at]) => [x(at), 120]);
  if (!svg.firstChild) put(svg, s("path", { class: "gap-area" }), s("path", { class: "emitted" }), s("path", { class: "first-line" }), s("path", { class: "emit-line" }));
  const [gap, area, dashed, line] = svg.children;
  gap.setAttribute("d", between(first, emitted));
  area.setAttribute("d", between(emitted, floor));
  dashed.setAttribute("d", lineOf(first));
  line.setAttribute("d", lineOf(emitted));
  const [, last, saved] = rows[rows.length - 1];
  svg.setAttribute("aria-label", t("spoken", { a: said(last, "g", "/s"), b: signed(change(last, last + saved)), c: byId("met").textContent }));
  say(byId("pulse-max"), `0 – ${said(most, "g", "/s")}`);
  say(byId("pulse-span"), t("last_minutes", { n: count(span / 60) }));
};

// ------------------------------------------------------------------ lanes
const lanes = new Map();
let order = [], orderedAt = 0;
const replicasOf = () => {
  const found = new Map();
  seen.fleet.endpoints.forEach((endpoint, i) => {
    const [state, inFlight, isAwake, cause] = seen.tick.endpoints[i] || [0, 0, false, ""];
    if (!found.has(endpoint.region)) found.set(endpoint.region, []);
    const shown = state === null ? "unknown" : state === 1 ? "ejected" : state === 2 ? "probing" : isAwake ? "awake" : "idle";
    found.get(endpoint.region).push({ endpoint, shown, state: STATES[state], inFlight, cause });
  });
  return found;
};
const makeLane = (region) => {
  const open = h("button", { type: "button", on: { click: () => go({ region: region.name }) } }, named(region.name, 28));
  const lane = {
    row: h("tr", { data: { region: clean(region.name) } }),
    value: h("b"), kind: h("div"), rate: h("b"), grams: h("span", { class: "replica-text" }), bar: h("i", { class: "bar" }), dots: h("div", { class: "dots" }), text: h("div", { class: "replica-text" }), moved: h("span"),
    past: s("path", { class: "past" }), ahead: s("path", { class: "ahead" }), band: s("path", { class: "band" }), under: s("path", { class: "under-past" }), at: s("line", { class: "at", y1: 0, y2: 58 }), came: s("path", { class: "came" }),
  };
  lane.svg = s("svg", { class: "outlook", viewBox: "0 0 480 58", preserveAspectRatio: "none", role: "img" }, s("line", { x1: 0, x2: 480, y1: 57.5, y2: 57.5 }), lane.under, lane.band, lane.past, lane.ahead, lane.came, lane.at);
  put(lane.row, h("th", { scope: "row" }, open, h("span", null, clean(region.zone, 24))),
    h("td", { class: "num now" }, lane.value, lane.kind), h("td", { class: "hours" }, lane.svg), h("td", { class: "moved" }, lane.moved),
    h("td", { class: "traffic-cell" }, lane.rate, " ", lane.grams, h("span", { class: "meter" }, lane.bar)), h("td", { class: "replicas-cell" }, lane.dots, lane.text));
  return lane;
};
const drawOutlook = (lane, region, most, range) => {
  const zone = zoneOf(region);
  const paths = outlookPaths(zone, seen.grid.now, most);
  for (const name of ["past", "ahead", "band", "under", "came"]) lane[name].setAttribute("d", paths[name]);
  const colour = shade(intensityOf(region), ...range);
  lane.past.style.stroke = lane.ahead.style.stroke = lane.came.style.stroke = lane.under.style.fill = colour;
  lane.at.setAttribute("x1", paths.now); lane.at.setAttribute("x2", paths.now);
  const ahead = zone.ahead?.g || [];
  lane.svg.setAttribute("aria-label", `${clean(region.name)}: ${number(intensityOf(region))} g/kWh; ${t("forecast")} ${ahead.length ? `${number(Math.min(...ahead))} – ${number(Math.max(...ahead))}` : t("unknown")}`);
};
const drawAxis = () => {
  const start = Math.floor(seen.grid.now / 3600) * 3600, marks = [];
  for (let hour = -24; hour < 24; hour += 1) if ((((start + hour * 3600) / 3600) % 6 + 6) % 6 === 0) {
    const mark = h("i", null, hourOf(start + hour * 3600));
    mark.style.left = `${50 + (hour * 100) / 48}%`;
    marks.push(mark);
  }
  put(byId("axis"), marks);
};
const drawGrid = () => {
  if (!seen.fleet || !seen.grid) return;
  const most = mostOf(seen.grid.zones), range = rangeOf();
  for (const region of seen.fleet.regions) {
    if (!lanes.has(region.name)) lanes.set(region.name, makeLane(region));
    const lane = lanes.get(region.name), now = zoneOf(region).now;
    put(lane.value, figure(`intensity.${region.zone}`, now?.g, number(now?.g ?? NaN)));
    put(lane.kind, tag(now ? now.kind : "unknown"), now?.stale ? [" ", h("span", { class: "bad" }, t("stale"))] : null);
    drawOutlook(lane, region, most, range);
  }
  drawAxis();
};
const busyOf = (name) => seen.tick.rates?.regions[name]?.requests_per_s ?? 0;
const arrange = () => {
  const sorted = [...seen.fleet.regions].sort((a, b) => (intensityOf(a) || Infinity) - (intensityOf(b) || Infinity));
  const shown = view.all || sorted.length <= FEW ? sorted : sorted.filter((region, i) => i < FEW || busyOf(region.name) > 0).slice(0, 3 * FEW);
  const names = shown.map((region) => region.name);
  const more = byId("lanes-all");
  more.hidden = seen.fleet.regions.length <= FEW;
  say(more, view.all ? t("few_regions") : t("all_regions", { n: count(seen.fleet.regions.length) }));
  if (names.join("\n") === order.join("\n") || (order.length === names.length && Date.now() - orderedAt < 4000)) return;
  orderedAt = Date.now();
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches || names.length > 40;
  const before = calm ? null : new Map(order.map((name) => [name, lanes.get(name)?.row.offsetTop]));
  order = names;
  put(byId("lane-rows"), names.map((name) => lanes.get(name).row));
  if (before) for (const name of names) {
    const { row } = lanes.get(name), was = before.get(name);
    if (was !== undefined && was !== row.offsetTop) row.animate([{ transform: `translateY(${was - row.offsetTop}px)` }, { transform: "none" }], { duration: 500, easing: "ease-out" });
  }
};
const drawLanes = () => {
  if (!seen.fleet || !seen.grid || !seen.tick) return;
  arrange();
  const replicas = replicasOf(), busiest = Math.max(...order.map(busyOf), 1e-9);
  for (const name of order) {
    const lane = lanes.get(name), rates = seen.tick.rates?.regions[name];
    put(lane.rate, figure(`rates.regions.${name}.requests_per_s`, rates?.requests_per_s ?? 0, number(rates?.requests_per_s ?? 0), t("per_s")));
    say(lane.grams, rates ? said(rates.gco2e_g_per_s, "g", "/s") : "");
    lane.bar.style.width = `${(100 * busyOf(name)) / busiest}%`;
    drawReplicas(lane, replicas.get(name) || []);
  }
  drawArcs();
};
const drawReplicas = (lane, found) => {
  const counts = {};
  for (const one of found) counts[one.shown] = (counts[one.shown] || 0) + 1;
  const told = [...SHOWN_STATES, "unknown"].filter((state) => counts[state]).map((state) => `${count(counts[state])} ${t(state)}`).join(", ");
  const sign = found.length <= 24 ? found.map((one) => one.shown[0]).join("") : told;
  if (lane.sign !== sign + prefs.lang) {
    lane.sign = sign + prefs.lang;
    put(lane.dots, found.length <= 24 ? found.map((one) => h("i", { class: "dot", data: { state: one.shown }, title: clean(one.endpoint.name) })) : []);
    say(lane.text, told);
  }
};
// Smoothed over ticks: what moves is told by widths, not by flicker.
const takeFlows = ({ flows }, { rows, seconds }) => {
  if (!(seconds > 0)) return;
  const keep = Math.exp(-seconds / 8);
  for (const flow of flows.values()) flow.rate *= keep;
  for (const [from, to, requests, , saved] of rows) {
    const id = `${from}\n${to}`;
    const flow = flows.get(id) || { from, to, rate: 0, saved: 0 };
    flow.rate += ((1 - keep) * requests) / seconds;
    flow.saved = saved;
    flows.set(id, flow);
  }
  for (const [id, flow] of flows) if (flow.rate < 1e-3) flows.delete(id);
};
const drawArcs = () => {
  const moving = [...seen.flows.values()].filter((flow) => flow.from !== flow.to && flow.rate > 0.02).sort((a, b) => b.rate - a.rate).slice(0, 40);
  const place = new Map(order.map((name, i) => [name, i]));
  const most = Math.max(...moving.map((flow) => flow.rate), 1e-9);
  const svg = byId("arcs"), column = byId("lane-rows").querySelector("td.moved");
  for (const name of order) {
    const came = moving.filter((flow) => flow.to === name);
    say(lanes.get(name).moved, came.slice(0, 3).map((flow) => t("moved_from", { n: number(flow.rate, 2) + t("per_s"), x: clean(flow.from, 28) })).join(", "));
  }
  if (!column) return;
  svg.style.left = `${column.offsetLeft}px`;
  svg.style.height = `${order.length * LANE}px`;
  const shown = moving.filter((flow) => place.has(flow.from) && place.has(flow.to));
  const signs = shown.map((flow) => `${place.get(flow.from)}-${place.get(flow.to)}-${Math.round((8 * flow.rate) / most)}`).join();
  if (svg.dataset.signs === signs) return;
  svg.dataset.signs = signs;
  put(svg, shown.map((flow, i) => {
    const from = place.get(flow.from) * LANE + LANE / 2, to = place.get(flow.to) * LANE + LANE / 2;
    const reach = 24 + Math.min(62, Math.abs(from - to) * 0.22) + (i % 3) * 3;
    const path = `M14 ${from}C${14 + reach} ${from} ${14 + reach} ${to} 14 ${to}`;
    return [s("path", { d: path, "stroke-width": (0.8 + (7 * flow.rate) / most).toFixed(1), opacity: 0.22 }), s("path", { class: "flow", d: path, "stroke-width": 3 }), s("circle", { cx: 14, cy: to, r: 3.5 })];
  }));
};

// ------------------------------------------------------------------ latency, budgets, errors
const drawLatency = () => {
  const models = seen.tick.latency.models.slice(0, 8);
  if (!models.length) { put(byId("latency"), h("p", { class: "none" }, t("no_latency"))); return; }
  const row = (model, word, field) => {
    const took = model[`${field}_ms`], budget = model[`${field}_budget`];
    if (!took) return null;
    const most = 1.15 * Math.max(took[1], budget?.least_ms || 0), late = budget && took[1] > budget.least_ms;
    const line = meter(took[1] / most, [[took[0] / most, "median", false], ...(budget ? [[budget.least_ms / most, "limit", late]] : [])]);
    if (late) line.classList.add("late");
    return h("div", { class: "row" }, h("span", null, t(word)), line, h("span", { class: "said" },
      `${t("median")} ${duration(took[0])}, ${t("p95")} ${duration(took[1])}`, budget ? `; ${t("budget")} ${duration(budget.least_ms)}, ${t("kept", { x: share(budget.met / (budget.met + budget.missed)) })}` : ""));
  };
  put(byId("latency"), models.map((model) => h("div", { class: "item" }, h("h3", null, named(model.model), " ", tag("measured")), row(model, "ttft", "ttft"), row(model, "e2e_short", "e2e"))));
};
const drawBudgets = () => {
  const budgets = seen.tick.budgets;
  if (!budgets) { put(byId("budgets"), h("p", { class: "none" }, t("not_kept"))); return; }
  if (!budgets.length) { put(byId("budgets"), h("p", { class: "none" }, t("no_budget_accounts"))); return; }
  put(byId("budgets"), budgets.slice(0, 12).map((one) => {
    const name = one.name === null ? t("others") : one.per === "fleet" ? t("fleet") : named(one.name, 32);
    const used = one.limit_g > 0 ? one.spent_g / one.limit_g : 1, bar = meter(used, []);
    if (used >= 0.9) bar.classList.add("late");
    return h("div", { class: "item" }, h("h3", null, named(one.budget, 32), " · ", name, one.shadow ? [" ", tag("shadow")] : null), h("div", { class: "row" }, h("span", null, t("spent")), bar,
      h("span", { class: "said" }, gramsFigure(`budgets.${one.budget}.${one.name}.spent_g`, one.spent_g), ` ${t("of_limit", { x: grams(one.limit_g) })}; ${grams(one.left_g)} ${t("left")}`)));
  }));
};
const drawErrors = () => {
  if (!seen.grid) return;
  if (Object.values(seen.grid.zones).some((zone) => zone.came)) { drawCame(); return; }
  const rows = [];
  for (const [zone, { errors }] of Object.entries(seen.grid.zones)) for (const [lead, one] of Object.entries(errors || {})) rows.push([zone, lead, one]);
  if (!rows.length) { put(byId("errors"), h("p", { class: "none" }, t("no_errors"))); return; }
  const least = (one, name) => one[name] === Math.min(one.published, one.own, one.used);
  put(byId("errors"), h("p", { class: "told" }, t("error_note"), " ", tag("measured")), h("table", { class: "small-table" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, t("zone")), h("th", { scope: "col" }), ["published", "own", "used"].map((name) => h("th", { scope: "col", class: "num" }, t(name))))),
    h("tbody", null, rows.slice(0, 24).map(([zone, lead, one]) => h("tr", null, h("th", { scope: "row" }, clean(zone, 24)), h("td", null, t("lead", { n: lead })),
      ["published", "own", "used"].map((name) => h("td", { class: "num" }, figure(`errors.${zone}.${lead}.${name}`, one[name], least(one, name) ? h("b", null, number(one[name])) : number(one[name])))))))));
};

// ------------------------------------------------------------------ decisions
const takeDecisions = ({ decisions }, rows) => {
  // The oldest first; one that is told again keeps its place.
  for (const row of rows) decisions.set(row.key, row);
  for (const key of decisions.keys()) {
    if (decisions.size <= MOST_DECISIONS) break;
    decisions.delete(key);
  }
};
const notesOf = (row) => [row.refusal && t("refused_for", { x: clean(row.refusal, 40) }), row.kind === "moved" && `${t("attempt")} ${row.attempt}`, ...(row.relaxed || []).map((rung) => `${t("relaxed")}: ${clean(rung, 24)}`), ...(row.flags || []).map((flag) => clean(flag, 40))].filter(Boolean).join(", ");
const drawDecisions = () => {
  if (view.held) return;
  const rows = [...seen.decisions.values()].slice(-SHOWN_DECISIONS).reverse(), body = byId("decision-rows");
  if (!rows.length) { put(body, h("tr", null, h("td", { colspan: 9, class: "none" }, t("no_decisions")))); return; }
  const focused = document.activeElement?.closest?.("tr")?.dataset.key;
  put(body, rows.map((row) => {
    const less = row.refusal ? NaN : change(row.gco2e_g, row.latency_first.gco2e_g);
    return h("tr", { data: { key: row.key }, "aria-current": view.open === row.key ? "true" : null },
      h("td", null, h("button", { type: "button", "aria-label": `${clockTime(row.at)}: ${t("open_it", { x: clean(row.id || row.key) })}`, on: { click: () => go({ decision: row.id || row.key }) } }, clockTime(row.at))),
      h("td", null, named(row.model, 28)), h("td", null, named(row.origin || t("none"), 20)), h("td", null, row.refusal ? h("span", { class: "bad" }, t("nobody")) : named(row.endpoint, 28)),
      h("td", { class: "num" }, row.refusal ? t("none") : grams(row.gco2e_g)), h("td", { class: `num ${less < -0.0005 ? "less" : less > 0.0005 ? "more" : ""}` }, row.refusal ? t("none") : signed(less)),
      h("td", { class: "num" }, row.receipt ? gramsFigure(`receipt.${row.id}`, row.receipt.gco2e_g) : t("none")),
      row.receipt || row.refusal ? h("td", { class: "num" }, row.receipt ? duration(row.receipt.e2e_ms) : t("none")) : h("td", { class: "num soon", title: t("predicted") }, `≤ ${duration(row.e2e_ms)}`), h("td", null, notesOf(row)));
  }));
  if (focused) body.querySelector(`tr[data-key="${CSS.escape(focused)}"] button`)?.focus();
};

// What is opened, what is asked, and how it all begins.
// The address names what is open and which moment: `what` changes some of it, null takes it out.
const OPENED = ["decision", "region", "what-if"];
const named_in = () => Object.fromEntries(location.hash.slice(1).split("&").filter(Boolean).map((one) => {
  const [name, value] = one.split("=");
  try { return [name, decodeURIComponent(value || "")]; } catch { return [name, ""]; }
}));
const hashOf = (names) => Object.entries(names).filter(([, value]) => value).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
const go = (what) => {
  const names = named_in();
  if (OPENED.some((name) => what[name])) for (const name of OPENED) delete names[name];
  const hash = hashOf({ ...names, ...what });
  if (location.hash.slice(1) === hash) opened();
  else if (hash) location.hash = hash;
  else { history.replaceState(null, "", location.pathname + location.search); opened(); }
};
const fact = (word, value) => value !== null && value !== undefined && value !== "" && value !== false && h("div", null, h("dt", null, t(word)), h("dd", null, value));
let returnTo = null, drawerRows = null;

const show = (title, rows, ...body) => {
  const drawer = byId("drawer");
  if (drawer.hidden) returnTo = document.activeElement;
  put(byId("drawer-title"), title);
  put(byId("drawer-body"), body);
  drawerRows = rows;
  byId("drawer-csv").hidden = !rows;
  const was = drawer.hidden;
  drawer.hidden = false;
  if (was) byId("drawer-title").focus();
};
const shut = () => {
  if (byId("drawer").hidden) return;
  byId("drawer").hidden = true;
  view.open = "";
  const { at } = named_in();
  if (location.hash) history.replaceState(null, "", location.pathname + location.search + (at ? `#${hashOf({ at })}` : ""));
  returnTo?.isConnected && returnTo.focus();
  drawDecisions();
};

// Each term of a candidate's cost, in the order of the colours.
const termsOf = (one, weights) => {
  const parts = [weights.per_gco2e * one.gco2e, weights.per_gco2e * one.premium_g, weights.per_ttft_ms * one.ttft_ms, weights.per_e2e_ms * one.e2e_ms].map((part) => (finite(part) ? part : 0));
  const rest = one.cost - parts.reduce((a, b) => a + b, 0);
  return [...parts, rest > 1e-9 * Math.abs(one.cost) ? rest : 0];
};
const TERMS = ["term_grams", "term_premium", "term_ttft", "term_e2e", "term_rest"];
const stackOf = (one, weights, most) => h("span", { class: "stack" }, termsOf(one, weights).map((part, i) => {
  const bar = h("i", { class: `c${i}`, title: `${t(TERMS[i])}: ${number(part, 4)}` });
  bar.style.width = `${(100 * part) / most}%`;
  return bar;
}));
const storyOf = (row, told) => {
  if (row.refusal) return [t("refused_for", { x: clean(told.refusal || row.refusal, 300) })];
  const reasons = Object.entries(told.by_exclusion).filter(([reason]) => reason).map(([reason, n]) => t("excluded_for", { n: count(n), x: t(reason) }));
  const dearer = (told.by_exclusion[""] || 0) - 1;
  if (dearer > 0) reasons.unshift(t("cost_more", { n: count(dearer) }));
  const first = row.latency_first, same = first.endpoint === row.endpoint;
  return [t("why_went", { x: clean(row.endpoint), g: grams(row.gco2e_g) }), same ? t("it_is_nearest") : t("would_emit", { x: clean(first.endpoint), g: grams(first.gco2e_g), d: signed(change(row.gco2e_g, first.gco2e_g)) }), " ", reasons.length ? t("lost_by", { x: reasons.join(", ") }) : ""];
};
const openDecision = async (id) => {
  const { status, body } = recorded ? recorded.decision(id) : await askAny(`/console/decisions/${encodeURIComponent(id)}`, (reply) => reply.status !== 404, live.fleet?.processes);
  if (named_in().decision !== id) return;
  if (status !== 200) { show(t("id"), null, h("p", { class: "none" }, t(recorded ? "gone_recorded" : "gone"))); return; }
  const { decision: row, explanation: told, otherwise } = body, receipt = row.receipt;
  view.open = row.key;
  drawDecisions();
  const most = Math.max(...told.candidates.map((one) => (one.cost === null ? 0 : termsOf(one, told.weights).reduce((a, b) => a + b, 0))), 1e-12);
  const columns = ["rank", "endpoint", "region", "cost", "terms", "why", "grams", "intensity", "premium", "energy", "ttft", "e2e_short", "load"];
  const kinds = [...new Set(told.candidates.map((one) => one.profile_provenance))];
  const line = (one) => h("tr", { class: one.excluded ? "out" : one.endpoint === row.endpoint ? "won" : null },
    h("td", null, one.rank ?? ""), h("td", null, named(one.endpoint, 28)), h("td", null, named(one.region, 22)),
    h("td", { class: "num" }, one.cost === null ? t("none") : number(one.cost, 4)), h("td", null, one.cost === null ? null : stackOf(one, told.weights, most)), h("td", null, one.excluded ? t(one.excluded) : one.endpoint === row.endpoint ? t("chosen") : ""),
    h("td", { class: "num" }, gramsFigure(`candidate.${one.endpoint}.gco2e`, one.gco2e)), h("td", null, number(one.g_per_kwh), " ", tag(one.intensity?.kind || "unknown")), h("td", { class: "num" }, grams(one.premium_g)), h("td", { class: "num" }, said(one.energy_j, "J"), kinds.length > 1 ? [" ", tag(one.profile_provenance)] : null),
    h("td", { class: "num" }, duration(one.ttft_ms)), h("td", { class: "num" }, duration(one.e2e_ms)), h("td", { class: "num" }, `${number(one.batch, 2)}/${count(one.max_in_flight)}`));
  const limits = ["ttft", "tpot", "e2e"].filter((name) => finite(told.budget[`${name}_ms`])).map((name) => `${name.toUpperCase()} ${duration(told.budget[`${name}_ms`])}`).join(", ");
  const rows = [["rank", "endpoint", "region", "grid_zone", "g_per_kwh", "gco2e", "premium_g", "energy_j", "ttft_ms", "tpot_ms", "e2e_ms", "batch", "max_in_flight", "cost", "excluded"], ...told.candidates.map((one) => [one.rank, one.endpoint, one.region, one.grid_zone, one.g_per_kwh, one.gco2e, one.premium_g, one.energy_j, one.ttft_ms, one.tpot_ms, one.e2e_ms, one.batch, one.max_in_flight, one.cost, one.excluded])];
  show([t("id"), " ", named(row.id || row.key, 60)], rows, h("p", { class: "story" }, storyOf(row, told)), otherwise?.length ? h("p", { class: "told bad" }, t("otherwise", { x: clean(otherwise.join(", "), 200) })) : null,
    h("dl", { class: "facts" }, fact("at", `${dayTime(row.at)} ${zoneName()}`), fact("model", named(row.model, 80)), fact("variant", row.variant && `${clean(row.variant, 80)} (${row.quality})`), fact("policy", clean(row.policy)), fact("origin", row.origin && named(row.origin, 60)), fact("tenant", row.tenant && named(row.tenant, 60)), fact("request", row.request_id && named(row.request_id, 80)),
      fact("limits", limits || t("none")), fact("attempt", row.kind === "moved" && row.attempt), fact("relaxed", clean((row.relaxed || []).join(", "))), fact("flags", clean((row.flags || []).join(", "))), fact("chance", share(row.probability, 2)),
      fact("receipt", receipt ? [grams(receipt.gco2e_g), ", ", said(receipt.energy_j, "J"), " ", tag(receipt.energy_kind), `, ${duration(receipt.e2e_ms)} `, tag("measured")] : row.refusal ? "" : t("no_receipt"))),
    h("div", { class: "keys" }, tag("predicted"), kinds.length === 1 ? h("span", null, `${t("energy")}: `, tag(kinds[0])) : null, TERMS.map((term, i) => h("span", null, h("i", { class: `c${i}` }), t(term)))),
    h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": t("terms") }, h("table", { class: "rows" }, h("thead", null, h("tr", null, columns.map((word) => h("th", { scope: "col" }, t(word))))), h("tbody", null, told.candidates.map(line)))),
    told.not_shown ? h("p", { class: "none" }, t("not_shown", { n: count(told.not_shown) })) : null);
};
const openRegion = (name) => {
  const region = seen.fleet?.regions.find((one) => one.name === name);
  if (!region || !seen.grid || !seen.tick) return;
  const zone = zoneOf(region), now = zone.now, most = mostOf({ zone });
  const paths = outlookPaths(zone, seen.grid.now, most, 480, 160);
  const found = replicasOf().get(name) || [], colour = shade(now?.g ?? NaN, ...rangeOf());
  const past = s("path", { d: paths.past }), ahead = s("path", { class: "ahead", d: paths.ahead });
  const came = s("path", { class: "came", d: paths.came });
  past.style.stroke = ahead.style.stroke = came.style.stroke = colour;
  const rows = [["endpoint", "state", "in_flight", "cause", "models"], ...found.map((one) => [one.endpoint.name, one.state, one.inFlight, one.cause, one.endpoint.models.join(" ")])];
  show(named(name, 60), rows, h("p", { class: "story" }, number(now?.g ?? NaN), " g/kWh ", tag(now?.kind || "unknown"), now ? ` (${number(now.low)} – ${number(now.high)}) ` : ""),
    s("svg", { class: "outlook big-outlook", viewBox: "0 0 480 160", preserveAspectRatio: "none", role: "img", "aria-label": t("hours") }, s("path", { class: "band", d: paths.band }), past, ahead, came, s("line", { class: "at", x1: paths.now, x2: paths.now, y1: 0, y2: 160 })), zone.came ? h("p", { class: "told" }, t("came_key")) : h("div", { id: "met" }),
    h("dl", { class: "facts" }, fact("zone", clean(region.zone)), fact("pue", number(region.pue)), fact("source", now && clean(now.source, 160)), fact("observed", now && `${dayTime(now.observed_at)} ${zoneName()}`)),
    h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": t("endpoints_of") }, h("table", { class: "rows" }, h("thead", null, h("tr", null, ["endpoint", "state", "in_flight", "models", "cause"].map((word) => h("th", { scope: "col" }, t(word))))),
      h("tbody", null, found.slice(0, 400).map((one) => h("tr", null, h("td", null, named(one.endpoint.name)), h("td", null, t(one.shown)), h("td", { class: "num" }, figure(`in_flight.${one.endpoint.name}`, one.inFlight, finite(one.inFlight) ? count(one.inFlight) : t("none"))), h("td", null, one.endpoint.models.map((model) => [named(model, 28), " "])), h("td", null, clean(one.cause, 40))))))));
  openMet(region.zone).catch(() => {});
};
const openMet = async (zone) => {
  if (recorded || view.past) return;
  const { status, body } = await ask(`/console/forecasts?zone=${encodeURIComponent(zone)}`);
  if (status !== 200 || !byId("met")) return;
  put(byId("met"), Object.entries(body.met).filter(([, hours]) => hours.length).map(([lead, hours]) => metOf(zone, lead, hours, body.errors[lead])));
};
const opened = () => {
  const { at, decision, region, "what-if": policy } = named_in();
  const time = at && !recorded ? timeOf(at) : NaN;
  if (finite(time) && view.past?.at !== time) showPast(time);
  else if (!finite(time) && view.past) toLive();
  if (decision) openDecision(decision).catch(() => show(t("id"), null, h("p", { class: "none" }, t("no_gateway"))));
  else if (region) openRegion(region);
  else if (policy && !recorded) { byId("if-policy").value = policy; if (byId("if-policy").value === policy) tryPolicy(); } else shut();
};

// ------------------------------------------------------------------ what if
const tryPolicy = async () => {
  const policy = byId("if-policy").value, told = byId("if-told"), button = byId("if-form").querySelector("button");
  put(told, h("p", { class: "none" }, t("working")));
  button.disabled = true;
  try {
    const { status, body } = await askAny(`/console/what-if?policy=${encodeURIComponent(policy)}`, (reply) => reply.status !== 200 || reply.body.decisions, seen.fleet?.processes);
    if (status !== 200) put(told, h("p", { class: "none bad" }, clean(body.error, 300)));
    else put(told, body.decisions ? effectOf(body, policy) : h("p", { class: "none" }, t("if_none")));
  } catch { put(told, h("p", { class: "none" }, t("no_gateway"))); } finally { button.disabled = false; }
};
const effectOf = ({ effect }, policy) => {
  const all = effect.total, moved = all.elsewhere, now = t("if_now", { x: policy });
  const less = change(all.grams_now, all.grams_then);
  const row = (word, then, after, more) => h("tr", null, h("th", { scope: "row" }, word), h("td", { class: "num" }, then), h("td", { class: "num" }, after), h("td", { class: "num" }, more || ""));
  const both = ([median, high]) => `${duration(median)} / ${duration(high)}`;
  const most = Math.max(...effect.regions.flatMap((one) => [one.requests_then, one.requests_now]), 1);
  return h("div", { class: "effect" }, h("p", { class: "lead" }, signed(less), " ", t("grams").toLowerCase(), ". ", t("if_moved", { x: share(moved.share), n: count(all.requests) }), ". ", tag("predicted")),
    h("div", null, h("p", { class: "told" }, t("interval", { a: share(moved.low), b: share(moved.high) })), h("table", { class: "small-table" }, h("thead", null, h("tr", null, h("td"), h("th", { scope: "col", class: "num" }, t("if_then")), h("th", { scope: "col", class: "num" }, clean(now, 40)), h("td"))),
      h("tbody", null, row(t("grams"), grams(all.grams_then), grams(all.grams_now), signed(less)), row(t("if_energy"), said(all.energy_then_j, "J"), said(all.energy_now_j, "J"), signed(change(all.energy_now_j, all.energy_then_j))), row(t("if_ttft"), both(all.ttft_then_ms), both(all.ttft_now_ms)), row(t("if_refused"), count(all.refused_then), count(all.refused_now)))),
    h("p", { class: "told" }, effect.notes.map((note) => clean(note, 300)).join("; "))),
    h("div", null, h("h3", { class: "told" }, t("if_region")), effect.regions.slice(0, 16).map((one) => h("div", { class: "row" }, named(one.region, 22), h("span", null, meter(one.requests_now / most, [[one.requests_then / most, "limit", false]]), h("span", { class: "said" }, `${count(one.requests_then)} → ${count(one.requests_now)}`))))));
};

// ------------------------------------------------------------------ CSV of what is shown
const SHEETS = {
  lanes: () => {
    const replicas = replicasOf();
    return [["region", "grid_zone", "g_per_kwh", "low", "high", "kind", "source", "requests_per_s", "gco2e_g_per_s", "busy", "idle", "probing", "out"], ...order.map((name) => {
      const region = seen.fleet.regions.find((one) => one.name === name), now = zoneOf(region).now, rates = seen.tick.rates?.regions[name], found = replicas.get(name) || [];
      return [name, region.zone, now?.g, now?.low, now?.high, now?.kind, now?.source, rates?.requests_per_s ?? 0, rates?.gco2e_g_per_s ?? 0, ...["awake", "idle", "probing", "ejected"].map((state) => found.filter((one) => one.shown === state).length)];
    })];
  },
  latency: () => [["model", "requests", "ttft_median_ms", "ttft_p95_ms", "ttft_budget_ms", "ttft_met", "ttft_missed", "e2e_median_ms", "e2e_p95_ms", "e2e_budget_ms", "e2e_met", "e2e_missed"], ...seen.tick.latency.models.map((one) => [one.model, one.requests, one.ttft_ms?.[0], one.ttft_ms?.[1], one.ttft_budget?.least_ms, one.ttft_budget?.met, one.ttft_budget?.missed, one.e2e_ms?.[0], one.e2e_ms?.[1], one.e2e_budget?.least_ms, one.e2e_budget?.met, one.e2e_budget?.missed])],
  budgets: () => [["budget", "per", "name", "limit_g", "spent_g", "reserved_g", "left_g", "on_exhausted", "shadow"], ...(seen.tick.budgets || []).map((one) => [one.budget, one.per, one.name, one.limit_g, one.spent_g, one.reserved_g, one.left_g, one.on_exhausted, one.shadow])],
  errors: () => Object.values(seen.grid.zones).some((zone) => zone.came) ? [["grid_zone", "hour", "forecast_g_per_kwh", "low", "high", "came_g_per_kwh"], ...Object.entries(seen.grid.zones).flatMap(([zone, { ahead, came }]) => (ahead?.g || []).map((value, i) => [zone, new Date((ahead.start + 3600 * i) * 1000).toISOString(), value, ahead.low[i], ahead.high[i], came?.g[i]]))] : [["grid_zone", "lead_hours", "hours", "published_g_per_kwh", "own_g_per_kwh", "used_g_per_kwh"], ...Object.entries(seen.grid.zones).flatMap(([zone, { errors }]) => Object.entries(errors).map(([lead, one]) => [zone, Number(lead), one.hours, one.published, one.own, one.used]))],
  deferred: () => [["hour", "region", "requests"], ...(seen.deferred?.cells || []).map(([hour, region, jobs]) => [new Date(hour * 1000).toISOString(), region, jobs])],
  decisions: () => [["id", "at", "kind", "attempt", "model", "tenant", "origin", "endpoint", "region", "predicted_gco2e_g", "latency_first_endpoint", "latency_first_gco2e_g", "ttft_ms", "e2e_ms", "refusal", "flags", "probability", "receipt_gco2e_g", "receipt_energy_j", "receipt_e2e_ms"], ...[...seen.decisions.values()].map((row) => [row.id, new Date(row.at * 1000).toISOString(), row.kind, row.attempt, row.model, row.tenant, row.origin, row.endpoint, row.region, row.gco2e_g, row.latency_first?.endpoint, row.latency_first?.gco2e_g, row.ttft_ms, row.e2e_ms, row.refusal, (row.flags || []).join(" "), row.probability, row.receipt?.gco2e_g, row.receipt?.energy_j, row.receipt?.e2e_ms])],
};

// ------------------------------------------------------------------ the rest
const drawTop = () => {
  const { fleet, tick } = seen;
  document.documentElement.lang = prefs.lang;
  document.documentElement.dataset.theme = prefs.theme;
  for (const node of document.querySelectorAll("[data-word]")) say(node, t(view.past && WORDS[prefs.lang][`${node.dataset.word}_then`] ? `${node.dataset.word}_then` : node.dataset.word));
  for (const node of document.querySelectorAll(".csv")) { say(node, t("csv")); const title = node.closest(".card, .drawer")?.querySelector("h2")?.textContent; node.setAttribute("aria-label", `${t("csv")}: ${title}`); }
  say(byId("theme"), t(`theme_${prefs.theme}`)); say(byId("zone"), t(`zone_${prefs.zone}`)); say(byId("lang"), t("lang")); say(byId("drawer-close"), t("close")); say(byId("hold"), t(view.held ? "go_on" : "hold"));
  byId("lang").setAttribute("lang", prefs.lang === "en" ? "ko" : "en");
  say(byId("link"), t(view.past ? "past" : byId("link").dataset.state));
  say(byId("kinds"), t("kinds_note"));
  put(byId("lane-legend"), SHOWN_STATES.map((state) => h("span", null, h("i", { class: "dot", data: { state } }), t(state))));
  if (!fleet) return;
  say(byId("policy"), clean(fleet.policy, 40));
  const notices = [fleet.emulated !== "none" && t("emulated_fleet"), !fleet.is_all && t("scope", { x: clean(fleet.scope) }), fleet.processes > 1 && t("processes", { n: fleet.processes })].filter(Boolean);
  byId("notice").hidden = !notices.length;
  say(byId("notice"), notices.join(" "));
  const select = byId("if-policy");
  if (select.dataset.names !== fleet.policies.join()) {
    select.dataset.names = fleet.policies.join();
    put(select, fleet.policies.map((name) => h("option", { value: name }, name)));
    select.value = fleet.policies.find((name) => name !== fleet.policy) || "";
  }
  byId("if-card").hidden = Boolean(recorded || view.past);
  byId("hold").hidden = Boolean(recorded || view.past);
  if (tick) drawClock();
};
const drawClock = () => {
  const { fleet, tick } = seen, { status, reasons } = tick.status;
  say(byId("ready"), status === "past" ? "" : t(status) + (reasons.length ? `: ${clean(reasons[0].detail, 90)}` : ""));
  say(byId("clock"), `${dayTime(tick.at)} ${zoneName()}${fleet && fleet.speed !== 1 ? ` · ${t("replay", { n: number(fleet.speed) })}` : ""}`);
  say(byId("decisions-note"), finite(tick.decisions.share) ? t("sample", { x: share(tick.decisions.share) }) : t("sample_kept"));
};
let spokenAt = 0, waiting = false;
const drawTick = () => {
  waiting = false;
  drawClock(); drawAnswer(); drawLanes(); drawLatency(); drawBudgets(); drawDecisions(); drawDeferred();
  if (!recorded && !view.past && !byId("bar").hidden) drawBar();
  if (Date.now() - spokenAt > 30000 && seen.tick.rates) { spokenAt = Date.now(); say(byId("spoken"), t("spoken", { a: byId("rate").textContent, b: byId("saved").textContent, c: byId("met").textContent })); }
};
const redraw = () => { formats.clear(); times.clear(); drawTop(); drawBar(); if (seen.tick) { lanes.clear(); order = []; drawGrid(); drawErrors(); drawTick(); } };
// An owner's rates, of what its sums grew by in ten seconds.
const takeOwn = ({ own }, tick) => {
  own.push([tick.mono, tick.own]);
  while (own.length > 2 && tick.mono - own[1][0] >= 10) own.shift();
  const [since, before] = own[0], seconds = tick.mono - since, now = tick.own;
  if (!(seconds > 0)) return null;
  const held = now.met - before.met + now.missed - before.missed;
  return { gco2e_g_per_s: (now.gco2e_g - before.gco2e_g) / seconds, saved_g_per_s: (now.saved_g - before.saved_g) / seconds, watts: (now.energy_j - before.energy_j) / seconds, budgets_met: held > 0 ? (now.met - before.met) / held : null };
};
// What the events of a feed are to `state`, whatever of it is drawn.
const into = (state) => ({
  begin: () => { state.decisions.clear(); state.history = []; state.ownRates = null; state.own.length = 0; state.flows.clear(); state.deferred = null; },
  history: (rows) => { state.history = [...rows]; },
  fleet: (fleet) => { state.fleet = fleet; if (seen === state) { lanes.clear(); order = []; drawTop(); drawGrid(); } },
  grid: (grid) => { state.grid = grid; if (seen === state) { drawGrid(); drawErrors(); } },
  decisions: (rows) => takeDecisions(state, rows),
  deferred: (told) => { state.deferred = told; },
  tick: (tick) => {
    state.tick = tick;
    if (tick.own && !tick.sums) state.ownRates = takeOwn(state, tick);
    const rates = tick.rates || (tick.own && state.ownRates);
    if (rates) { state.history.push([tick.wall, rates.gco2e_g_per_s, rates.saved_g_per_s]); if (state.history.length > 400) state.history.splice(0, state.history.length - 300); }
    takeFlows(state, tick.flows);
    if (seen === state) drawSoon();
  },
});
const drawSoon = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { const first = !view.drawn; view.drawn = true; drawTick(); if (first) opened(); });
};
const stream = recorded ? null : new Stream(into(live), (state) => { byId("link").dataset.state = state; say(byId("link"), t(view.past ? "past" : state)); }, (status) => {
  const door = byId("door");
  say(byId("door-why"), key.get() || status === 403 ? t("door_wrong") : "");
  if (!door.open) door.showModal();
});
byId("door-form").addEventListener("submit", () => { key.set(byId("door-token").value.trim()); byId("door-token").value = ""; stream.run(); });
const next = (name, values) => { prefs[name] = values[(values.indexOf(prefs[name]) + 1) % values.length]; store(name, prefs[name]); redraw(); };
byId("theme").addEventListener("click", () => next("theme", ["auto", "light", "dark"]));
byId("zone").addEventListener("click", () => next("zone", ["utc", "local"]));
byId("lang").addEventListener("click", () => next("lang", ["en", "ko"]));
byId("hold").addEventListener("click", (event) => { view.held = !view.held; event.currentTarget.setAttribute("aria-pressed", String(view.held)); drawTop(); drawDecisions(); });
byId("lanes-all").addEventListener("click", () => { view.all = !view.all; order = []; drawLanes(); });
byId("if-form").addEventListener("submit", (event) => { event.preventDefault(); go({ "what-if": byId("if-policy").value }); });
byId("drawer-close").addEventListener("click", shut);
byId("drawer-csv").addEventListener("click", () => drawerRows && download("carbon-router.csv", drawerRows));
for (const name of Object.keys(SHEETS)) byId(`${name}-csv`).addEventListener("click", () => seen.tick && seen.grid && download(`carbon-router-${name}.csv`, SHEETS[name]()));
const KEYS = recorded ? recorded.listen() : listenToBar();
document.addEventListener("keydown", (event) => {
  if (byId("door").open) return;
  if (event.key === "Escape") { shut(); return; }
  const isTyping = event.target.closest?.("input, select, textarea") && event.target.id !== "bar-slide";
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  if (event.key === " " && event.target.closest?.("button, a, [tabindex='0']")) return;
  event.preventDefault();
  KEYS[event.key]();
});
addEventListener("hashchange", opened);
addEventListener("resize", () => seen.tick && drawArcs());
drawTop();
if (recorded) recorded.begin(); else stream.run();

// Another time than now: which, how it is gone to, and what is drawn otherwise then.
// Of what the ledger has of the while before.
const drawPastSums = (sum, sums) => {
  const [energy, unit] = quantity(sums.energy_j, "J");
  put(byId("sums"), h("div", null, h("dt", null, t("sums_of", { n: spanOf(sums.seconds) })), h("dd", null, "")), sum("sum_emitted_then", gramsFigure("sums.gco2e_g", sums.gco2e_g)), sum("sum_saved_then", gramsFigure("sums.saved_g", sums.saved_g), [" ", tag("predicted")]),
    sum("sum_energy", figure("sums.energy_j", sums.energy_j, energy, unit)), sum("sum_requests", figure("sums.answered", sums.answered, count(sums.answered))), sums.refused ? sum("sum_refused", figure("sums.refused", sums.refused, count(sums.refused))) : null, sums.failed ? sum("sum_failed", figure("sums.failed", sums.failed, count(sums.failed))) : null);
};
// Of a moment that is past: what was forecast then of the hours ahead, and what came.
const missed = (zone) => {
  const pairs = (zone.ahead?.g || []).map((value, i) => [value, zone.came.g[i]]).filter(([, came]) => finite(came));
  return pairs.length ? [pairs.reduce((sum, [was, came]) => sum + Math.abs(was - came), 0) / pairs.length, pairs.length] : [NaN, 0];
};
const drawCame = () => {
  const rows = Object.entries(seen.grid.zones).map(([zone, one]) => [zone, ...missed(one)]).filter(([, , hours]) => hours);
  if (!rows.length) { put(byId("errors"), h("p", { class: "none" }, t("no_came"))); return; }
  put(byId("errors"), h("p", { class: "told" }, t("came_note")), h("table", { class: "small-table" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, t("zone")), h("th", { scope: "col", class: "num" }, t("hours_come")), h("th", { scope: "col", class: "num" }, t("missed_by")))),
    h("tbody", null, rows.slice(0, 24).map(([zone, error, hours]) => h("tr", null, h("th", { scope: "row" }, clean(zone, 24)), h("td", { class: "num" }, count(hours)), h("td", { class: "num" }, figure(`missed.${zone}`, error, number(error))))))));
};

// Hours that were forecast at one lead and then observed; the error is that of the metric.
const metOf = (zone, lead, hours, error) => {
  const most = hours.reduce((top, [, ...values]) => Math.max(top, ...values), 1), start = hours[0][0], end = hours[hours.length - 1][0] + 3600;
  const x = (at) => (480 * (at + 1800 - start)) / (end - start), y = (value) => 110 - (value / most) * 104;
  const line = (place, name) => s("path", { class: name, d: lineOf(hours.map((hour) => [x(hour[0]), y(hour[place])])) });
  return [h("h3", { class: "told" }, `${t("errors")} · ${t("lead", { n: lead })} `, tag("measured")),
    s("svg", { class: "outlook met", viewBox: "0 0 480 112", preserveAspectRatio: "none", role: "img", "aria-label": t("met_aria", { n: count(hours.length), x: number(error?.used ?? NaN) }) }, line(1, "was-published"), line(2, "was-own"), line(3, "was-used"), line(4, "was-observed")),
    h("p", { class: "keys" }, [["was-observed", "observed_line"], ["was-used", "used"], ["was-published", "published"], ["was-own", "own"]].map(([name, word]) => h("span", null, h("i", { class: `stroke ${name}` }), t(word)))),
    error ? h("p", { class: "told" }, t("error_note"), " ", ["published", "own", "used"].map((name) => [`${t(name)} `, figure(`met.${zone}.${lead}.${name}`, error[name], number(error[name])), name === "used" ? " " : ", "]), `(${t("hours_met", { n: count(error.hours) })})`) : null];
};

// ------------------------------------------------------------------ the bar of time
const isoOf = (at) => new Date(Math.floor(at) * 1000).toISOString().replace(".000Z", "Z");
// As far as the gateway takes one, the year 2200; what browsers would make of other texts is no time that anybody meant.
const LATEST_S = 7.3e9;
const timeOf = (text) => { const at = /^\d+(\.\d+)?$/.test(text) ? Number(text) : /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) / 1000 : NaN; return at >= 0 && at <= LATEST_S ? at : NaN; };
const spanOf = (seconds) => (seconds < 5400 ? t("n_minutes", { n: count(seconds / 60) }) : t("n_hours", { n: number(seconds / 3600, 2) }));
// `reach`: how far back there is anything, as was told last; `asked`: of the newest question alone the answer is drawn.
const bar = { reach: null, asked: 0, wait: 0 };
const stepOf = () => ((live.fleet?.speed || 1) > 30 ? 900 : view.past?.how === "recent" ? 10 : 60);
const ends = () => {
  const { reach } = bar, now = Math.max(reach?.now || 0, live.tick?.at || 0) || Date.now() / 1000;
  return [Math.min(...(reach?.hours || []).map(([first]) => first), reach?.recent ? reach.recent[0] : now - 60), now];
};
const drawBar = () => {
  if (recorded) { recorded.draw(); return; }
  const isOpen = !byId("bar").hidden;
  byId("back").setAttribute("aria-expanded", String(isOpen));
  say(byId("back"), t("go_back"));
  document.documentElement.dataset.past = view.past ? view.past.how : "";
  // Where nothing could be told of a moment, the one before is not to stand under its name.
  document.documentElement.dataset.told = view.past?.state && view.past.state !== "working_past" ? "no" : "";
  if (!isOpen) return;
  const at = view.past?.at ?? seen.tick?.at ?? NaN;
  for (const [id, word] of [["bar-earlier", "earlier"], ["bar-later", "later_on"], ["bar-hour-earlier", "hour_earlier"], ["bar-hour-later", "hour_later"], ["bar-live", "to_live"]]) { say(byId(id), t(word)); }
  byId("bar-slide").setAttribute("aria-label", t("time"));
  byId("bar-at").setAttribute("aria-label", t("time"));
  byId("bar-slide").setAttribute("aria-valuetext", `${dayTime(at)} ${zoneName()}`);
  byId("bar-live").hidden = !view.past;
  say(byId("bar-said"), view.past ? toldOf(view.past) : reachOf());
  byId("bar-said").dataset.past = view.past ? "yes" : "";
  if (!bar.reach) return;
  const [first, last] = ends(), slide = byId("bar-slide");
  slide.min = Math.floor(first); slide.max = Math.ceil(last); slide.step = stepOf();
  if (finite(at) && document.activeElement !== slide) slide.value = at;
  if (finite(at) && document.activeElement !== byId("bar-at")) byId("bar-at").value = inputOf(at);
};
const inputOf = (at) => {
  const date = new Date(Math.floor(at) * 1000), local = prefs.zone === "utc" ? date : new Date(date.getTime() - date.getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 19);
};
const atOfInput = (text) => (text ? Date.parse(prefs.zone === "utc" ? `${text}Z` : text) / 1000 : NaN);
const toldOf = ({ at, how, known_at: known, is_whole: whole, state }) => {
  const when = t("as_it_was", { x: `${dayTime(at)} ${zoneName()}` });
  if (state) return `${when} ${t(state)}`;
  return [when, how === "recent" ? t("from_recent") : t("from_ledger"), finite(known) && t("seen_by_decision", { x: clockTime(known) }), whole === false && t("not_whole")].filter(Boolean).join(" ");
};
const reachOf = () => {
  const { reach } = bar;
  if (!reach) return t("working_past");
  const recent = reach.recent ? t("reach_recent", { x: spanOf((reach.recent[1] - reach.recent[0]) / (live.fleet?.speed || 1)) }) : t("reach_nothing");
  if (!reach.has_ledger) return `${t("reach_no_ledger")} ${recent}`;
  if (!reach.sees_ledger) return `${t("reach_not_yours")} ${recent}`;
  const hours = reach.hours.reduce((sum, [first, last]) => sum + (last - first) / 3600, 0);
  return t("reach_ledger", { n: count(hours), x: reach.hours.length ? dayTime(reach.hours[0][0]) : t("none") });
};
const openBar = async (isOpen) => {
  byId("bar").hidden = !isOpen;
  drawBar();
  if (!isOpen) return;
  try {
    // Of several processes one may have shown more than another: any says what the ledger has.
    const { status, body } = await ask("/console/past");
    if (status === 200) bar.reach = body;
  } catch { /* It says so where a moment is asked for. */ }
  drawBar();
};

// ------------------------------------------------------------------ to a moment, and back
const goTo = (at) => { const [first, last] = ends(); go({ at: isoOf(Math.min(Math.max(at, bar.reach ? first : 0), last)) }); };
const showPast = async (at) => {
  const mine = ++bar.asked;
  if (byId("bar").hidden) openBar(true);
  view.past = { at, how: view.past?.how || "", state: "working_past" };
  drawBar();
  let reply;
  try {
    reply = await askAny(`/console/past?at=${at}`, ({ body }) => body.how !== "unknown" || bar.reach?.sees_ledger && bar.reach.has_ledger, live.fleet?.processes || 1);
  } catch { reply = { status: 0, body: {} }; }
  if (mine !== bar.asked) return;
  if (reply.status !== 200 || reply.body.how === "unknown") {
    view.past = { at, how: view.past.how, state: reply.status === 200 ? "past_unknown" : reply.status === 503 ? "past_busy" : "no_gateway" };
    drawBar();
    return;
  }
  const { body } = reply, scene = blank(), take = into(scene);
  for (const name of ["fleet", "grid", "deferred", "decisions"]) if (body[name]) take[name](body[name]);
  for (const tick of [...(body.before || []), body.tick]) take.tick(tick);
  if (body.before) for (const flow of scene.flows.values()) flow.rate /= 1 - Math.exp(-[...body.before, body.tick].reduce((sum, one) => sum + one.flows.seconds, 0) / 8);
  if (body.history) scene.history = body.history;
  if (!body.decisions) for (const row of live.decisions.values()) if (row.at <= body.at) scene.decisions.set(row.key, row);
  if (!scene.grid) scene.grid = { version: 0, now: at, zones: {} };
  view.past = { at, how: body.how, known_at: body.known_at, is_whole: body.is_whole };
  draw(scene);
};
const toLive = () => {
  bar.asked += 1;
  if (!view.past) return;
  // The button goes with it: whoever has only a keyboard stays where it was.
  if (document.activeElement === byId("bar-live")) byId("bar-slide").focus();
  view.past = null;
  go({ at: null });
  draw(live);
};
const draw = (scene) => {
  seen = scene;
  lanes.clear(); order = []; byId("arcs").dataset.signs = "";
  redraw();
  drawBar();
};
const listenToBar = () => {
  byId("back").addEventListener("click", () => { if (byId("bar").hidden) openBar(true).then(() => byId("bar-slide").focus()); else { toLive(); byId("back").focus(); openBar(false); } });
  const slide = byId("bar-slide");
  // While it is drawn along only where it stops is asked for.
  slide.addEventListener("input", () => { clearTimeout(bar.wait); const at = Number(slide.value); slide.setAttribute("aria-valuetext", dayTime(at)); say(byId("bar-said"), t("as_it_was", { x: `${dayTime(at)} ${zoneName()}` })); bar.wait = setTimeout(() => goTo(at), 150); });
  byId("bar-at").addEventListener("change", (event) => { const at = atOfInput(event.currentTarget.value); if (finite(at)) goTo(at); });
  const by = (seconds) => goTo((view.past?.at ?? seen.tick?.at ?? ends()[1]) + seconds);
  byId("bar-earlier").addEventListener("click", () => by(-stepOf()));
  byId("bar-later").addEventListener("click", () => by(stepOf()));
  byId("bar-hour-earlier").addEventListener("click", () => by(-3600));
  byId("bar-hour-later").addEventListener("click", () => by(3600));
  byId("bar-live").addEventListener("click", toLive);
  return { t: () => byId("back").click(), l: toLive, "[": () => by(-stepOf()), "]": () => by(stepOf()), "{": () => by(-3600), "}": () => by(3600) };
};

// Work that waits: where and when it is planned, and what that is expected to save.
const shownReason = (reason) => { const word = reason ? `wait_${reason}` : "wait_unplanned"; return WORDS[prefs.lang][word] ? t(word) : clean(reason, 40); };
const drawDeferred = () => {
  const card = byId("deferred-card"), told = seen.deferred;
  card.hidden = !told;
  if (!told) return;
  if (!told.waiting) { put(byId("deferred"), h("p", { class: "none" }, t("nothing_waits"))); return; }
  const saving = told.saving, less = saving && saving.now_g - saving.planned_g;
  put(byId("deferred"), h("p", { class: "told" }, t("waits", { n: count(told.waiting), b: count(told.batches), u: count(told.under_way) }), " ", saving ? [t("wait_saves"), " ", gramsFigure("deferred.saved_g", less), ` (${signed(change(saving.planned_g, saving.now_g))}) `] : [t("wait_unknown"), " "], tag("forecast"), ` ${t("planned_at", { x: clockTime(told.planned_at) })}`),
    waitTable(told), h("div", { class: "duo" }, waitList("next_releases", told.next, (one) => [`${dayTime(one.planned_at)} · `, named(one.region, 22)]), told.at_risk.length ? waitList("at_risk", told.at_risk, (one) => [h("span", { class: "bad" }, shownReason(one.reason)), ` · ${t("deadline")} ${dayTime(one.deadline)}`]) : h("p", { class: "none" }, t("none_at_risk"))));
};
const waitList = (word, rows, more) => h("div", null, h("h3", { class: "told" }, t(word)), h("ul", { class: "plain" }, rows.map((one) => h("li", null, `${count(one.jobs)} × `, named(one.model, 28), " · ", more(one), " ", h("small", null, named(one.batch, 28))))));
// Regions by the hours ahead: how many requests are planned there and then.
const waitTable = ({ cells, planned_at: from }) => {
  if (!cells.length) return h("p", { class: "none" }, t("no_places"));
  const start = Math.floor(from / 3600) * 3600, most = cells.reduce((top, [, , jobs]) => Math.max(top, jobs), 1);
  const hours = Array.from({ length: 24 }, (_, i) => start + 3600 * i), regions = [...new Set(cells.map(([, region]) => region))].slice(0, 24), jobs = new Map(cells.map(([hour, region, n]) => [`${hour}\n${region}`, n]));
  const later = cells.filter(([hour]) => hour >= start + 24 * 3600).reduce((sum, [, , n]) => sum + n, 0);
  return h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": t("planned_by_hour") }, h("table", { class: "heat" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, t("region")), hours.map((hour) => h("th", { scope: "col", class: "num" }, hourOf(hour))))),
    h("tbody", null, regions.map((region) => h("tr", null, h("th", { scope: "row" }, named(region, 22)), hours.map((hour) => {
      const n = jobs.get(`${hour}\n${region}`) || 0;
      const cell = h("td", { class: "num", title: n ? count(n) : null }, n ? figure(`deferred.${hour}.${region}`, n, count(n)) : "");
      if (n) cell.style.setProperty("--part", `${Math.round(12 + (58 * n) / most)}%`);
      return cell;
    }))))), later ? h("p", { class: "none" }, t("later", { n: count(later) })) : null);
};

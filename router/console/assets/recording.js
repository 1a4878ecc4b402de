// A day that was recorded, played in the same page: its events in the place of a feed's.
const recorded = (() => {
  const node = byId("recorded");
  if (!node) return null;
  const day = { events: [], decisions: {}, first: 0, length: 0, at: 0, next: 0, rate: 1, isPlaying: false, frame: 0, drawn: -1 };
  const unpacked = async () => {
    const packed = Uint8Array.from(atob(node.textContent.trim()), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  };
  // Events until then; where there are many, or it goes back, all of it is drawn once.
  const seek = (to) => {
    const at = Math.min(Math.max(to, day.first), day.length), isJump = at < day.at || at > day.at + 3;
    if (at < day.at) { Object.assign(live, blank()); day.next = 0; }
    const take = into(live);
    if (isJump) seen = blank();
    for (; day.next < day.events.length && day.events[day.next][0] <= at; day.next += 1) {
      const [, name, data] = day.events[day.next];
      take[name]?.(data);
    }
    day.at = at;
    if (isJump) { seen = live; redraw(); }
    if (isJump || Math.abs(day.at - day.drawn) >= 0.1 || day.at >= day.length) drawBar();
  };
  const frame = (now) => {
    if (!day.isPlaying) return;
    // A tab that was not seen has not played on.
    const seconds = Math.min(now - day.frame, 1000) / 1000;
    day.frame = now;
    seek(day.at + seconds * day.rate);
    if (day.at >= day.length) play(false);
    else requestAnimationFrame(frame);
  };
  const play = (isPlaying) => {
    if (isPlaying && day.at >= day.length) seek(day.first);
    day.isPlaying = isPlaying;
    if (isPlaying) { day.frame = performance.now(); requestAnimationFrame(frame); }
    drawBar();
  };
  return {
    begin: async () => {
      byId("bar").hidden = false;
      byId("back").hidden = true;
      byId("link").dataset.state = "recorded";
      drawTop();
      try {
        const { events, decisions } = await unpacked();
        // Before the first tick there is nothing to be drawn.
        Object.assign(day, { events, decisions, first: events.find(([, name]) => name === "tick")?.[0] || 0, length: events.length ? events[events.length - 1][0] : 0 });
      } catch { byId("notice").hidden = false; say(byId("notice"), t("no_recording")); return; }
      seek(day.first);
      play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    },
    decision: (id) => { const body = day.decisions[id] || day.decisions[[...live.decisions.values()].find((row) => row.id === id)?.key]; return { status: body ? 200 : 404, body }; },
    has: (row) => Boolean(day.decisions[row.id] || day.decisions[row.key]),
    listen: () => {
      byId("bar-slide").addEventListener("input", (event) => seek(Number(event.currentTarget.value)));
      byId("bar-play").addEventListener("click", () => play(!day.isPlaying));
      byId("bar-rate").addEventListener("click", () => { day.rate = day.rate >= 4 ? 0.5 : day.rate * 2; drawBar(); });
      return { " ": () => play(!day.isPlaying), "[": () => seek(day.at - 5), "]": () => seek(day.at + 5), "{": () => seek(day.first), "}": () => seek(day.length) };
    },
    draw: () => {
      const slide = byId("bar-slide"), at = live.tick?.at;
      day.drawn = day.at;
      // It changes all the time: nobody wants that read out.
      byId("bar-said").setAttribute("aria-live", "off");
      slide.min = day.first; slide.max = day.length; slide.step = 0.1;
      if (document.activeElement !== slide || day.isPlaying) slide.value = day.at;
      slide.setAttribute("aria-label", t("time"));
      slide.setAttribute("aria-valuetext", `${dayTime(at)} ${zoneName()}`);
      for (const id of ["bar-play", "bar-rate"]) byId(id).hidden = false;
      for (const id of ["bar-earlier", "bar-later", "bar-hour-earlier", "bar-hour-later", "bar-at", "bar-live"]) byId(id).hidden = true;
      say(byId("bar-play"), t(day.isPlaying ? "pause" : "play"));
      say(byId("bar-rate"), `×${number(day.rate, 1)}`);
      byId("bar-rate").setAttribute("aria-label", t("pace_of", { x: number(day.rate, 1) }));
      say(byId("bar-said"), t("recorded_at", { x: `${dayTime(at)} ${zoneName()}`, a: count(day.at), b: count(day.length) }));
    },
  };
})();

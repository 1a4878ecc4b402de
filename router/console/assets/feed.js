// The stream of /console/events, read by fetch so that a token can be sent; it goes on where it was lost.
const HIDDEN_MS = 60000;
const key = { get: () => { try { return sessionStorage.getItem("carbon-router.token") || ""; } catch { return key.text || ""; } },
  set: (text) => { key.text = text; try { sessionStorage.setItem("carbon-router.token", text); } catch { /* Kept in memory. */ } } };
const headers = (more = {}) => {
  const token = key.get();
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
};
const ask = async (path) => {
  const reply = await fetch(path, { headers: headers(), cache: "no-store" });
  const told = reply.headers.get("Content-Type") || "";
  const body = told.startsWith("application/json") ? await reply.json() : { error: await reply.text() };
  return { status: reply.status, body };
};

// Of several processes each keeps decisions of its own, and whoever has none of it ends the connection: the next may reach another.
const askAny = async (path, isIt, processes) => {
  for (let left = processes > 1 ? 6 * processes : 1; ; left -= 1) {
    const reply = await ask(path);
    if (isIt(reply) || left <= 1) return reply;
  }
};

class Stream {
  // `on`: by the name of an event, `begin` where what came before is of another process; `state`: told how the connection is; `door`: asked for a token.
  constructor(on, state, door) {
    Object.assign(this, { on, state, door, last: "", boot: "", wait: 500, stop: null, closed: false });
    document.addEventListener("visibilitychange", () => this.seen());
    this.hideTimer = 0;
  }
  seen() {
    clearTimeout(this.hideTimer);
    if (document.visibilityState === "hidden") {
      this.hideTimer = setTimeout(() => { this.closed = true; this.state("hidden"); this.stop?.abort(); }, HIDDEN_MS);
    } else if (this.closed) {
      this.closed = false;
      this.run();
    }
  }
  again() { this.wait = 200; this.stop?.abort(); }
  async run() {
    while (!this.closed) {
      try {
        if (!(await this.read())) return;
      } catch { /* Lost: it comes again. */ }
      if (this.closed) return;
      this.state("lost");
      await new Promise((done) => setTimeout(done, this.wait * (0.75 + Math.random() / 2)));
      this.wait = Math.min(this.wait * 2, 10000);
    }
  }
  // False where it is not to be tried again by itself.
  async read() {
    this.stop = new AbortController();
    const asked = headers(this.last ? { "Last-Event-ID": this.last } : {});
    const reply = await fetch("/console/events", { headers: asked, cache: "no-store", signal: this.stop.signal });
    if (reply.status === 401 || reply.status === 403) {
      this.state("refused");
      this.door(reply.status);
      return false;
    }
    if (!reply.ok) return true;
    this.state("live");
    this.wait = 500;
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      rest += value;
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.take(block);
    }
  }
  take(block) {
    let name = "", data = "", id = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data = line.slice(6);
      else if (line.startsWith("id: ")) id = line.slice(4);
    }
    const boot = id.slice(0, id.lastIndexOf("-"));
    if (id && this.boot !== boot) {
      this.boot = boot;
      this.on.begin();
    }
    if (name && this.on[name]) this.on[name](JSON.parse(data));
    if (id) this.last = id;
  }
}

// The source of lines: server-sent events, or a recording embedded in the document. Parses in slices
// of a few milliseconds, so that a burst does not block the page.

const SLICE_MS = 6;
const QUEUE_LIMIT = 64 * 1024 * 1024;

class Feed {
  /** `onChange` is called when the state changes; `onLost` after lines about lost events. */
  constructor(model, onChange, onLost) {
    this.model = model;
    this.onChange = onChange;
    this.onLost = onLost;
    this.state = "connecting";
    this.words = "Connecting";
    this.queue = [];
    this.queued = 0;
    this.at = 0;
    this.source = null;
    this.retryMs = 1000;
    this.isLive = false;
    /** Whether a running program sends the lines: it has snapshots, too. A recording has neither these nor a present. */
    this.isOfProgram = false;
    this.offset = null;
    this.counters = { lines: 0, received: 0, replayed: 0, repeated: 0, unread: 0, invalid: 0, lost: 0, applied: 0 };
    this.channel = new MessageChannel();
    this.channel.port1.onmessage = () => this.slice();
    this.isScheduled = false;
  }

  set(state, words) {
    this.state = state;
    this.words = words;
    this.onChange();
  }

  start() {
    const embedded = byId("recording");
    if (embedded) {
      this.set("connecting", "Reading the recording");
      // Without the limit: it is in memory already, and nothing can follow that would have to wait.
      this.enqueue(embedded.textContent);
      return;
    }
    this.connect();
  }

  connect() {
    const source = new EventSource("/events");
    this.source = source;
    source.onopen = () => {
      this.retryMs = 1000;
      this.isOfProgram = true;
      this.set("connecting", "Reading the current state");
    };
    // Sent first, if the lines are those of a file.
    source.addEventListener("recording", () => {
      this.isOfProgram = false;
      this.set("connecting", "Reading the recording");
    });
    source.onmessage = (message) => this.push(message.data);
    source.onerror = () => {
      if (this.source !== source) return;
      this.isLive = false;
      if (source.readyState === EventSource.CONNECTING) {
        this.set("reconnecting", "Connection lost. Reconnecting \u2026");
        return;
      }
      // A status other than 200, for which EventSource itself does not retry.
      source.close();
      this.set("reconnecting", "The server accepts no viewer now (too many, or it ended). Next try in " + Math.round(this.retryMs / 1000) + " s");
      setTimeout(() => this.connect(), this.retryMs);
      this.retryMs = Math.min(this.retryMs * 2, 30000);
    };
  }

  push(text) {
    if (this.queued + text.length > QUEUE_LIMIT) {
      this.skip(text);
      return;
    }
    this.enqueue(text);
  }

  enqueue(text) {
    this.queue.push(text);
    this.queued += text.length;
    this.schedule();
  }

  /** Counts the lines that this page cannot keep up with as lost. */
  skip(text) {
    let lines = 1;
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines += 1;
    this.counters.received += lines;
    this.counters.unread += lines;
    this.counters.lost += lines;
    this.model.gap(undefined, lines);
    this.onLost();
  }

  schedule() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    this.channel.port2.postMessage(null);
  }

  slice() {
    this.isScheduled = false;
    const until = performance.now() + SLICE_MS;
    let lines = 0;
    while (this.queue.length > 0) {
      const text = this.queue[0];
      let end = text.indexOf("\n", this.at);
      if (end < 0) end = text.length;
      const line = text.slice(this.at, end);
      // First: a line that cannot be applied must not be read again.
      this.at = end + 1;
      this.line(line);
      if (this.at >= text.length) {
        this.queue.shift();
        this.queued -= text.length;
        this.at = 0;
      }
      lines += 1;
      if ((lines & 31) === 0 && performance.now() > until) break;
    }
    if (this.queue.length > 0) {
      // A timeout lets a frame be drawn first. In a hidden page it would come once a second only.
      if (document.hidden) {
        this.schedule();
      } else {
        this.isScheduled = true;
        setTimeout(() => this.slice(), 0);
      }
      return;
    }
    if (byId("recording") && this.state === "connecting") this.finish("cut off");
  }

  line(text) {
    if (text.trim() === "") return;
    let line;
    try {
      line = JSON.parse(text);
    } catch {
      // The cut-off last line of a recording.
      this.counters.unread += 1;
      return;
    }
    this.counters.lines += 1;
    if (!isComplete(line)) {
      this.refuse();
      return;
    }
    try {
      this.take(line);
    } catch (error) {
      console.error(error);
      this.refuse();
    }
  }

  refuse() {
    this.counters.unread += 1;
    this.counters.invalid += 1;
  }

  take(line) {
    switch (line.event) {
      case "recording":
        this.model.apply(line);
        this.offset = null;
        this.tick(line.time_ns);
        return;
      case "live":
        this.model.apply(line);
        if (!this.isOfProgram) return;
        this.isLive = true;
        this.set("live", "Live");
        return;
      case "lost":
        this.counters.lost += line.count;
        this.model.apply(line);
        this.onLost();
        return;
      case "end":
        this.finish(line.reason);
        return;
    }
    this.counters.received += 1;
    if (line.replayed) this.counters.replayed += 1;
    else if (this.isLive) this.tick(line.time_ns);
    if (this.model.apply(line)) this.counters.applied += 1;
    else this.counters.repeated += 1;
  }

  /** Relates the recording's clock to this page's: the least delayed line counts. */
  tick(time) {
    const offset = time - performance.now() * 1e6;
    if (this.offset === null || offset > this.offset || Math.abs(offset - this.offset) > 60e9) this.offset = offset;
  }

  /** The present on the recording's clock. */
  now() {
    const last = this.model.last === null ? 0 : this.model.last;
    if (!this.isLive || this.offset === null) return last;
    return Math.max(last, performance.now() * 1e6 + this.offset);
  }

  finish(reason = "finished") {
    this.isLive = false;
    if (this.source) this.source.close();
    this.source = null;
    if (this.isOfProgram) {
      this.set("ended", reason === "finished" ? "The program has ended" : "The events have ended: " + visible(reason));
      return;
    }
    const words = { finished: "Recording", limit: "Recording, ended at its size limit", "cut off": "Recording, cut off at its end" };
    this.set("recording", words[reason] || "Recording, ended: " + visible(reason));
  }
}

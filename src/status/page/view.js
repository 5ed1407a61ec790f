// The shown part of time: window, zoom, pan, and the moment that tree and table show.
//
// A position on the axis is a time, or the number of a step if all steps have equal distance.

/** How much of what was replayed belongs to the history. */
const REPLAYED_NS = 2e9;

/** The window of the live page: this long, and shorter at the beginning. */
const LIVE_NS = 20e9;
const FIRST_NS = 4e9;

class View {
  constructor(feed, model) {
    this.feed = feed;
    this.model = model;
    this.gutter = 200;
    this.width = 800;
    this.span = LIVE_NS;
    this.end = 0;
    /** Whether the window grows with the history at the beginning. */
    this.grows = true;
    /** The shown moment; `null` follows the present. */
    this.moment = null;
    this.speed = 1;
    this.playing = null;
    this.times = null;
    this.version = 0;
  }

  get isFollowing() {
    return this.moment === null;
  }

  /** The moment that tree, table and timeline show. */
  now() {
    return this.moment === null ? this.feed.now() : this.moment;
  }

  /** Where the history begins: a little before the page began to watch. */
  first() {
    const header = this.model.header;
    const begin = header === null ? -Infinity : header.time_ns - REPLAYED_NS;
    return Math.max(this.earliest(), begin);
  }

  /** The first step that is known: the acquisition of what has been open for long. */
  earliest() {
    return this.model.first === null ? this.feed.now() - 1e9 : this.model.first;
  }

  position(time) {
    const times = this.times;
    if (times === null || times.length === 0) return time;
    let low = 0;
    let high = times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (times[middle] <= time) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return Math.max(-1, (time - times[0]) / 1e9);
    const before = times[low - 1];
    const after = low < times.length ? times[low] : before + 1e9;
    return low - 1 + Math.min(1, (time - before) / (after - before));
  }

  time(position) {
    const times = this.times;
    if (times === null || times.length === 0) return position;
    const index = Math.floor(position);
    if (index < 0) return times[0] + position * 1e9;
    if (index >= times.length - 1) return times[times.length - 1] + (position - times.length + 1) * 1e9;
    return times[index] + (position - index) * (times[index + 1] - times[index]);
  }

  /** Advances by one frame; `elapsed` in milliseconds. */
  advance(elapsed) {
    if (this.playing !== null && this.moment !== null) {
      this.moment += elapsed * 1e6 * this.speed;
      if (this.moment >= this.feed.now()) {
        this.toLive();
        return;
      }
      this.show(this.moment);
    }
    if (!this.isFollowing || !this.feed.isLive) return;
    if (this.grows) this.span = Math.min(LIVE_NS, Math.max(FIRST_NS, (this.feed.now() - this.first()) * 1.06));
    this.end = this.position(this.feed.now()) + this.span * 0.02;
  }

  begin() {
    return this.end - this.span;
  }

  plotWidth() {
    return Math.max(1, this.width - this.gutter);
  }

  x(time) {
    return this.gutter + ((this.position(time) - this.begin()) / this.span) * this.plotWidth();
  }

  timeAt(x) {
    return this.time(this.begin() + ((x - this.gutter) / this.plotWidth()) * this.span);
  }

  pause() {
    this.playing = null;
    if (this.moment === null) this.moment = this.feed.now();
    this.version += 1;
  }

  play() {
    if (this.moment === null) {
      if (this.feed.isLive) return;
      this.moment = this.first();
    }
    if (this.moment >= this.feed.now()) this.moment = this.first();
    this.playing = true;
    this.version += 1;
  }

  toLive() {
    this.moment = null;
    this.playing = null;
    if (this.feed.isLive) this.setEven(false);
    else this.show(this.feed.now());
    this.version += 1;
  }

  /** Shows another moment, and moves the window if it is outside. */
  goTo(time) {
    this.playing = null;
    this.moment = Math.min(Math.max(time, this.earliest()), this.feed.now());
    this.show(this.moment);
    this.version += 1;
  }

  show(time) {
    const at = this.position(time);
    if (at < this.begin() + this.span * 0.05) this.end = at + this.span * 0.75;
    if (at > this.end - this.span * 0.02) this.end = at + this.span * 0.25;
  }

  zoom(factor, x) {
    this.grows = false;
    const least = this.times ? 2 : 2e3;
    const most = this.times ? this.times.length * 2 + 10 : Math.max(60e9, (this.feed.now() - this.earliest()) * 1.5);
    const span = Math.min(most, Math.max(least, this.span * factor));
    let anchor = this.end;
    if (!this.isFollowing || !this.feed.isLive) {
      const middle = x === undefined ? this.x(this.now()) : x;
      const inside = middle >= this.gutter && middle <= this.width;
      anchor = this.begin() + (((inside ? middle : (this.gutter + this.width) / 2) - this.gutter) / this.plotWidth()) * this.span;
    }
    this.end = anchor + (this.end - anchor) * (span / this.span);
    this.span = span;
    this.version += 1;
  }

  pan(pixels) {
    if (this.isFollowing && this.feed.isLive) this.pause();
    const first = this.position(this.earliest());
    const last = this.position(this.feed.now());
    const end = this.end + (pixels / this.plotWidth()) * this.span;
    this.end = Math.min(Math.max(end, first + this.span * 0.1), last + this.span * 0.9);
    this.version += 1;
  }

  fit() {
    this.grows = false;
    const first = this.position(this.first());
    const last = this.position(this.feed.now());
    const margin = Math.max((last - first) * 0.03, this.times ? 0.5 : 1e3);
    this.span = last - first + 2 * margin;
    this.end = last + margin;
    this.version += 1;
  }

  /** Equal distance between steps, or a scale of time. */
  setEven(isEven) {
    if (isEven === (this.times !== null)) return;
    this.grows = false;
    const begin = this.time(this.begin());
    const end = this.time(this.end);
    this.times = null;
    if (isEven) {
      this.pause();
      const times = new Set();
      for (const resource of this.model.resources.values()) for (const step of resource.steps) times.add(step.time);
      for (const finding of this.model.findings) times.add(finding.time);
      this.times = Float64Array.from(times).sort();
    }
    this.span = Math.max(this.position(end) - this.position(begin), isEven ? 2 : 2e3);
    this.end = this.position(end);
    this.version += 1;
  }

  /** Distance of ticks (nanoseconds) that leaves `pixels` between them. */
  tickStep(pixels) {
    const raw = (this.span / this.plotWidth()) * pixels;
    const power = 10 ** Math.floor(Math.log10(Math.max(raw, 1)));
    const factors = [1, 2, 5, 10];
    const step = factors.find((it) => it * power >= raw) * power;
    if (step <= 10e9) return step;
    return [15e9, 30e9, 60e9, 120e9, 300e9, 600e9, 1800e9, 3600e9, 7200e9, 21600e9].find((it) => it >= raw) || 86400e9;
  }

  /** The label of a time for ticks at this distance. */
  label(time, step) {
    const header = this.model.header;
    if (this.hasWallClock()) return wallClock(header.time_unix_ms, time - header.time_ns, step);
    return sinceStart(time - this.start(), step);
  }

  /** The time of a step: by the wall clock, or since the beginning of a recording. */
  fullLabel(time) {
    const header = this.model.header;
    if (this.hasWallClock()) return wallClock(header.time_unix_ms, time - header.time_ns, 1e3);
    return "+" + ((time - this.start()) / 1e9).toFixed(6) + " s";
  }

  hasWallClock() {
    const header = this.model.header;
    return header !== null && header.time_unix_ms !== undefined && this.feed.state !== "recording";
  }

  /** Where the times of a recording begin. */
  start() {
    const header = this.model.header;
    return header ? Math.min(header.time_ns, this.first()) : this.first();
  }
}

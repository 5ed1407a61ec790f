// The page: puts the parts together, and draws frames.
//
// `window.echown` is for tests: `received` events (without recorder lines), of which `replayed` at
// the start, and `repeated` after a reconnect; `unread` lines (too many for this page, cut off, or
// `invalid`); `drawn` events are in the model and a frame was drawn since; `lost` events were reported
// as lost. `frames` are the durations of the last frames in milliseconds, `longTasks` those of tasks
// above 50 ms.

const KEPT_STEPS = 200000;
const PANELS_MS = 500;
const SNAPSHOT_MS = 2000;
const KEPT_FRAMES = 4096;
/** Events come at most this much later than the snapshot that contains what they did. */
const LATE_MS = 1500;

class App {
  constructor() {
    // First: the parts ask for frames while they are made.
    this.frameAsked = false;
    this.frameAt = null;
    this.isChanged = true;
    this.model = new Model(KEPT_STEPS);
    this.palette = new Palette();
    this.filter = new Filter();
    this.selection = { resource: null, task: null };
    this.feed = new Feed(this.model, () => this.feedChanged(), () => this.lostEvents());
    this.view = new View(this.feed, this.model);
    this.panels = new Panels(this);
    this.timeline = new Timeline(this);
    this.details = new Details(this);
    this.controls = new Controls(this);
    this.legend = new Legend(this);
    this.panelsAt = -Infinity;
    this.panelsVersion = -1;
    this.panelsCost = 0;
    this.nextPart = 0;
    this.snapshotAt = -Infinity;
    this.isAsking = false;
    this.mayBeStale = false;
    this.restarts = 0;
    this.counters = { received: 0, replayed: 0, repeated: 0, unread: 0, invalid: 0, drawn: 0, lost: 0, kept: 0, frames: [], longTasks: [] };
    window.echown = this.counters;
    this.quiet = matchMedia("(prefers-reduced-motion: reduce)");
    this.palette.dark.addEventListener("change", () => this.themeChanged());
    document.addEventListener("visibilitychange", () => this.wake());
    if (window.PerformanceObserver && PerformanceObserver.supportedEntryTypes.includes("longtask")) {
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) this.counters.longTasks.push(entry.duration);
        this.counters.longTasks.splice(0, this.counters.longTasks.length - KEPT_FRAMES);
      }).observe({ type: "longtask" });
    }
  }

  start() {
    this.feed.start();
    setInterval(() => this.tick(), 500);
    this.wake();
  }

  /** Something that a user did: shown at once. */
  changed() {
    this.isChanged = true;
    this.wake();
  }

  wake() {
    if (this.frameAsked) return;
    this.frameAsked = true;
    requestAnimationFrame((time) => this.frame(time));
  }

  frame(time) {
    this.frameAsked = false;
    const elapsed = this.frameAt === null ? 0 : time - this.frameAt;
    this.frameAt = time;
    if (elapsed > 0) {
      this.counters.frames.push(elapsed);
      if (this.counters.frames.length > KEPT_FRAMES * 2) this.counters.frames.splice(0, KEPT_FRAMES);
    }
    const { feed, view } = this;
    if (this.model.restarts !== this.restarts) this.restart();
    view.advance(elapsed);
    this.count(this.timeline.draw(time));
    this.updatePanels(time);
    const moves = view.playing !== null || (feed.isLive && view.isFollowing && !this.quiet.matches);
    if (moves || feed.queue.length > 0) this.wake();
    else this.frameAt = null;
  }

  /** Another process sends events: nothing that was shown exists there. */
  restart() {
    this.restarts = this.model.restarts;
    this.unselect();
    this.panels.clear();
    this.timeline.clear();
    this.view.toLive();
  }

  count(isDrawn) {
    const { counters, feed } = this;
    const { received, replayed, repeated, unread, invalid, lost, applied } = feed.counters;
    Object.assign(counters, { received, replayed, repeated, unread, invalid, lost, kept: this.model.steps, state: feed.state });
    if (isDrawn) counters.drawn = applied;
  }

  /** One part for each frame, so that no frame has to wait for all. */
  updatePanels(time) {
    const parts = [
      () => this.controls.update(), () => this.details.update(), () => this.panels.updatePart(0),
      () => this.panels.updatePart(1), () => this.panels.updatePart(2), () => this.controls.overview(time),
    ];
    if (this.nextPart >= parts.length) {
      // Soon after an event, unless there are many: their layout costs far more than this script.
      const interval = this.model.version === this.panelsVersion ? PANELS_MS : Math.min(PANELS_MS, Math.max(100, this.panelsCost * 100));
      if (!this.isChanged && time - this.panelsAt < interval) return;
      this.isChanged = false;
      this.panelsAt = time;
      this.panelsVersion = this.model.version;
      this.panelsCost = 0;
      this.nextPart = 0;
    }
    const begin = performance.now();
    parts[this.nextPart]();
    this.panelsCost += performance.now() - begin;
    this.nextPart += 1;
    if (this.nextPart < parts.length || this.isChanged) this.wake();
  }

  tick() {
    const key = [this.model.version, this.view.moment, this.feed.state].join();
    if (key !== this.tickKey || this.feed.isLive || this.controls.isOverviewOld) this.wake();
    this.tickKey = key;
    if (document.visibilityState !== "visible" || !this.feed.isLive) return;
    const now = performance.now();
    const wanted = this.view.isFollowing || this.mayBeStale;
    if (wanted && now - this.snapshotAt >= SNAPSHOT_MS) this.ask(now);
  }

  async ask(now) {
    if (this.isAsking) return;
    this.isAsking = true;
    this.snapshotAt = now;
    try {
      const candidates = this.mayBeStale ? this.candidatesNow() : null;
      const answer = await fetch("/snapshot.json", { cache: "no-store" });
      if (answer.ok) {
        const snapshot = await answer.json();
        this.panels.take(snapshot);
        if (candidates) this.endMissing(candidates, snapshot);
        this.changed();
      }
    } catch {
      // The server is ending, or the connection is lost: the event source says so.
    } finally {
      this.isAsking = false;
    }
  }

  lostEvents() {
    this.mayBeStale = true;
    this.wake();
  }

  /** What is open and runs here before the snapshot is made. */
  candidatesNow() {
    this.mayBeStale = false;
    const { model } = this;
    const isOfProcess = (it) => typeof it.key === "number";
    return {
      resources: [...model.open].filter(isOfProcess).map((resource) => ({ resource, steps: resource.steps.length })),
      tasks: [...model.tasks.values()].filter((it) => isOfProcess(it) && it.ended === null),
    };
  }

  /** After lost events: what the registry no longer has has ended, and what is unknown was acquired,
   *  unless an event comes late. */
  endMissing(candidates, snapshot) {
    const open = new Set(snapshot.resources.map((it) => it.id));
    const running = new Set(snapshot.tasks.filter((it) => it.state !== "ended").map((it) => it.task.id));
    const resources = candidates.resources.filter((it) => !open.has(it.resource.id));
    const tasks = candidates.tasks.filter((it) => !running.has(it.id));
    const { model } = this;
    const { restarts } = model;
    const time = this.feed.now();
    setTimeout(() => {
      if (model.restarts !== restarts) return;
      for (const { resource, steps } of resources) {
        if (resource.end === null && resource.steps.length === steps) model.endUnseen(resource, resource.steps[steps - 1].time);
      }
      for (const task of tasks) model.endTaskUnseen(task, time);
      for (const it of snapshot.tasks) if (!model.tasks.has(it.task.id)) model.adoptTask(it, time);
      for (const it of snapshot.resources) if (!model.resources.has(it.id)) model.adopt(it, time);
      this.changed();
    }, LATE_MS);
  }

  feedChanged() {
    const { feed, model, view } = this;
    if (model.header) {
      const process = model.header.process ? "process " + model.header.process + ": " : "";
      setText(byId("program"), process + visible(model.header.program || ""));
      byId("program").title = byId("program").textContent;
    }
    if (feed.state === "recording") this.showRecording();
    if (feed.state === "live" && view.isFollowing) view.end = view.position(feed.now());
    this.changed();
  }

  /** A recording is shown as a whole; it plays in about ten seconds. */
  showRecording() {
    const { view, model } = this;
    const length = (model.last || 0) - (model.first || 0);
    const speeds = [...byId("speed").options].map((it) => Number(it.value));
    view.speed = speeds.find((it) => length / 1e9 / it >= 8) || speeds[speeds.length - 1];
    byId("speed").value = String(view.speed);
    view.moment = null;
    this.panels.forgetFindings();
    view.fit();
  }

  fit() {
    this.view.grows = false;
    if (this.view.isFollowing && this.feed.isLive) this.view.span = Math.max(1e6, this.feed.now() - this.view.first()) * 1.03;
    else this.view.fit();
    this.view.version += 1;
  }

  themeChanged() {
    this.timeline.drawing.readTheme();
    this.timeline.drawn = "";
    this.legend.draw();
    this.changed();
  }

  goTo(time) {
    this.view.goTo(time);
    this.changed();
  }

  select(resource, reveal) {
    this.selection = { resource, task: null };
    if (reveal) this.timeline.revealResource(resource);
    this.changed();
  }

  selectTask(task) {
    this.selection = { resource: null, task };
    this.changed();
  }

  /** Returns whether something was selected. */
  unselect() {
    const was = this.selection.resource !== null || this.selection.task !== null;
    this.selection = { resource: null, task: null };
    this.changed();
    return was;
  }

  filterRole(role) {
    this.filter.role = role;
    this.filter.version += 1;
    byId("filter-task").value = role;
    this.changed();
  }

  filterText(text) {
    byId("filter").value = text;
    this.filter.setText(text);
    this.changed();
  }

  openReport(finding) {
    this.details.report(finding);
  }

  /** To the next or previous step of these lanes, or of all that match the filter. */
  step(direction, lanes) {
    const now = this.view.now();
    let best = null;
    for (const resource of this.model.resources.values()) {
      const lane = resource.lane;
      if (lanes ? !lanes.includes(lane) : !this.filter.shows(resource)) continue;
      const at = stepAt(resource, now);
      let next = direction > 0 ? at + 1 : at;
      while (direction < 0 && next >= 0 && resource.steps[next].time >= now) next -= 1;
      const step = resource.steps[next];
      if (!step) continue;
      if (best === null || (direction > 0 ? step.time < best : step.time > best)) best = step.time;
    }
    if (best !== null) this.goTo(best);
    else this.view.pause();
  }

  /** The newest step at the shown moment. */
  lastStep() {
    const now = this.view.now();
    let best = null;
    for (const resource of this.model.resources.values()) {
      if (resource.start > now || !this.filter.shows(resource)) continue;
      const step = resource.steps[stepAt(resource, now)];
      if (step && (best === null || step.time > best.step.time)) best = { resource, step };
    }
    return best;
  }
}

new App().start();

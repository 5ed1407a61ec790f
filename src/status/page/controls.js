// The controls: buttons, filter, scrubber, keys, and the legend.

class Controls {
  constructor(app) {
    this.app = app;
    this.overviewAt = -Infinity;
    this.overviewKey = "";
    this.isOverviewOld = false;
    this.taskNames = "";
    this.isDragging = false;
    this.buttons();
    this.filters();
    this.scrubber();
    document.addEventListener("keydown", (event) => this.key(event));
    setText(byId("help-limits"), "The page keeps the newest " + count(app.model.limit) + " steps. Older resources that have ended are forgotten first.");
  }

  on(id, type, action) {
    byId(id).addEventListener(type, (event) => {
      action(event);
      this.app.changed();
    });
  }

  buttons() {
    const { view } = this.app;
    this.on("pause", "click", () => this.toggle());
    this.on("live", "click", () => view.toLive());
    this.on("step-back", "click", () => this.app.step(-1));
    this.on("step-forward", "click", () => this.app.step(1));
    this.on("speed", "change", () => {
      view.speed = Number(byId("speed").value);
    });
    this.on("zoom-in", "click", () => view.zoom(0.5));
    this.on("zoom-out", "click", () => view.zoom(2));
    this.on("fit", "click", () => this.app.fit());
    this.on("even", "click", () => this.even());
    this.on("legend-toggle", "click", () => this.toggleLegend());
    this.on("help-toggle", "click", () => byId("help").showModal());
    this.on("help-close", "click", () => byId("help").close());
    byId("options").addEventListener("beforetoggle", () => {
      const place = byId("options-toggle").getBoundingClientRect();
      byId("options").style.top = place.bottom + 4 + "px";
      byId("options").style.right = Math.max(8, innerWidth - place.right) + "px";
    });
    this.on("order", "change", () => {
      this.app.timeline.order = byId("order").value;
    });
    this.on("density", "change", () => {
      this.app.timeline.density = byId("density").value;
      this.app.timeline.listedAt = -Infinity;
    });
  }

  toggle() {
    const { view, feed } = this.app;
    const runs = view.playing !== null || (view.isFollowing && feed.isLive);
    if (runs) view.pause();
    else view.play();
  }

  even() {
    const { view } = this.app;
    view.setEven(view.times === null);
    if (view.times) view.fit();
  }

  toggleLegend() {
    const legend = byId("legend");
    legend.hidden = !legend.hidden;
    byId("legend-toggle").setAttribute("aria-expanded", String(!legend.hidden));
  }

  filters() {
    const { filter } = this.app;
    this.on("filter", "input", () => filter.setText(byId("filter").value));
    this.on("filter-task", "change", () => this.app.filterRole(byId("filter-task").value));
    this.on("only-open", "change", () => {
      filter.onlyOpen = byId("only-open").checked;
      filter.version += 1;
    });
    this.on("only-findings", "change", () => {
      filter.onlyFindings = byId("only-findings").checked;
      filter.version += 1;
    });
    this.on("show-own", "change", () => {
      filter.withOwn = byId("show-own").checked;
      filter.version += 1;
    });
    this.on("clear-filter", "click", () => this.clear());
  }

  clear() {
    const { filter } = this.app;
    byId("only-open").checked = false;
    byId("only-findings").checked = false;
    filter.onlyOpen = false;
    filter.onlyFindings = false;
    this.app.filterText("");
    this.app.filterRole("");
  }

  scrubber() {
    const scrubber = byId("scrubber");
    const { view } = this.app;
    this.on("scrubber", "input", () => {
      const part = Number(scrubber.value) / Number(scrubber.max);
      if (part >= 1 && view.feed.isLive) view.toLive();
      else view.goTo(view.first() + part * (view.feed.now() - view.first()));
    });
    scrubber.addEventListener("keydown", (event) => this.scrubberKey(event));
  }

  /** Relative to the shown moment: in a history that grows, one step of the slider to the left may be later. */
  scrubberKey(event) {
    const { view } = this.app;
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
    if (steps === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const now = view.feed.now();
    const time = view.now() + (steps * (now - view.first())) / 200;
    if (time >= now && view.feed.isLive) view.toLive();
    else view.goTo(time);
    this.app.changed();
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    const isText = target.matches("input[type=search], select");
    if (event.key === "Escape") {
      if (isText) target.blur();
      if (target.id === "filter" || !this.app.unselect()) this.clear();
      this.app.changed();
      return;
    }
    if (isText || (event.key === " " && target.matches("button, input, a"))) return;
    const actions = {
      " ": () => this.toggle(),
      l: () => this.app.view.toLive(),
      ",": () => this.app.step(-1),
      ".": () => this.app.step(1),
      "+": () => this.app.view.zoom(0.5),
      "=": () => this.app.view.zoom(0.5),
      "-": () => this.app.view.zoom(2),
      0: () => this.app.fit(),
      e: () => this.even(),
      g: () => this.toggleLegend(),
      "/": () => byId("filter").focus(),
      "?": () => byId("help").showModal(),
    };
    const action = actions[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
    this.app.changed();
  }

  /** States in words, and what can be pressed. */
  update() {
    const { view, feed, model, filter } = this.app;
    const runs = view.playing !== null || (view.isFollowing && feed.isLive);
    setText(byId("pause"), runs ? "Pause" : "Play");
    byId("even").setAttribute("aria-pressed", String(view.times !== null));
    byId("live").disabled = view.isFollowing;
    setText(byId("live"), feed.state === "recording" || feed.state === "ended" ? "End" : "Live");
    byId("clear-filter").hidden = filter.isEmpty;
    const status = byId("status");
    const isPaused = !view.isFollowing && feed.state === "live";
    status.dataset.state = isPaused ? "paused" : feed.state;
    const behind = Math.floor((feed.now() - view.now()) / 1e9) * 1e9;
    const words = view.playing ? "Playing" : "Paused";
    setText(status, isPaused ? words + (behind > 0 ? ", " + age(behind) + " behind live" : "") : feed.words);
    const { received, lost, invalid } = feed.counters;
    const parts = [plural(received, "event")];
    if (lost > 0) parts.push(count(lost) + " not shown");
    if (invalid > 0) parts.push(plural(invalid, "line") + " not read");
    if (model.forgotten > 0) parts.push("newest " + count(model.limit) + " kept");
    setText(byId("counts"), parts.join(" \u00b7 "));
    this.updateTaskNames();
    this.updateScrubber();
  }

  updateTaskNames() {
    const { model, filter } = this.app;
    if (model.tasks.size === this.taskCount) return;
    this.taskCount = model.tasks.size;
    const all = new Set();
    for (const task of model.tasks.values()) if (!task.isOwn) all.add(task.role);
    const names = [...all].sort().slice(0, 500);
    if (filter.role && !names.includes(filter.role)) names.unshift(filter.role);
    const key = names.join("\n");
    if (key === this.taskNames) return;
    this.taskNames = key;
    const select = byId("filter-task");
    if (document.activeElement === select) return;
    const options = [["", "All tasks"], ...names.map((it) => [it, visible(it)])].map(([value, text]) => {
      const option = element("option", null, text);
      option.value = value;
      return option;
    });
    select.replaceChildren(...options);
    select.value = filter.role;
  }

  updateScrubber() {
    const { view, feed } = this.app;
    const scrubber = byId("scrubber");
    const whole = Math.max(1, feed.now() - view.first());
    const value = view.isFollowing ? 1000 : Math.round(((view.moment - view.first()) / whole) * 1000);
    if (Number(scrubber.value) !== value) scrubber.value = value;
    scrubber.setAttribute("aria-valuetext", view.isFollowing && feed.isLive ? "live" : view.fullLabel(view.now()));
    this.updateMoment();
  }

  /** The caption: the newest step at the shown moment, or how to rewind. */
  updateMoment() {
    const { view, feed, model } = this.app;
    const isLive = view.isFollowing && feed.isLive;
    const last = isLive ? null : this.app.lastStep();
    this.app.timeline.current = last ? last.resource.lane : null;
    let words = ["", "", "", ""];
    if (isLive) words[0] = model.header ? "History of " + age(Math.max(1e9, feed.now() - view.first())) + ". Drag here to rewind." : "";
    else if (last) words = [view.fullLabel(view.now()), stepInWords(last.step), titleOf(last.resource), last.step.site ? visible(last.step.site) : ""];
    else words[0] = view.fullLabel(view.now());
    const spans = byId("moment").children;
    words.forEach((it, i) => setText(spans[i], it));
  }

  /** The history under the scrubber: how many descriptors were open, where findings and gaps are. */
  overview(now) {
    const { model, view } = this.app;
    const canvas = byId("overview");
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const key = [model.version, this.app.filter.withOwn, width, this.app.palette.dark.matches, view.feed.isLive && Math.floor(now / 1000)].join();
    this.isOverviewOld = key !== this.overviewKey && width >= 10;
    if (!this.isOverviewOld || now - this.overviewAt < (model.steps > 20000 ? 3000 : 500)) return;
    this.isOverviewOld = false;
    this.overviewKey = key;
    this.overviewAt = now;
    this.drawOverview(canvas, width, height);
  }

  drawOverview(canvas, width, height) {
    const { view, feed, model } = this.app;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const first = view.first();
    const scale = (width - 1) / Math.max(1, feed.now() - first);
    const place = (time) => Math.min(width - 1, Math.max(0, Math.floor((time - first) * scale)));
    const change = new Int32Array(width + 1);
    const steps = new Int32Array(width);
    for (const resource of model.resources.values()) {
      if (resource.isOwn && !this.app.filter.withOwn) continue;
      if (!resource.halfOf) {
        change[place(resource.start)] += 1;
        if (resource.end !== null) change[place(resource.end) + 1] -= 1;
      }
      for (const step of resource.steps) if (step.time >= first) steps[place(step.time)] += 1;
    }
    let open = 0;
    let mostOpen = 1;
    let mostSteps = 1;
    const opens = change.map((by) => {
      open += by;
      mostOpen = Math.max(mostOpen, open);
      return open;
    });
    for (const it of steps) mostSteps = Math.max(mostSteps, it);
    const theme = this.app.timeline.drawing.theme;
    context.fillStyle = theme.line;
    for (let x = 0; x < width; x += 1) {
      const bar = (opens[x] / mostOpen) * (height - 4);
      context.fillRect(x, height - bar, 1, bar);
    }
    context.fillStyle = theme.muted;
    for (let x = 0; x < width; x += 1) {
      if (steps[x] === 0) continue;
      const bar = 1 + (steps[x] / mostSteps) * (height * 0.45);
      context.fillRect(x, height - bar, 1, bar);
    }
    context.fillStyle = theme.warning;
    for (const gap of model.gaps) context.fillRect(place(gap.begin), 0, Math.max(2, place(gap.end) - place(gap.begin)), 3);
    context.fillStyle = theme.danger;
    for (const finding of model.findings) context.fillRect(place(finding.time) - 1, 0, 2, height);
  }
}

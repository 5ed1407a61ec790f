// The timeline: scrolling, pointer and keyboard on the canvas of lanes.

class Timeline {
  constructor(app) {
    this.app = app;
    this.canvas = byId("timeline");
    this.scroller = byId("timeline-scroller");
    this.spacer = byId("timeline-spacer");
    this.tip = byId("timeline-tip");
    this.drawing = new Drawing(this.canvas.getContext("2d"), app.view, app.palette);
    this.density = "normal";
    this.order = "number";
    this.shown = { lanes: [], elsewhere: 0 };
    this.listedAt = -Infinity;
    this.focus = null;
    this.hover = null;
    this.hoverLane = null;
    /** The lane of the newest step at the shown moment. */
    this.current = null;
    this.drag = null;
    this.drawn = "";
    this.drawnAt = -Infinity;
    this.drawnVersion = -1;
    this.cost = 0;
    this.width = 0;
    this.height = 0;
    new ResizeObserver(() => this.resize()).observe(this.scroller);
    this.resize();
    this.listen();
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    this.width = Math.max(50, this.scroller.clientWidth);
    this.height = Math.max(50, this.scroller.clientHeight);
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.width = this.width + "px";
    this.canvas.style.height = this.height + "px";
    this.drawing.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const view = this.app.view;
    view.width = this.width;
    view.gutter = this.width < 500 ? 110 : this.width < 800 ? 170 : 230;
    this.drawn = "";
    this.app.wake();
  }

  clear() {
    this.focus = null;
    this.current = null;
    this.leave();
    this.shown = { lanes: [], elsewhere: 0 };
    this.listedAt = -Infinity;
  }

  laneHeight() {
    return DENSITIES[this.density];
  }

  /** The lanes to show, at most four times a second: they follow from all resources. */
  list(now) {
    const { model, view, filter } = this.app;
    const key = [filter.version, this.order, view.version].join();
    if (now - this.listedAt < 250 && key === this.listedKey) return;
    if (now - this.listedAt < 60 && this.listedAt > 0) return;
    this.listedAt = now;
    this.listedKey = key;
    this.shown = lanesBetween(model, filter, this.order, view.timeAt(view.gutter), view.timeAt(view.width), view.now());
    const total = this.shown.lanes.length * this.laneHeight() + AXIS + 8;
    this.spacer.style.height = Math.max(0, total - this.height) + "px";
    this.explainEmpty();
  }

  explainEmpty() {
    const empty = byId("timeline-empty");
    const { model, filter } = this.app;
    empty.hidden = this.shown.lanes.length > 0;
    if (empty.hidden) return;
    setText(empty, model.resources.size === 0 ? "No descriptor has been recorded yet." : filter.isEmpty ? "Nothing was open in this part of time. Move in time, or press Fit." : "Nothing matches the filter in this part of time.");
  }

  /** Draws if something changed. Returns whether what is shown is up to date. */
  draw(now) {
    const { model, view, filter, selection } = this.app;
    this.list(now);
    const pixel = view.span / view.plotWidth() / (devicePixelRatio || 1);
    const edge = Math.round(view.feed.now() / (view.times ? 1e6 : pixel));
    const key = [
      model.version, Math.round(view.end / pixel), view.span, view.moment, edge, this.scroller.scrollTop, this.listedAt,
      filter.version, this.density, this.hover && this.hover.key, this.hoverLane && this.hoverLane.key,
      this.focus && this.focus.key, this.current && this.current.key, selection.resource && selection.resource.key, view.version,
    ].join();
    if (key === this.drawn) return true;
    // What moves by itself takes at most a third of the time.
    if (view.version === this.drawnVersion && now - this.drawnAt < this.cost * 3) {
      this.app.wake();
      return false;
    }
    const begin = performance.now();
    this.drawn = key;
    this.drawnAt = now;
    this.drawnVersion = view.version;
    this.drawing.all({
      lanes: this.shown.lanes,
      top: this.scroller.scrollTop,
      laneHeight: this.laneHeight(),
      width: this.width,
      height: this.height,
      focus: document.activeElement === this.canvas ? this.focus : null,
      hover: this.hover,
      hoverLane: this.hoverLane,
      current: this.current,
      selected: selection.resource,
    });
    this.cost = performance.now() - begin;
    return true;
  }

  laneAt(y) {
    if (y < AXIS) return null;
    return this.shown.lanes[Math.floor((y - AXIS + this.scroller.scrollTop) / this.laneHeight())] || null;
  }

  /** The resource under a point, with a tolerance of 4 pixels. */
  resourceAt(x, y) {
    const view = this.app.view;
    const lane = this.laneAt(y);
    if (!lane) return null;
    if (x < view.gutter) return resourceOfLane(lane, view.now());
    const begin = view.timeAt(x - 4);
    const end = view.timeAt(x + 4);
    const found = lane.resources[firstOpenAt(lane, begin)];
    if (!found || found.start > end) return null;
    const row = (y - AXIS + this.scroller.scrollTop) % this.laneHeight();
    const isLow = row > this.laneHeight() / 2;
    const time = view.timeAt(x);
    const half = found.halves.find((it) => (it.half === "write") === isLow && it.start <= time && (it.end === null || it.end >= time));
    return half || found;
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      this.drag = { x: event.offsetX, moved: 0 };
      if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      this.drag = null;
      if (drag && drag.moved < 4) this.click(event.offsetX, event.offsetY);
    });
    canvas.addEventListener("pointercancel", () => {
      this.drag = null;
    });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.app.wake());
    canvas.addEventListener("blur", () => this.app.wake());
    this.scroller.addEventListener("scroll", () => this.app.wake(), { passive: true });
  }

  moved(event) {
    const { app } = this;
    if (this.drag && event.buttons === 1) {
      const by = this.drag.x - event.offsetX;
      this.drag.moved += Math.abs(by);
      this.drag.x = event.offsetX;
      if (this.drag.moved >= 4) app.view.pan(by);
      app.changed();
      return;
    }
    this.hover = this.resourceAt(event.offsetX, event.offsetY);
    this.hoverLane = this.laneAt(event.offsetY);
    this.canvas.style.cursor = this.hover ? "pointer" : event.offsetX > app.view.gutter ? "grab" : "default";
    this.showTip(event.offsetX, event.offsetY);
    app.wake();
  }

  leave() {
    this.hover = null;
    this.hoverLane = null;
    this.tip.hidden = true;
    this.app.wake();
  }

  showTip(x, y) {
    const resource = this.hover;
    this.tip.hidden = resource === null;
    if (resource === null) return;
    setText(this.tip, this.describe(resource, x < this.app.view.gutter ? this.app.view.now() : this.app.view.timeAt(x)));
    const left = Math.min(x + 14, this.width - this.tip.offsetWidth - 6);
    const above = y + 20 + this.tip.offsetHeight > this.height;
    this.tip.style.transform = "translate(" + Math.max(4, left) + "px," + (above ? y - this.tip.offsetHeight - 8 : y + 18) + "px)";
  }

  /** A resource at a time in words: what, whose, and the step before. */
  describe(resource, time) {
    const view = this.app.view;
    const at = Math.max(0, stepAt(resource, time));
    const step = resource.steps[at];
    const state = stateAt(resource, time);
    const lines = [titleOf(resource) + ", resource " + resource.id];
    if (state && state.owner) lines.push(({ offered: "offered by ", parked: "parked in the lot of " }[state.state] || "owner ") + visible(state.owner.name));
    else if (state && state.state === "split") lines.push("split: each half has an owner");
    else if (resource.end !== null && resource.end <= time) lines.push(resource.ending === "unknown" ? "end not seen" : resource.ending);
    lines.push(stepInWords(step) + " at " + view.fullLabel(step.time) + (step.site ? ", " + visible(step.site) : ""));
    if (resource.fault && resource.fault.message) lines.push(visible(resource.fault.message));
    return lines.join("\n");
  }

  click(x, y) {
    const resource = this.resourceAt(x, y);
    if (y < AXIS && x > this.app.view.gutter) {
      this.app.goTo(this.app.view.timeAt(x));
      return;
    }
    this.focus = this.laneAt(y);
    if (resource) this.app.select(resource);
  }

  wheel(event) {
    const view = this.app.view;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      view.zoom(Math.exp(event.deltaY * 0.004), event.offsetX);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      view.pan((event.deltaX || event.deltaY) * 0.8);
    } else {
      return;
    }
    this.app.changed();
  }

  key(event) {
    const lanes = this.shown.lanes;
    const at = lanes.indexOf(this.focus);
    let handled = true;
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    switch (event.key) {
      case "ArrowDown":
        this.focusLane(Math.min(lanes.length - 1, at + 1));
        break;
      case "ArrowUp":
        this.focusLane(Math.max(0, at - 1));
        break;
      case "PageDown":
        this.focusLane(Math.min(lanes.length - 1, at + 10));
        break;
      case "PageUp":
        this.focusLane(Math.max(0, at - 10));
        break;
      case "ArrowLeft":
      case "ArrowRight": {
        const direction = event.key === "ArrowLeft" ? -1 : 1;
        if (event.shiftKey || !this.focus) this.app.view.pan(direction * this.app.view.plotWidth() * 0.1);
        else this.app.step(direction, [this.focus]);
        this.announce();
        break;
      }
      case "Enter":
        if (this.focus) this.app.select(resourceOfLane(this.focus, this.app.view.now()));
        break;
      default:
        handled = false;
    }
    if (!handled) return;
    event.preventDefault();
    event.stopPropagation();
    this.app.changed();
  }

  focusLane(index) {
    this.focus = this.shown.lanes[index] || null;
    if (!this.focus) return;
    this.reveal(index);
    this.announce();
  }

  announce() {
    if (!this.focus) return;
    const resource = resourceOfLane(this.focus, this.app.view.now());
    setText(byId("announcer"), this.describe(resource, this.app.view.now()));
  }

  /** Scrolls to a lane. */
  reveal(index) {
    const height = this.laneHeight();
    const y = index * height;
    const room = this.height - AXIS - height;
    if (y < this.scroller.scrollTop) this.scroller.scrollTop = y;
    else if (y > this.scroller.scrollTop + room) this.scroller.scrollTop = y - room;
  }

  /** Shows the lane of a resource, and its time if it is outside. */
  revealResource(resource) {
    const view = this.app.view;
    const end = resource.end === null ? view.feed.now() : resource.end;
    if (end < view.timeAt(view.gutter) || resource.start > view.timeAt(view.width)) this.app.goTo((resource.start + end) / 2);
    this.listedAt = -Infinity;
    this.list(performance.now());
    this.focus = resource.lane;
    const index = this.shown.lanes.indexOf(resource.lane);
    if (index >= 0) this.reveal(index);
  }
}

/** `given`; for a step that stands for several, `parked 12 times, last`. */
function eventOf(step) {
  return step.times > 1 ? step.event + " " + step.times + " times, last" : step.event;
}

/** `given: main to session`. */
function stepInWords(step) {
  const from = step.from ? visible(step.from.name) : null;
  const to = step.to ? visible(step.to.name) : null;
  const event = eventOf(step);
  const call = step.call ? " (" + visible(step.call) + ")" : "";
  if (from && to) return event + ": " + from + " to " + to + call;
  if (to) return event + " by " + to + call;
  if (from) return event + " by " + from + call;
  return event + call;
}

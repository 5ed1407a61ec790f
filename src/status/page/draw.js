// Drawing of lanes: bars in the owner's colour, marks of steps, gaps, the time axis.
//
// Only what is visible is drawn, and what is narrower than a pixel is merged.

const AXIS = 24;
const DENSITIES = { normal: 26, compact: 14, tiny: 5 };
const MARKS = new Set(["given", "transferred", "claimed", "inherited", "returned", "offered", "split", "rejoined", "cancelled", "received", "shared", "handed_over"]);

class Drawing {
  constructor(context, view, palette) {
    this.context = context;
    this.view = view;
    this.palette = palette;
    this.widths = new Map();
    this.readTheme();
  }

  /** The colours of the style sheet. */
  readTheme() {
    const style = getComputedStyle(document.documentElement);
    this.theme = {};
    for (const name of ["ground", "raised", "line", "ink", "muted", "accent", "danger", "danger-pale", "warning", "hover"]) {
      this.theme[name] = style.getPropertyValue("--" + name).trim();
    }
    const context = this.context;
    const tile = document.createElement("canvas");
    tile.width = 6;
    tile.height = 6;
    const paint = tile.getContext("2d");
    paint.strokeStyle = this.theme.muted;
    paint.lineWidth = 1;
    paint.beginPath();
    for (const at of [-6, 0, 6]) {
      paint.moveTo(at, 6);
      paint.lineTo(at + 6, 0);
    }
    paint.stroke();
    this.hatching = context.createPattern(tile, "repeat");
    this.palette.made.clear();
  }

  textWidth(text) {
    let width = this.widths.get(text);
    if (width === undefined) {
      width = this.context.measureText(text).width;
      if (this.widths.size > 5000) this.widths.clear();
      this.widths.set(text, width);
    }
    return width;
  }

  /** Text that fits, or nothing. */
  fittingText(text, x, y, room) {
    if (room < 18) return;
    const width = this.textWidth(text);
    if (width > room) {
      const length = Math.floor((text.length * room) / width) - 1;
      if (length < 2) return;
      text = cut(text, length);
    }
    this.context.fillText(text, x, y);
  }

  /** Everything: `{lanes, top, laneHeight, height, width, focus, hover, selected}`. */
  all(scene) {
    const { context, view, theme } = this;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = theme.ground;
    context.fillRect(0, 0, scene.width, scene.height);
    this.begin = view.timeAt(view.gutter - 2);
    this.finish = view.timeAt(scene.width + 2);
    this.now = view.now();
    this.edge = view.feed.now();
    const from = Math.max(0, Math.floor(scene.top / scene.laneHeight));
    const to = Math.min(scene.lanes.length, Math.ceil((scene.top + scene.height - AXIS) / scene.laneHeight));
    this.ticks = this.ticksOf(scene);
    this.faulty = new Set();
    this.backdrop(scene, from, to);
    context.save();
    context.beginPath();
    context.rect(view.gutter, AXIS, scene.width - view.gutter, scene.height - AXIS);
    context.clip();
    this.grid(scene);
    this.gaps(scene);
    for (let i = from; i < to; i += 1) this.lane(scene.lanes[i], AXIS + i * scene.laneHeight - scene.top, scene);
    this.future(scene);
    context.restore();
    this.labels(scene, from, to);
    this.axis(scene);
    return to - from;
  }

  backdrop(scene, from, to) {
    const { context, theme } = this;
    for (let i = from; i < to; i += 1) {
      const lane = scene.lanes[i];
      const y = AXIS + i * scene.laneHeight - scene.top;
      if (lane === scene.focus || lane === scene.hoverLane || lane === scene.current) {
        context.fillStyle = theme.hover;
        context.fillRect(0, y, scene.width, scene.laneHeight);
      }
      if (scene.laneHeight >= 14) {
        context.fillStyle = theme.line;
        context.fillRect(0, y + scene.laneHeight - 1, scene.width, 1);
      }
    }
  }

  ticksOf(scene) {
    const view = this.view;
    const ticks = [];
    if (view.times) {
      const every = Math.max(1, Math.ceil((view.span / view.plotWidth()) * 90));
      const first = Math.max(0, Math.ceil(view.begin() / every) * every);
      for (let i = first; i <= view.end && i < view.times.length; i += every) {
        const time = view.times[i];
        ticks.push({ x: view.x(time), label: view.fullLabel(time) });
      }
      return ticks;
    }
    let step = view.tickStep(80);
    const wide = this.textWidth(view.label(this.begin, step)) + 24;
    if (wide > 80) step = view.tickStep(wide);
    const zero = view.model.header && view.feed.state !== "recording" ? view.model.header.time_ns - ((view.model.header.time_unix_ms || 0) % 1000) * 1e6 : view.first();
    for (let time = zero + Math.ceil((this.begin - zero) / step) * step; time <= this.finish && ticks.length < 200; time += step) {
      ticks.push({ x: view.x(time), label: view.label(time, step) });
    }
    return ticks;
  }

  grid(scene) {
    const { context, theme } = this;
    context.fillStyle = theme.line;
    for (const tick of this.ticks) context.fillRect(Math.round(tick.x), AXIS, 1, scene.height);
  }

  axis(scene) {
    const { context, theme, view } = this;
    context.fillStyle = theme.raised;
    context.fillRect(0, 0, scene.width, AXIS);
    context.fillStyle = theme.line;
    context.fillRect(0, AXIS - 1, scene.width, 1);
    context.fillRect(view.gutter - 1, 0, 1, scene.height);
    context.fillStyle = theme.muted;
    for (const tick of this.ticks) {
      if (tick.x < view.gutter) continue;
      context.fillRect(Math.round(tick.x), AXIS - 6, 1, 6);
      const width = this.textWidth(tick.label);
      if (tick.x + 4 + width <= scene.width) context.fillText(tick.label, tick.x + 4, AXIS / 2 - 1);
    }
    const x = view.x(this.now);
    if (x >= view.gutter && x <= scene.width) {
      context.fillStyle = theme.accent;
      context.fillRect(Math.round(x) - 1, 0, 2, scene.height);
      context.beginPath();
      context.moveTo(x - 6, 0);
      context.lineTo(x + 6, 0);
      context.lineTo(x, 8);
      context.fill();
    }
  }

  /** What comes after the shown moment is dimmed. */
  future(scene) {
    const { context, theme, view } = this;
    if (view.isFollowing) return;
    const x = Math.max(view.gutter, view.x(this.now));
    if (x >= scene.width) return;
    context.globalAlpha = 0.6;
    context.fillStyle = theme.ground;
    context.fillRect(x, AXIS, scene.width - x, scene.height);
    context.globalAlpha = 1;
  }

  gaps(scene) {
    const { context, theme, view } = this;
    for (const gap of view.model.gaps) {
      if (gap.end < this.begin || gap.begin > this.finish) continue;
      const x0 = view.x(gap.begin);
      const x1 = Math.max(x0 + 3, view.x(gap.end));
      context.fillStyle = this.hatching;
      context.globalAlpha = 0.35;
      context.fillRect(x0, AXIS, x1 - x0, scene.height);
      context.globalAlpha = 1;
      const text = gap.count > 0 ? plural(gap.count, "event") + " not shown" : "not connected";
      const left = Math.max(x0, view.gutter) + 4;
      const width = this.textWidth(text);
      context.fillStyle = theme.raised;
      context.fillRect(left - 3, AXIS + 3, width + 6, 15);
      context.fillStyle = theme.warning;
      context.fillText(text, left, AXIS + 11);
    }
  }

  labels(scene, from, to) {
    const { context, theme, view } = this;
    if (scene.laneHeight < 12) return;
    context.save();
    context.beginPath();
    context.rect(0, AXIS, view.gutter - 6, scene.height);
    context.clip();
    for (let i = from; i < to; i += 1) {
      const lane = scene.lanes[i];
      const y = AXIS + (i + 0.5) * scene.laneHeight - scene.top;
      const resource = resourceOfLane(lane, this.now);
      context.font = "600 11px system-ui, sans-serif";
      context.fillStyle = this.faulty.has(lane) ? theme.danger : theme.ink;
      const number = lane.number === undefined ? "\u2013" : String(lane.number);
      context.textAlign = "right";
      context.fillText(number, 34, y);
      context.textAlign = "left";
      context.font = "11px system-ui, sans-serif";
      const isOpen = resource.end === null || resource.end > this.now;
      context.fillStyle = isOpen ? theme.ink : theme.muted;
      const kind = visible(resource.kind);
      context.fillText(kind, 42, y);
      const address = [resource.origin, addressOf(resource)].filter(Boolean).join(" ");
      if (address) {
        context.fillStyle = theme.muted;
        context.fillText(cut(visible(address), 40), 42 + this.textWidth(kind) + 8, y);
      }
    }
    context.restore();
  }

  lane(lane, y, scene) {
    const view = this.view;
    const list = lane.resources;
    const height = scene.laneHeight;
    const top = y + (height >= 20 ? 5 : height >= 12 ? 2 : 1);
    const bar = height >= 20 ? height - 11 : height >= 12 ? height - 5 : height - 1;
    let i = firstOpenAt(lane, this.begin);
    while (i < list.length) {
      const resource = list[i];
      if (resource.start > this.finish) break;
      const x0 = view.x(resource.start);
      const x1 = view.x(resource.end === null ? this.edge : resource.end);
      i += 1;
      if (resource.fault) this.faulty.add(lane);
      if (x1 - x0 >= 2) {
        this.resource(resource, x0, x1, top, bar, scene);
        continue;
      }
      let isFault = resource.fault !== null;
      let last = resource;
      const next = view.timeAt(x0 + 2);
      while (i < list.length && list[i].end !== null && list[i].end < next) {
        last = list[i];
        isFault = isFault || last.fault !== null;
        i += 1;
      }
      if (isFault) this.faulty.add(lane);
      const owner = last.owner || last.lastOwner;
      this.context.fillStyle = isFault ? this.theme.danger : owner ? this.palette.of(owner.role).edge : this.theme.muted;
      this.context.fillRect(x0, top, 2, bar);
    }
  }

  resource(resource, x0, x1, top, bar, scene) {
    const { context, view, theme } = this;
    const left = view.gutter - 4;
    const steps = resource.steps;
    let i = Math.max(0, stepAt(resource, this.begin));
    let mark = -Infinity;
    let shownText = null;
    const marks = [];
    while (i < steps.length) {
      const step = steps[i];
      if (step.time > this.finish) break;
      const begin = view.x(step.time);
      const state = i === 0 || MOVES.has(step.event) || OFFERS.has(step.event) || PARKS.has(step.event) || step.event === "split" ? step : null;
      let j = i + 1;
      const merge = view.timeAt(begin + 1);
      while (j < steps.length && steps[j].time < merge && !FINAL.has(steps[j].event)) j += 1;
      const shown = state && j === i + 1 ? state : this.stepOfState(steps, j - 1);
      const end = j < steps.length ? view.x(steps[j].time) : x1;
      this.segment(resource, shown, Math.max(left, begin), Math.min(end, scene.width + 4), top, bar, shownText);
      shownText = shown.to || shown.from;
      for (let k = i; k < j; k += 1) {
        if (MARKS.has(steps[k].event) && begin - mark > 4) {
          marks.push([steps[k].event, begin]);
          mark = begin;
        }
      }
      if (j >= steps.length || FINAL.has(steps[j].event)) break;
      i = j;
    }
    if (scene.selected === resource || scene.hover === resource) {
      context.strokeStyle = theme.ink;
      context.lineWidth = scene.selected === resource ? 2 : 1;
      context.strokeRect(Math.max(left, x0) + 0.5, top - 1.5, Math.min(x1, scene.width + 4) - Math.max(left, x0) - 1, bar + 3);
    }
    if (resource.fault) {
      context.fillStyle = theme.danger;
      context.fillRect(Math.max(left, x0), top + bar - 3, Math.min(x1, scene.width + 4) - Math.max(left, x0), 3);
      const at = view.x(resource.fault.time);
      if (bar >= 8) {
        context.fillRect(at - 1, top - 3, 3, bar + 6);
      }
    }
    for (const [event, x] of marks) this.mark(event, x, top, bar);
    if (resource.end !== null) this.ending(resource, x1, top, bar);
  }

  /** The last step that says who owns it, at or before an index. */
  stepOfState(steps, index) {
    for (let i = index; i > 0; i -= 1) {
      if (!NEUTRAL.has(steps[i].event)) return steps[i];
    }
    return steps[0];
  }

  segment(resource, step, x0, x1, top, bar, textBefore) {
    const { context, theme } = this;
    const width = x1 - x0;
    if (width <= 0) return;
    if (step.event === "split" && !resource.half) {
      this.split(resource, x0, x1, top, bar);
      return;
    }
    const owner = step.to || step.from;
    const colours = owner ? this.palette.of(owner.role) : { bar: theme.line, pale: theme.line, edge: theme.muted, ink: theme.ink };
    const isOffered = OFFERS.has(step.event);
    if (PARKS.has(step.event)) {
      // A thin bar without a name: nothing uses it.
      context.fillStyle = colours.bar;
      context.fillRect(x0, top + bar / 3, width, Math.max(1, bar / 3));
      return;
    }
    context.fillStyle = isOffered ? colours.pale : colours.bar;
    context.fillRect(x0, top, width, bar);
    if (isOffered && width > 3) {
      context.strokeStyle = colours.edge;
      context.lineWidth = 1.5;
      context.setLineDash([5, 3]);
      context.strokeRect(x0 + 0.75, top + 0.75, width - 1.5, bar - 1.5);
      context.setLineDash([]);
    }
    if (bar < 9 || width < 24 || owner === null) return;
    context.fillStyle = isOffered ? theme.ink : colours.ink;
    const room = width - 14;
    const names = isOffered ? [owner.name + " (offered)", owner.name, owner.role] : [owner.name, owner.role];
    const name = names.map(visible).find((it) => this.textWidth(it) <= room) || visible(owner.role);
    this.fittingText(name, x0 + (textBefore ? 9 : 6), top + bar / 2 + 0.5, room);
  }

  /** Read half above, write half below. Hatched where a half is unknown. */
  split(resource, x0, x1, top, bar) {
    const { context, view, theme } = this;
    context.fillStyle = this.hatching;
    context.globalAlpha = 0.5;
    context.fillRect(x0, top, x1 - x0, bar);
    context.globalAlpha = 1;
    const each = (bar - 1) / 2;
    for (const half of resource.halves) {
      const begin = Math.max(x0, view.x(half.start));
      const end = Math.min(x1, view.x(half.end === null ? this.edge : half.end));
      if (end <= begin) continue;
      const y = half.half === "write" ? top + each + 1 : top;
      context.fillStyle = theme.ground;
      context.fillRect(begin, y, end - begin, each);
      const steps = half.steps;
      for (let i = 0; i < steps.length; i += 1) {
        if (FINAL.has(steps[i].event)) break;
        const from = Math.max(begin, view.x(steps[i].time));
        const to = i + 1 < steps.length ? Math.min(end, view.x(steps[i + 1].time)) : end;
        if (to > from) this.segment(half, this.stepOfState(steps, i), from, to, y, each, null);
      }
      if (half.fault) {
        context.fillStyle = theme.danger;
        context.fillRect(begin, y, end - begin, 2);
      }
    }
  }

  mark(event, x, top, bar) {
    const { context, theme } = this;
    context.fillStyle = theme.ink;
    context.fillRect(x - 0.75, top - 2, 1.5, bar + 4);
    if (bar >= 12) glyph(context, event, x, top - 1);
  }

  ending(resource, x, top, bar) {
    const { context, theme } = this;
    if (x < this.view.gutter - 8) return;
    const isFault = resource.fault !== null;
    if (bar < 9) {
      context.fillStyle = isFault ? theme.danger : theme.ink;
      context.fillRect(x - 1, top, 1.5, bar);
      return;
    }
    ending(context, resource.ending, x, top + bar / 2, isFault ? theme.danger : theme.ink, theme);
  }
}

/** The sign of a step: a small shape at the top of its line. */
function glyph(context, event, x, y) {
  context.beginPath();
  switch (event) {
    case "given":
    case "offered":
    case "shared":
      context.moveTo(x - 4, y - 3);
      context.lineTo(x + 4, y - 3);
      context.lineTo(x, y + 3);
      break;
    case "transferred":
    case "returned":
    case "handed_over":
      context.moveTo(x - 4, y + 3);
      context.lineTo(x + 4, y + 3);
      context.lineTo(x, y - 3);
      break;
    case "cancelled":
      context.rect(x - 3, y - 3, 6, 6);
      break;
    case "split":
    case "rejoined":
      context.rect(x - 4, y - 3, 8, 2);
      context.rect(x - 4, y + 1, 8, 2);
      break;
    case "inherited":
      context.arc(x, y, 3.5, 0, 7);
      break;
    default:
      context.moveTo(x, y - 4);
      context.lineTo(x + 4, y);
      context.lineTo(x, y + 4);
      context.lineTo(x - 4, y);
  }
  context.closePath();
  context.fill();
}

/** A cross where it was closed, an arrow where it left the registry, an exclamation mark where its number
 *  was taken, a question mark if unknown. */
function ending(context, kind, x, y, colour, theme) {
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineWidth = 2;
  context.beginPath();
  if (kind === "unknown") {
    context.save();
    context.font = "700 13px system-ui, sans-serif";
    context.fillStyle = theme.muted;
    context.fillText("?", x + 2, y + 1);
    context.restore();
    return;
  }
  if (kind === "replaced") {
    context.save();
    context.fillStyle = theme.danger;
    context.arc(x, y, 6, 0, 7);
    context.fill();
    context.fillStyle = theme.ground;
    context.fillRect(x - 1, y - 4, 2, 5);
    context.fillRect(x - 1, y + 2, 2, 2);
    context.restore();
    return;
  }
  if (kind === "disowned") {
    context.moveTo(x, y);
    context.lineTo(x + 9, y);
    context.moveTo(x + 5, y - 4);
    context.lineTo(x + 9, y);
    context.lineTo(x + 5, y + 4);
  } else {
    context.moveTo(x - 4, y - 4);
    context.lineTo(x + 4, y + 4);
    context.moveTo(x - 4, y + 4);
    context.lineTo(x + 4, y - 4);
  }
  context.stroke();
}

/** The resource that a lane has at a time, or had last before it. */
function resourceOfLane(lane, time) {
  const list = lane.resources;
  const at = firstOpenAt(lane, time);
  if (at < list.length && list[at].start <= time) return list[at];
  return list[Math.max(0, at - 1)];
}

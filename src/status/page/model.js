// The model: tasks, resources with their steps, findings, and gaps, built from lines of the schema.
//
// It keeps the newest steps. Resources that have ended go first, oldest end first, with all their
// steps; the middle steps of a resource that stays open go next.

const FINAL = new Set(["disowned", "released", "dropped", "finalized", "replaced"]);
const MOVES = new Set(["acquired", "given", "transferred", "claimed", "unparked", "returned", "rejoined", "received", "handed_over"]);
/** What leaves a resource offered: an offer that nobody claimed is inherited by the parent. */
const OFFERS = new Set(["offered", "inherited"]);
/** What leaves a resource parked, on the account of the lot's task. */
const PARKS = new Set(["parked"]);
/** What changes neither the owner nor the state: another process may have a shared descriptor, too. */
const NEUTRAL = new Set(["cancelled", "shared"]);
const STEPS = new Set([...FINAL, ...MOVES, ...OFFERS, ...PARKS, ...NEUTRAL, "split"]);
/** Lines of tasks, which say nothing without one. */
const TASK_EVENTS = new Set(["task_started", "task_cancelled", "task_ended"]);
const KEPT_FINDINGS = 2000;
const KEPT_GAPS = 500;
const KEPT_DECLARED = 1000;
const KEPT_MESSAGES = 10000;
const KEPT_TASKS = 20000;
const KEPT_STEPS_OF_ONE = 64;
/** How much a clock may be set, in milliseconds, before its program counts as another one. */
const SAME_START_MS = 1000;

class Model {
  constructor(limit) {
    this.limit = limit;
    /** How often everything was forgotten, because another process sends events. */
    this.restarts = 0;
    this.clear();
  }

  clear() {
    this.header = null;
    this.process = null;
    this.tasks = new Map();
    this.endedTasks = [];
    this.resources = new Map();
    this.open = new Set();
    this.orphans = new Map();
    this.ended = [];
    this.endedFrom = 0;
    this.lanes = new Lanes();
    this.findings = [];
    this.findingCount = 0;
    this.gaps = [];
    this.declared = [];
    this.messages = [];
    this.steps = 0;
    this.forgotten = 0;
    this.forgetAt = 0;
    this.lost = 0;
    this.first = null;
    this.last = null;
    this.version = 0;
    this.replaying = null;
  }

  /** Ids are unique in their process; those of a tracer, which follows many processes, in the recording. */
  key(process, id) {
    if (this.header && this.header.source === "tracer") return id;
    return process === this.process || process === undefined ? id : process + ":" + id;
  }

  /** Applies one line. Returns `false` if it repeats what is known. */
  apply(line) {
    this.version += 1;
    const event = line.event;
    if (STEPS.has(event)) {
      if (line.replayed && this.replaying) this.replaying.resources.add(this.key(line.process, line.resource));
      return this.step(line);
    }
    switch (event) {
      case "recording":
        this.begin(line);
        return true;
      case "task_started":
        return this.taskStarted(line);
      case "task_cancelled":
        this.task(line.process, line.task).cancelled = line.time_ns;
        return true;
      case "task_ended":
        this.taskEnded(line);
        return true;
      case "leaked":
      case "violation":
        return this.finding(line);
      case "declared":
        return this.declare(line);
      case "message":
        this.message(line);
        return true;
      case "lost":
        this.gap(line.time_ns, line.count);
        return true;
      case "live":
        this.endReplay(line);
        return true;
      default:
        return true;
    }
  }

  /** A number may be declared again with other words; the newest counts. */
  declare(line) {
    const known = this.declared.findIndex((it) => it.number === line.number && it.table === line.table);
    if (known < 0) {
      if (this.declared.length < KEPT_DECLARED) this.declared.push(line);
      return true;
    }
    if (line.replayed || line.time_ns === this.declared[known].time_ns) return false;
    this.declared[known] = line;
    return true;
  }

  /** What the program says about itself. */
  message(line) {
    const task = this.task(line.process, line.task);
    if (task) task.messages += 1;
    this.seen(line.time_ns);
    this.messages.push({ time: line.time_ns, task, text: line.text || "" });
    if (this.messages.length >= 2 * KEPT_MESSAGES) this.messages.splice(0, KEPT_MESSAGES);
  }

  /** A header: of a new recording, or of the same one after a reconnect. */
  begin(line) {
    if (this.header && !isSameProgram(line, this.header)) {
      this.clear();
      this.restarts += 1;
    }
    if (!this.header) {
      this.header = line;
      this.process = line.process;
    }
    const known = this.resources.size > 0 || this.tasks.size > 0;
    this.replaying = known ? { resources: new Set(), tasks: new Set() } : null;
    if (known) this.gap(line.time_ns, 0);
  }

  /** What is open here and was not replayed has ended while there was no connection. */
  endReplay(line) {
    // A task that only the earlier steps of a resource name: it ended before the recording began.
    for (const task of this.tasks.values()) if (task.started === null) this.endTaskUnseen(task, line.time_ns);
    if (!this.replaying) return;
    const { resources, tasks } = this.replaying;
    this.replaying = null;
    for (const resource of [...this.open]) if (!resources.has(resource.key)) this.endUnseen(resource, line.time_ns);
    for (const task of this.tasks.values()) if (!tasks.has(task.key)) this.endTaskUnseen(task, line.time_ns);
  }

  seen(time) {
    if (time === undefined) return;
    if (this.first === null || time < this.first) this.first = time;
    if (this.last === null || time > this.last) this.last = time;
  }

  task(process, label) {
    if (!label) return null;
    const key = this.key(process, label.id);
    let task = this.tasks.get(key);
    if (!task) {
      task = {
        key, id: label.id, name: label.name, role: roleOf(label.name), isOwn: false, parent: null, started: null, ended: null, outcome: null,
        cancelled: null, thread: null, threadName: null, site: null, owns: new Set(), children: new Set(), messages: 0,
      };
      task.isOwn = isOwn(task);
      this.tasks.set(key, task);
    }
    return task;
  }

  taskStarted(line) {
    const task = this.task(line.process, line.task);
    if (line.replayed && this.replaying) this.replaying.tasks.add(task.key);
    if (task.started !== null) return false;
    this.seen(line.time_ns);
    task.started = line.time_ns;
    if (task.outcome === "unknown") task.ended = task.outcome = null;
    task.thread = line.thread === undefined ? null : line.thread;
    task.threadName = line.thread_name || null;
    task.site = line.site || null;
    task.parent = this.task(line.process, line.parent);
    if (task.parent) task.parent.children.add(task);
    return true;
  }

  taskEnded(line) {
    const task = this.task(line.process, line.task);
    this.seen(line.time_ns);
    if (task.outcome === "unknown") {
      task.ended = line.time_ns;
      task.outcome = line.outcome || null;
    } else {
      this.endTask(task, line.time_ns, line.outcome || null);
    }
  }

  /** A task that owns something is still there. */
  endTaskUnseen(task, time) {
    if (task.owns.size === 0) this.endTask(task, time, "unknown");
  }

  endTask(task, time, outcome) {
    if (task.ended !== null) return;
    this.version += 1;
    task.ended = time;
    task.outcome = outcome;
    this.endedTasks.push(task);
    if (this.endedTasks.length < KEPT_TASKS * 1.1) return;
    for (const it of this.endedTasks.splice(0, KEPT_TASKS * 0.1)) this.forgetTask(it);
  }

  forgetTask(task) {
    if (task.ended === null) return;
    this.tasks.delete(task.key);
    if (task.parent) task.parent.children.delete(task);
    for (const child of task.children) child.parent = task.parent;
  }

  step(line) {
    const key = this.key(line.process, line.resource);
    const time = line.time_ns;
    let resource = this.resources.get(key);
    let at = 0;
    if (resource) {
      // Between threads, lines may come in another order than their times.
      at = stepAt(resource, time) + 1;
      for (let i = at - 1; i >= 0 && resource.steps[i].time === time; i -= 1) {
        if (resource.steps[i].event === line.event) return false;
      }
      if (line.replayed && at > 0 && at < resource.steps.length) return false;
      if (resource.ending === "unknown") this.reopen(resource);
    } else {
      resource = this.acquire(key, line);
    }
    this.seen(time);
    const step = {
      event: line.event,
      time,
      from: this.task(line.process, line.from),
      to: this.task(line.process, line.to),
      site: line.site,
      thread: line.thread,
      call: line.call,
      stack: line.stack,
      times: line.times,
    };
    this.steps += 1;
    resource.lane.steps += 1;
    if (at === resource.steps.length) {
      resource.steps.push(step);
      this.follow(resource, step);
    } else {
      this.insert(resource, step, at, line);
    }
    if (this.steps > this.limit && this.steps > this.forgetAt) this.forget();
    return true;
  }

  /** A step that others overtook: the state follows from all steps. */
  insert(resource, step, at, line) {
    resource.steps.splice(at, 0, step);
    if (at === 0) {
      resource.start = step.time;
      resource.partial = step.event !== "acquired";
    }
    for (const name of ["local", "peer", "path"]) if (line[name] !== undefined) resource[name] = line[name];
    if (step.event === "acquired") resource.text = null;
    if (FINAL.has(step.event)) this.end(resource, step.time, step.event);
    if (resource.end !== null) return;
    const state = stateAt(resource, Infinity);
    resource.state = state.state;
    this.own(resource, state.owner);
  }

  acquire(key, line) {
    const resource = {
      key, id: line.resource, process: line.process, kind: line.kind || "resource", number: line.number,
      table: line.table, generation: line.generation, description: line.description, local: line.local,
      peer: line.peer, path: line.path, halfOf: null, wholeKey: null, half: line.half || null, halves: [], steps: [],
      omitted: 0, start: line.time_ns, partial: line.event !== "acquired" && line.half === undefined, end: null,
      ending: null, owner: null, state: "owned", fault: null, lane: null, isOwn: false, isForgotten: false, text: null,
      origin: this.header && this.header.source === "tracer" ? "in " + line.process : null,
    };
    this.resources.set(key, resource);
    this.open.add(resource);
    if (line.half_of !== undefined) {
      const wholeKey = this.key(line.process, line.half_of);
      const whole = this.resources.get(wholeKey);
      resource.wholeKey = wholeKey;
      if (whole) this.attach(resource, whole);
      else if (this.orphans.has(wholeKey)) this.orphans.get(wholeKey).push(resource);
      else this.orphans.set(wholeKey, [resource]);
    }
    this.lanes.add(resource);
    for (const half of this.orphans.get(key) || []) {
      this.lanes.remove(half);
      this.attach(half, resource);
      this.lanes.add(half);
    }
    this.orphans.delete(key);
    return resource;
  }

  attach(half, whole) {
    half.halfOf = whole;
    whole.halves.push(half);
    if (half.number === undefined) half.number = whole.number;
    if (half.table === undefined) half.table = whole.table;
    if (half.kind === "resource") half.kind = whole.kind;
  }

  follow(resource, step) {
    const event = step.event;
    if (FINAL.has(event)) {
      this.end(resource, step.time, event);
      return;
    }
    if (event === "rejoined") {
      for (const half of resource.halves) if (half.end === null) this.end(half, step.time, "rejoined");
      if (resource.half) {
        this.end(resource, step.time, "rejoined");
        return;
      }
    }
    if (NEUTRAL.has(event)) {
      return;
    }
    resource.state = event === "split" ? "split" : stateAfter(event);
    const owner = event === "split" && !resource.half ? null : step.to || step.from;
    this.own(resource, owner);
  }

  own(resource, owner) {
    if (owner === resource.owner) return;
    if (resource.owner) resource.owner.owns.delete(resource);
    if (owner) owner.owns.add(resource);
    resource.owner = owner;
    if (owner) resource.isOwn = owner.isOwn;
  }

  end(resource, time, ending) {
    if (resource.end !== null) return;
    resource.end = time;
    resource.ending = ending;
    if (ending === "replaced" && !resource.fault) resource.fault = { time };
    resource.lastOwner = resource.owner;
    if (resource.owner) resource.owner.owns.delete(resource);
    resource.owner = null;
    this.open.delete(resource);
    this.ended.push(resource);
  }

  endUnseen(resource, time) {
    this.version += 1;
    this.end(resource, Math.max(time, resource.start), "unknown");
  }

  /** Its end was assumed, and is now known to be wrong. */
  reopen(resource) {
    resource.end = null;
    resource.ending = null;
    this.open.add(resource);
    this.lanes.move(resource);
  }

  finding(line) {
    const known = line.replayed && this.findings.some((it) => it.time === line.time_ns && it.code === line.code && it.message === line.message);
    if (known) return false;
    this.seen(line.time_ns);
    const resources = (line.resources || []).map((id) => this.resources.get(this.key(line.process, id))).filter(Boolean);
    const finding = {
      index: this.findingCount,
      event: line.event,
      verdict: line.verdict || (line.event === "leaked" ? "leak" : "violation"),
      code: line.code || "",
      message: line.message || "",
      text: line.text || "",
      time: line.time_ns,
      site: line.site,
      task: this.task(line.process, line.task),
      resources,
    };
    this.findingCount += 1;
    this.findings.push(finding);
    for (const resource of resources) resource.fault = finding;
    if (this.findings.length > KEPT_FINDINGS) this.findings.shift();
    return true;
  }

  /** Events that are not shown, between what was seen last and `time`; without a number if it is unknown. */
  gap(time, number) {
    this.lost += number;
    const end = time === undefined ? this.last : time;
    const begin = this.last === null ? end : Math.min(this.last, end);
    const before = this.gaps[this.gaps.length - 1];
    if (before && begin <= before.end) {
      before.end = Math.max(before.end, end);
      before.count += number;
    } else {
      this.gaps.push({ begin, end, count: number });
      if (this.gaps.length > KEPT_GAPS) this.gaps.shift();
    }
    this.seen(end);
  }

  /** A task and a resource of a snapshot made at `time`, whose events were lost. */
  adoptTask(it, time) {
    if (it.state === "ended") return;
    const parent = this.tasks.get(it.parent);
    this.taskStarted({
      time_ns: time - it.age_ms * 1e6,
      task: it.task,
      parent: parent ? { id: parent.id, name: parent.name } : null,
      thread: it.thread_id === null ? undefined : it.thread_id,
      thread_name: it.thread,
      site: it.spawned,
    });
  }

  adopt(it, time) {
    this.version += 1;
    const known = (value) => (value === null ? undefined : value);
    for (const step of it.custody) {
      this.step({
        event: step.event,
        time_ns: time - step.ago_ms * 1e6,
        process: this.process,
        thread: step.thread_id,
        resource: it.id,
        kind: it.kind,
        number: known(it.number),
        table: this.process,
        half_of: known(it.half_of),
        half: known(it.half),
        from: step.from,
        to: step.to,
        site: step.site,
        local: known(it.local),
        peer: known(it.peer),
        path: known(it.path),
      });
    }
  }

  /** Forgets many at once: each lane is searched only once. */
  forget() {
    const lanes = new Set();
    const kept = this.limit * 0.98;
    while (this.steps > kept && this.endedFrom < this.ended.length) {
      const resource = this.ended[this.endedFrom];
      this.ended[this.endedFrom] = null;
      this.endedFrom += 1;
      if (resource.end === null || this.resources.get(resource.key) !== resource) continue;
      this.steps -= resource.steps.length;
      this.forgotten += resource.steps.length;
      this.resources.delete(resource.key);
      this.orphans.delete(resource.wholeKey);
      resource.isForgotten = true;
      lanes.add(resource.halfOf || resource.lane);
      this.first = Math.max(this.first, resource.end);
    }
    this.lanes.forget(lanes);
    if (this.endedFrom > 4096) {
      this.ended = this.ended.slice(this.endedFrom);
      this.endedFrom = 0;
    }
    this.forgetAt = 0;
    if (this.steps <= kept) return;
    for (const resource of this.open) {
      const extra = resource.steps.length - KEPT_STEPS_OF_ONE;
      if (extra <= 0) continue;
      resource.steps.splice(1, extra);
      resource.omitted += extra;
      this.steps -= extra;
      this.forgotten += extra;
    }
    // If most are short histories of what is open, the search is not repeated with every step.
    this.forgetAt = this.steps + 1000;
  }
}

/** Whether a line has what its event needs. Others would leave the model changed by half. */
function isComplete(line) {
  if (line === null || typeof line !== "object") return false;
  if (TASK_EVENTS.has(line.event)) return isTask(line.task) && line.time_ns !== undefined;
  if (!STEPS.has(line.event)) return true;
  const isOwner = (it) => it === undefined || isTask(it);
  return line.resource !== undefined && line.time_ns !== undefined && isOwner(line.from) && isOwner(line.to);
}

function isTask(label) {
  return Boolean(label) && label.id !== undefined && typeof label.name === "string";
}

/** Whether two headers are of one run of a program: a restarted one may get the same process id. */
function isSameProgram(a, b) {
  const start = (it) => it.time_unix_ms - it.time_ns / 1e6;
  return a.process === b.process && !(a.time_ns < b.time_ns) && !(Math.abs(start(a) - start(b)) > SAME_START_MS);
}

/** Whether a task is one of the status server's, which serves the page. */
function isOwn(task) {
  return task.role === "status client" || task.role === "status acceptor";
}

/** The step of a resource at a time, or -1 before the first. */
function stepAt(resource, time) {
  const steps = resource.steps;
  let low = 0;
  let high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle].time <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The state after a step that gives the resource an owner. */
function stateAfter(event) {
  return OFFERS.has(event) ? "offered" : PARKS.has(event) ? "parked" : "owned";
}

/** Owner and state of a resource at a time; `null` if it is not open then. */
function stateAt(resource, time) {
  if (resource.start > time || (resource.end !== null && resource.end <= time)) return null;
  let cancelled = false;
  for (let i = stepAt(resource, time); i >= 0; i -= 1) {
    const step = resource.steps[i];
    if (step.event === "cancelled") cancelled = true;
    if (NEUTRAL.has(step.event)) continue;
    if (step.event === "split" && !resource.half) return { owner: null, state: "split", cancelled };
    const state = stateAfter(step.event);
    return { owner: step.to || step.from, state, cancelled };
  }
  return { owner: null, state: "owned", cancelled };
}

/** `9 read half`, or the kind for what is no descriptor. */
function numberOf(resource) {
  const number = resource.number === undefined ? "\u2013" : String(resource.number);
  return resource.half ? number + " " + resource.half : number;
}

function addressOf(resource) {
  const whole = resource.halfOf ? addressOf(resource.halfOf) : "";
  return resource.peer || resource.path || resource.local || whole;
}

/** `9 tcp stream 127.0.0.1:51234`. */
function titleOf(resource) {
  const number = resource.number === undefined ? "" : resource.number + " ";
  const half = resource.half ? resource.half + " half of " : "";
  return visible(half + number + resource.kind + (addressOf(resource) ? " " + addressOf(resource) : ""));
}

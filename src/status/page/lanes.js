// Lanes: which resources share a row of the timeline, which rows are shown, and in which order.
//
// Resources with one number share a lane, because the number is reused. Two that overlap in time
// (after lost events, or when a number was replaced) get two lanes. Halves are drawn in the lane of
// the socket that was split.

class Lanes {
  constructor() {
    this.all = new Map();
    this.made = 0;
  }

  add(resource) {
    if (resource.halfOf && resource.halfOf.lane) {
      resource.lane = resource.halfOf.lane;
      return;
    }
    this.place(resource);
  }

  place(resource) {
    const base =
      resource.number === undefined ? "kind " + resource.kind : (resource.table || 0) + " " + resource.number;
    for (let row = 0; ; row += 1) {
      const key = base + " " + row;
      let lane = this.all.get(key);
      if (!lane) {
        this.made += 1;
        lane = {
          key, row, number: resource.number, table: resource.table, kind: resource.kind, made: this.made,
          resources: [], steps: 0,
        };
        this.all.set(key, lane);
      }
      const at = lane.resources.length;
      const before = lane.resources[at - 1];
      if (before && (before.end === null || before.end > resource.start)) continue;
      lane.resources.push(resource);
      resource.lane = lane;
      return;
    }
  }

  /** Takes a resource off its lane, to put it elsewhere. */
  remove(resource) {
    const lane = resource.lane;
    lane.resources.splice(lane.resources.indexOf(resource), 1);
    if (lane.resources.length === 0) this.all.delete(lane.key);
  }

  /** Takes what was forgotten off lanes, and halves off the sockets that were split. */
  forget(lanes) {
    for (const it of lanes) {
      if (it.halves) {
        it.halves = it.halves.filter((half) => !half.isForgotten);
        continue;
      }
      it.resources = it.resources.filter((resource) => !resource.isForgotten);
      if (it.resources.length === 0) this.all.delete(it.key);
    }
  }

  /** After its end was taken back: a later resource may have its place. */
  move(resource) {
    const list = resource.lane.resources;
    if (resource.halfOf || list[list.length - 1] === resource) return;
    list.splice(list.indexOf(resource), 1);
    this.place(resource);
  }
}

/** The index of the first resource of a lane that has not ended at a time. */
function firstOpenAt(lane, time) {
  const list = lane.resources;
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const end = list[middle].end;
    if (end !== null && end < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What of the model is shown: a text filter, a role of tasks, and two switches. */
class Filter {
  constructor() {
    this.words = [];
    this.role = "";
    this.onlyOpen = false;
    this.onlyFindings = false;
    /** Whether the descriptors of the status server itself are shown, too. */
    this.withOwn = false;
    this.version = 0;
  }

  setText(text) {
    const words = text.toLowerCase().match(/\S+/g) || [];
    this.words = words.map((word) => {
      const match = /^(fd|task|addr|kind):(.+)$/.exec(word);
      return match ? { field: match[1], text: match[2] } : { field: null, text: word };
    });
    this.version += 1;
  }

  get isEmpty() {
    return this.words.length === 0 && !this.role && !this.onlyOpen && !this.onlyFindings;
  }

  /** What `matches`, without the status server's own: a page should not show mostly itself. */
  shows(resource) {
    if (resource.isOwn && !this.withOwn && !resource.fault) return false;
    return this.isEmpty || this.matches(resource);
  }

  /** Whether text, task and findings match; `onlyOpen` depends on the time and is tested apart. */
  matches(resource) {
    if (this.onlyFindings && !resource.fault) return false;
    if (this.role && !resource.steps.some((it) => (it.to && it.to.role === this.role) || (it.from && it.from.role === this.role))) {
      return resource.halves.some((half) => this.matches(half));
    }
    return this.words.every((word) => this.matchesWord(resource, word)) || resource.halves.some((half) => this.matches(half));
  }

  matchesWord(resource, word) {
    switch (word.field) {
      case "fd":
        return String(resource.number) === word.text;
      case "kind":
        return resource.kind.toLowerCase().includes(word.text);
      case "addr":
        return [resource.peer, resource.local, resource.path].some((it) => it && it.toLowerCase().includes(word.text));
      case "task":
        return resource.steps.some((it) => this.names(it.to, word.text) || this.names(it.from, word.text));
      default:
        return this.textOf(resource).includes(word.text);
    }
  }

  names(task, text) {
    return task !== null && (task.name.toLowerCase().includes(text) || text === "#" + task.id);
  }

  /** All searchable text; remade when there are new steps. */
  textOf(resource) {
    if (resource.text && resource.text.steps === resource.steps.length) return resource.text.all;
    const parts = [resource.number, resource.kind, resource.peer, resource.local, resource.path, resource.half];
    for (const step of resource.steps) {
      if (step.to) parts.push(step.to.name);
      if (step.site) parts.push(step.site);
    }
    const all = parts.filter((it) => it !== undefined && it !== null).join(" ").toLowerCase();
    resource.text = { steps: resource.steps.length, all };
    return all;
  }
}

const ORDERS = {
  number: (a, b) => byOrigin(a, b) || order(a.number) - order(b.number) || order(a.table) - order(b.table) || (a.kind < b.kind ? -1 : a.kind > b.kind ? 1 : a.row - b.row),
  newest: (a, b) => b.resources[b.resources.length - 1].start - a.resources[a.resources.length - 1].start,
  active: (a, b) => b.steps - a.steps,
};

/** Of several processes: one after the other. */
function byOrigin(a, b) {
  return a.resources[0].origin === null ? 0 : order(a.table) - order(b.table);
}

function order(number) {
  return number === undefined ? Infinity : number;
}

/** The lanes to show between two times: `{lanes, elsewhere}` with the number of the others. */
function lanesBetween(model, filter, orderName, begin, end, moment) {
  const lanes = [];
  let elsewhere = 0;
  for (const lane of model.lanes.all.values()) {
    const list = lane.resources;
    let shown = false;
    for (let i = firstOpenAt(lane, filter.onlyOpen ? moment : begin); i < list.length && !shown; i += 1) {
      const resource = list[i];
      if (resource.start > (filter.onlyOpen ? moment : end)) break;
      shown = (filter.onlyOpen ? stateAt(resource, moment) !== null : true) && filter.shows(resource);
    }
    if (shown) lanes.push(lane);
    else elsewhere += 1;
  }
  lanes.sort(ORDERS[orderName] || ORDERS.number);
  return { lanes, elsewhere };
}

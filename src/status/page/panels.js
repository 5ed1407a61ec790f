// The panels: the tree of tasks, the table of open descriptors, the feed of findings. They show the
// same moment as the timeline.

const ROWS = 100;
const CHILDREN = 40;
const CHIPS = 6;
const NO_COLOURS = { bar: "transparent", edge: "transparent" };

class Panels {
  constructor(app) {
    this.app = app;
    this.rows = ROWS;
    this.traffic = new Map();
    this.collapsed = new Set();
    this.full = new Set();
    this.open = null;
    byId("descriptors-more").addEventListener("click", () => {
      this.rows += 1000;
      this.update();
    });
  }

  /** What is open at the shown moment, in order of numbers, after the filter. */
  openNow() {
    const { model, view, filter } = this.app;
    const time = view.now();
    const key = [model.version, filter.version, view.moment].join();
    if (this.open && this.openKey === key) return this.open;
    const isPast = !view.isFollowing;
    const all = [];
    let total = 0;
    let hidden = 0;
    for (const resource of isPast ? model.resources.values() : model.open) {
      const state = stateAt(resource, time);
      if (state === null) continue;
      total += 1;
      if (filter.shows(resource)) all.push({ resource, state });
      else if (resource.isOwn && !filter.withOwn) hidden += 1;
    }
    all.sort((a, b) => order(a.resource.number) - order(b.resource.number) || order(a.resource.table) - order(b.resource.table) || a.resource.id - b.resource.id);
    this.openKey = key;
    this.open = { all, total: total - hidden, hidden };
    return this.open;
  }

  update() {
    for (let part = 0; part < 3; part += 1) this.updatePart(part);
  }

  /** One of the three panels, so that a frame has to wait for one only. */
  updatePart(part) {
    if (part === 0) this.table(this.openNow());
    else if (part === 1) this.tree(this.openNow().all);
    else this.findings();
  }

  table({ all, total, hidden }) {
    const shown = [...all.slice(0, this.rows), ...this.declaredNow()];
    const own = hidden > 0 ? " and " + count(hidden) + " of the status server" : "";
    setText(byId("descriptors-count"), (all.length === total ? count(total) : count(all.length) + " of " + count(total)) + own);
    byId("descriptors").classList.toggle("undescribed", !all.some((it) => it.resource.description !== undefined));
    const body = byId("descriptors").tBodies[0];
    reconcile(body, shown, (it) => it.key || it.resource.key, (it) => (it.declared ? this.newDeclaredRow(it.declared) : this.newRow(it.resource)), (row, it) => {
      if (!it.declared) this.updateRow(row, it);
    });
    const none = byId("descriptors-none");
    none.hidden = all.length > 0;
    const hint = this.app.view.isFollowing && this.app.feed.isLive ? "" : " Choose another moment in the history above.";
    setText(none, this.app.filter.isEmpty ? "No task owns a descriptor at this moment." + hint : "No descriptor that matches the filter is open.");
    const more = byId("descriptors-more");
    more.hidden = all.length <= this.rows;
    if (!more.hidden) setText(more, "Show " + count(Math.min(1000, all.length - this.rows)) + " more");
  }

  /** Descriptors of libraries and of the parent process, which no task owns. */
  declaredNow() {
    const { model, view, filter } = this.app;
    if (filter.role || filter.onlyFindings) return [];
    const isShown = (it) => it.time_ns <= view.now() && filter.words.every((word) => (it.number + " " + it.name + " " + it.reason).toLowerCase().includes(word.text));
    return model.declared.filter(isShown).map((declared) => ({ key: "declared " + declared.number + " " + declared.time_ns, declared }));
  }

  newDeclaredRow(line) {
    const row = element(
      "tr", "declared",
      element("th", "number", String(line.number)),
      element("td", null, "\u2013"),
      element("td", "owner", line.name),
      element("td", null, "declared"),
      element("td"), element("td"),
      element("td", "address", line.reason),
      element("td", "description", "\u2013"),
    );
    row.cells[0].scope = "row";
    row.title = line.site ? visible(line.site) : "";
    return row;
  }

  newRow(resource) {
    const number = element("button", "link", numberOf(resource));
    number.type = "button";
    number.addEventListener("click", () => this.app.select(resource, true));
    const row = element(
      "tr", null,
      element("th", "number", number),
      element("td", null, resource.kind),
      element("td", "owner", element("span", "swatch"), element("span")),
      element("td"), element("td", "number"), element("td", "number"),
      element("td", "address"),
      element("td", "description", resource.description === undefined ? "\u2013" : resource.description),
    );
    row.cells[0].scope = "row";
    row.dataset.resource = resource.id;
    return row;
  }

  updateRow(row, { resource, state }) {
    const cells = row.cells;
    const owner = state.owner ? visible(state.owner.name) : "\u2013";
    setText(cells[2].lastChild, owner);
    cells[2].title = owner;
    this.paint(cells[2].firstChild, state.owner);
    const traffic = this.app.view.isFollowing ? this.traffic.get(resource.key) : undefined;
    const words = traffic && traffic.state === "busy" && state.state === "owned" ? "busy" : state.cancelled ? "cancelled" : state.state;
    const isFault = this.isFault(resource);
    setText(cells[3], isFault ? words + ", finding" : words);
    row.className = (isFault ? "fault " : "") + (this.app.selection.resource === resource ? "selected" : "");
    setText(cells[6], visible(addressOf(resource)) || "\u2013");
    setText(cells[4], age(this.app.view.now() - resource.start));
    setText(cells[5], traffic ? (traffic.bytes_in + traffic.bytes_out === 0 ? "\u2013" : bytes(traffic.bytes_in) + " / " + bytes(traffic.bytes_out)) : "\u2013");
  }

  /** Whether a finding about it has been made by the shown moment. */
  isFault(resource) {
    return resource.fault !== null && resource.fault.time <= this.app.view.now();
  }

  paint(swatch, owner) {
    const colours = owner ? this.app.palette.of(owner.role) : NO_COLOURS;
    if (swatch.colours === colours) return;
    swatch.colours = colours;
    swatch.style.backgroundColor = colours.bar;
    swatch.style.borderColor = colours.edge;
  }

  /** Bytes, states and addresses from the registry's snapshot. */
  take(snapshot) {
    this.traffic.clear();
    for (const it of snapshot.resources) {
      this.traffic.set(it.id, it);
      const resource = this.app.model.resources.get(it.id);
      if (!resource || addressOf(resource)) continue;
      for (const name of ["local", "peer", "path"]) if (it[name]) resource[name] = it[name];
      resource.text = null;
    }
  }

  tree(open) {
    const { model, view, filter } = this.app;
    const time = view.now();
    const owned = new Map();
    for (const { resource, state } of open) {
      if (!state.owner) continue;
      if (!owned.has(state.owner)) owned.set(state.owner, []);
      owned.get(state.owner).push(resource);
    }
    const running = new Set();
    let number = 0;
    for (const task of model.tasks.values()) {
      const runs = task.started !== null && task.started <= time && (task.ended === null || task.ended > time);
      if ((!runs && !owned.has(task)) || (task.isOwn && !filter.withOwn && !owned.has(task))) continue;
      number += 1;
      for (let it = task; it && !running.has(it); it = it.parent) running.add(it);
    }
    const children = new Map();
    const roots = [];
    for (const task of running) {
      if (task.parent && running.has(task.parent)) {
        if (!children.has(task.parent)) children.set(task.parent, []);
        children.get(task.parent).push(task);
      } else roots.push(task);
    }
    setText(byId("tasks-count"), count(number));
    const tasks = byId("tasks");
    if (!tasks.list) {
      tasks.list = element("ul", "tree");
      tasks.append(tasks.list);
    }
    this.level(tasks.list, roots, children, owned, "roots");
  }

  level(list, tasks, children, owned, key) {
    tasks.sort((a, b) => a.id - b.id);
    const limit = this.full.has(key) ? Infinity : CHILDREN;
    const shown = tasks.slice(0, limit);
    const rest = tasks.length - shown.length;
    const items = rest > 0 ? [...shown, { key: "more of " + key, more: rest }] : shown;
    reconcile(
      list, items, (it) => it.key,
      (it) => (it.more ? this.newMore(key) : this.newTask(it)),
      (item, it) => (it.more ? setText(item.firstChild, "Show " + count(it.more) + " more") : this.updateTask(item, it, children, owned)),
    );
  }

  newMore(key) {
    const button = element("button", "link");
    button.type = "button";
    button.addEventListener("click", () => {
      this.full.add(key);
      this.update();
    });
    return element("li", null, button);
  }

  newTask(task) {
    const toggle = element("button", "toggle");
    toggle.type = "button";
    toggle.addEventListener("click", () => {
      if (!this.collapsed.delete(task.key)) this.collapsed.add(task.key);
      this.update();
    });
    const name = element("button", "link name", task.name);
    name.type = "button";
    name.addEventListener("click", () => this.app.selectTask(task));
    const words = element("span", "words", name, element("span", "muted"), element("span", "chips"));
    const line = element("div", "task", toggle, element("span", "swatch"), words);
    const item = element("li", null, line, element("ul"));
    item.dataset.task = task.id;
    return item;
  }

  updateTask(item, task, children, owned) {
    const [toggle, swatch, words] = item.firstChild.children;
    const [, note, chips] = words.children;
    const below = children.get(task) || [];
    const isOpen = !this.collapsed.has(task.key);
    toggle.classList.toggle("none", below.length === 0);
    toggle.disabled = below.length === 0;
    toggle.setAttribute("aria-expanded", String(isOpen));
    toggle.setAttribute("aria-label", "Children of " + visible(task.name));
    setText(toggle, isOpen ? "\u25be" : "\u25b8");
    this.paint(swatch, task);
    const thread = task.threadName === task.name ? "" : task.threadName || (task.thread === null ? "" : "thread " + task.thread);
    const time = this.app.view.now();
    const state = task.cancelled !== null && task.cancelled <= time ? "cancelled" : task.ended !== null && task.ended <= time ? "ended" : "";
    setText(note, [thread ? visible(thread) : "", state].filter(Boolean).join(", "));
    item.firstChild.classList.toggle("selected", this.app.selection.task === task);
    this.chips(chips, owned.get(task) || []);
    this.level(item.lastChild, isOpen ? below : [], children, owned, task.key);
  }

  chips(parent, resources) {
    const shown = resources.slice(0, CHIPS);
    const rest = resources.length - shown.length;
    const items = rest > 0 ? [...shown, { key: "rest", rest }] : shown;
    reconcile(
      parent, items, (it) => it.key,
      (it) => (it.rest ? element("span", "muted") : this.chip(it)),
      (chip, it) => {
        if (it.rest) setText(chip, "and " + count(it.rest) + " more");
        else chip.classList.toggle("fault", this.isFault(it));
      },
    );
  }

  /** A button that selects a resource. */
  chip(resource) {
    const chip = element("button", "chip", numberOf(resource) + " " + resource.kind);
    chip.type = "button";
    chip.title = titleOf(resource);
    chip.dataset.resource = resource.id;
    chip.addEventListener("click", () => this.app.select(resource, true));
    return chip;
  }

  findings() {
    const { model, view } = this.app;
    const time = view.now();
    const shown = model.findings.filter((it) => it.time <= time);
    const later = model.findings.length - shown.length;
    setText(byId("findings-count"), count(model.findingCount) + (later > 0 ? " (" + count(later) + " later)" : ""));
    byId("findings-none").hidden = shown.length > 0;
    const list = byId("findings");
    const newest = shown.slice(-ROWS).reverse();
    reconcile(list, newest, (it) => it.index, (it) => this.newFinding(it), () => {});
    byId("findings-count").classList.toggle("fault", model.findingCount > 0);
  }

  clear() {
    this.traffic.clear();
    this.collapsed.clear();
    this.full.clear();
    const bodies = [byId("descriptors").tBodies[0], byId("findings"), byId("tasks").list];
    for (const it of bodies) if (it) reconcile(it, [], null, null, null);
  }

  /** They are made again, because times have other labels in a recording. */
  forgetFindings() {
    reconcile(byId("findings"), [], (it) => it.index, null, null);
  }

  newFinding(finding) {
    const button = element(
      "button", "finding",
      element("span", "code", finding.code || finding.verdict),
      element("span", "message", finding.message),
      element("span", "muted", this.app.view.fullLabel(finding.time) + (finding.site ? "  " + finding.site : "")),
    );
    button.type = "button";
    button.addEventListener("click", () => this.app.openReport(finding));
    const item = element("li", null, button);
    item.dataset.finding = finding.index;
    return item;
  }
}

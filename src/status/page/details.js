// Details: one resource with its history, one task, one finding with its report.

/** The newest messages of a task. */
const MESSAGES = 200;

class Details {
  constructor(app) {
    this.app = app;
    this.shown = "";
    this.selected = null;
    byId("details-close").addEventListener("click", () => app.unselect());
    byId("report-close").addEventListener("click", () => byId("report").close());
  }

  /** Shows what is selected; remade only when it changed. */
  update() {
    const { resource, task } = this.app.selection;
    const panel = byId("details");
    panel.hidden = !resource && !task;
    const isOther = this.selected !== (resource || task);
    this.selected = resource || task;
    if (panel.hidden) {
      this.shown = "";
      return;
    }
    const key = resource
      ? ["r", resource.key, resource.steps.length, resource.end, resource.fault !== null, resource.halves.length].join()
      : ["t", task.key, task.ended, task.cancelled, task.owns.size, task.children.size, task.messages].join();
    if (key === this.shown) return;
    this.shown = key;
    byId("details-body").replaceChildren(...(resource ? this.ofResource(resource) : this.ofTask(task)));
    // On a narrow screen it is below the timeline.
    if (isOther) panel.scrollIntoView({ block: "nearest" });
  }

  facts(pairs) {
    const list = element("dl");
    for (const [name, value] of pairs) {
      if (value === null || value === undefined || value === "") continue;
      list.append(element("dt", null, name), element("dd", null, value));
    }
    return list;
  }

  ofResource(resource) {
    const { view } = this.app;
    const first = resource.steps[0];
    const title = element("h2", null, (resource.number === undefined ? "" : numberOf(resource) + " ") + resource.kind);
    const lived = resource.end === null ? "open" : duration(resource.end - resource.start) + ", " + (resource.ending === "unknown" ? "its end was not seen" : resource.ending);
    const whole = resource.halfOf ? this.app.panels.chip(resource.halfOf) : null;
    const halves = element("span", "chips", ...resource.halves.map((half) => this.app.panels.chip(half)));
    const owner = resource.owner || resource.lastOwner || null;
    const content = [
      title,
      this.facts([
        ["Owner", owner ? this.taskLink(owner, resource.end === null ? "" : "(last)") : resource.state === "split" ? "its halves" : null],
        ["Peer", resource.peer],
        ["Local", resource.local],
        ["Path", resource.path],
        [resource.partial ? "First seen" : "Acquired", view.fullLabel(resource.start)],
        ["At", first.site],
        ["Lifetime", lived],
        ["Half of", whole],
        ["Halves", resource.halves.length > 0 ? halves : null],
        ["Resource", String(resource.id)],
        ["Generation", resource.generation === undefined ? null : resource.generation + " of number " + resource.number],
        ["Description", resource.description === undefined ? null : String(resource.description)],
        ["Process", resource.process === this.app.model.process ? null : String(resource.process)],
      ]),
    ];
    const finding = resource.fault && resource.fault.message ? this.app.model.findings.find((it) => it === resource.fault) : null;
    if (finding) {
      const button = element("button", "danger", "Report: " + finding.message);
      button.type = "button";
      button.addEventListener("click", () => this.app.openReport(finding));
      content.push(button);
    }
    content.push(element("h3", null, "History"), this.history(resource));
    return content;
  }

  history(resource) {
    const list = element("ol", "history");
    for (const step of resource.steps) {
      const button = element("button", "link", eventOf(step));
      button.type = "button";
      button.title = "Show this moment";
      button.addEventListener("click", () => this.app.goTo(step.time));
      const parties = element("span", "parties");
      if (step.from) parties.append(this.taskLink(step.from));
      if (step.from && step.to) parties.append(" \u2192 ");
      if (step.to) parties.append(this.taskLink(step.to));
      const where = [step.site, step.call, step.thread === undefined ? null : "thread " + step.thread].filter(Boolean).join(", ");
      const item = element(
        "li", FINAL.has(step.event) ? "final" : null,
        element("span", "time", step.time === resource.start ? "0" : "+" + duration(step.time - resource.start)),
        element("span", null, button, " ", parties),
        element("span", "muted place", where),
      );
      if (step.stack && step.stack.length > 1) item.append(this.stack(step.stack));
      list.append(item);
      if (resource.omitted > 0 && step === resource.steps[0]) list.append(element("li", "muted", plural(resource.omitted, "step") + " not kept"));
    }
    if (resource.ending === "unknown") list.append(element("li", "muted", "The end was not seen: its event was lost."));
    return list;
  }

  /** The stack of a call, closed at first. */
  stack(frames) {
    const lines = frames.map((frame) => element("li", null, frame));
    return element("details", "muted", element("summary", null, "Stack"), element("ol", null, ...lines));
  }

  taskLink(task, note) {
    const swatch = element("span", "swatch");
    this.app.panels.paint(swatch, task);
    const name = element("button", "link", task.name);
    name.type = "button";
    name.addEventListener("click", () => this.app.selectTask(task));
    return element("span", "tasklink", swatch, name, note ? element("span", "muted", note) : null);
  }

  ofTask(task) {
    const { view } = this.app;
    const own = "task:#" + task.id;
    const isOnly = byId("filter").value === own;
    const only = element("button", null, isOnly ? "Show all descriptors" : "Show only its descriptors");
    only.type = "button";
    only.addEventListener("click", () => {
      this.shown = "";
      this.app.filterText(isOnly ? "" : own);
    });
    const owned = [...task.owns];
    const chips = element("span", "chips", ...owned.slice(0, 100).map((it) => this.app.panels.chip(it)));
    const rest = owned.length > 100 ? " and " + count(owned.length - 100) + " more" : null;
    const messages = this.app.model.messages.filter((it) => it.task === task).slice(-MESSAGES);
    const said = element("ol", "history", ...messages.map((it) => this.message(it)));
    return [
      element("h2", null, "Task " + task.name),
      this.facts([
        ["Id", String(task.id)],
        ["Parent", task.parent ? this.taskLink(task.parent) : null],
        ["Thread", task.threadName ? task.threadName + (task.thread === null ? "" : " (" + task.thread + ")") : task.thread === null ? null : String(task.thread)],
        ["Started", task.started === null ? "before the recording" : view.fullLabel(task.started)],
        ["At", task.site],
        ["Cancelled", task.cancelled === null ? null : view.fullLabel(task.cancelled)],
        ["Ended", task.ended === null ? null : view.fullLabel(task.ended) + (task.outcome ? ", " + task.outcome : "")],
        ["Children", task.children.size === 0 ? null : count(task.children.size)],
        ["Owns", owned.length === 0 ? "nothing" : element("span", null, chips, rest)],
      ]),
      only,
      ...(messages.length > 0 ? [element("h3", null, "Messages"), said] : []),
    ];
  }

  message({ time, text }) {
    const button = element("button", "link", this.app.view.fullLabel(time));
    button.type = "button";
    button.title = "Show this moment";
    button.addEventListener("click", () => this.app.goTo(time));
    return element("li", "message", button, element("span", null, text));
  }

  report(finding) {
    const dialog = byId("report");
    setText(byId("report-title"), visible((finding.code ? finding.code + ": " : "") + finding.message));
    // The report's own line ends stay; what a peer chose was escaped when it was written.
    setText(byId("report-text"), (finding.text || finding.message).replace(/\t/g, "    ").split("\n").map(visible).join("\n"));
    const links = finding.resources.map((resource) => {
      const chip = element("button", "chip", "Show " + numberOf(resource) + " " + resource.kind + " in the timeline");
      chip.type = "button";
      chip.dataset.resource = resource.id;
      chip.addEventListener("click", () => {
        dialog.close();
        this.app.select(resource, true);
      });
      return chip;
    });
    const moment = element("button", "chip", "Show this moment");
    moment.type = "button";
    moment.addEventListener("click", () => {
      dialog.close();
      this.app.goTo(finding.time);
    });
    byId("report-resources").replaceChildren(...links, moment);
    if (!dialog.open) dialog.showModal();
  }
}

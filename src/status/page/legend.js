// The legend: the same signs as in the timeline, with words.

class Legend {
  constructor(app) {
    this.app = app;
    const entries = [
      ["bar", "owned; the colour is the owner's"], ["offered", "offered: still on the giver's account"],
      ["parked", "parked: waits on the account of a lot's task"], ["split", "split: read half above, write half below"], ["given", "given, offered, shared with a process"], ["transferred", "transferred, returned, handed over"],
      ["claimed", "claimed, received from a process"], ["inherited", "offer inherited by the parent"], ["cancelled", "shut down, because its owner was cancelled"],
      ["closed", "closed"], ["disowned", "left the registry, still open"], ["unknown", "end not seen"],
      ["replaced", "closed or reused outside the registry"],
      ["fault", "leak or violation"], ["gap", "events not shown"],
    ];
    this.swatches = entries.map(([kind, words]) => {
      const canvas = element("canvas");
      canvas.setAttribute("aria-hidden", "true");
      byId("legend").append(element("span", "entry", canvas, words));
      return [kind, canvas];
    });
    this.draw();
  }

  draw() {
    const { drawing } = this.app.timeline;
    const ratio = devicePixelRatio || 1;
    const theme = drawing.theme;
    const colours = this.app.palette.of("session");
    for (const [kind, canvas] of this.swatches) {
      canvas.width = 34 * ratio;
      canvas.height = 20 * ratio;
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const bar = (fill) => {
        context.fillStyle = fill;
        context.fillRect(1, 5, 32, 11);
      };
      if (kind === "bar") bar(colours.bar);
      else if (kind === "offered") {
        bar(colours.pale);
        context.strokeStyle = colours.edge;
        context.lineWidth = 1.5;
        context.setLineDash([5, 3]);
        context.strokeRect(1.75, 5.75, 30.5, 9.5);
      } else if (kind === "parked") {
        context.fillStyle = colours.bar;
        context.fillRect(1, 9, 32, 4);
      } else if (kind === "split") {
        context.fillStyle = colours.bar;
        context.fillRect(1, 5, 32, 5);
        context.fillStyle = this.app.palette.of("writer").bar;
        context.fillRect(1, 11, 32, 5);
      } else if (kind === "fault") {
        bar(colours.bar);
        context.fillStyle = theme.danger;
        context.fillRect(1, 13, 32, 3);
        ending(context, "released", 17, 9, theme.danger, theme);
      } else if (kind === "gap") {
        context.fillStyle = drawing.hatching;
        context.fillRect(1, 1, 32, 18);
      } else if (kind === "closed" || kind === "disowned" || kind === "replaced" || kind === "unknown") {
        context.fillStyle = colours.bar;
        context.fillRect(1, 5, 16, 11);
        ending(context, kind, 17, 10.5, theme.ink, theme);
      } else {
        bar(colours.bar);
        context.fillStyle = theme.ink;
        context.fillRect(16.25, 3, 1.5, 15);
        glyph(context, kind, 17, 4);
      }
    }
  }
}

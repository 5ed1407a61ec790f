// axe-core finds no serious or critical violation, in both colour schemes and at both widths, with
// everything open that can be opened.

import { readFileSync } from "node:fs";

import { Program, serve } from "./program.mjs";
import { Viewer, tools } from "./viewer.mjs";

const AXE = readFileSync(tools.resolve("axe-core/axe.min.js"), "utf8");

/** What is wrong with the page as it is now. */
async function violations(viewer, state) {
  const found = await viewer.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return found.violations
    .filter((it) => it.impact === "serious" || it.impact === "critical")
    .flatMap((it) => it.nodes.map((node) => `${state}: ${it.id} (${it.impact}): ${node.target.join(" ")}: ${node.failureSummary.split("\n").slice(1, 2).join("").trim()}`));
}

export const accessibility = {
  async accessibility() {
    const server = await serve("--chaos", "leak=1");
    const found = [];
    const client = new Program(["nc", "127.0.0.1", String(server.port)]);
    client.type("Hello\n");
    await client.shows("Hello");
    const quiet = new Program(["nc", "127.0.0.1", String(server.port)]);
    for (const scheme of ["light", "dark"]) {
      for (const width of [1280, 400]) {
        const viewer = await Viewer.open(server.url, { width, scheme });
        const name = `${scheme}-${width}`;
        await viewer.live();
        await viewer.shows("#findings", "leak");
        await viewer.evaluate(AXE);
        found.push(...(await violations(viewer, name)));
        await viewer.picture(name);
        await viewer.press("Space", "g");
        await viewer.evaluate(() => [...document.querySelectorAll("#tasks .chip")].at(-1).click());
        await viewer.waitFor("the details", () => !document.getElementById("details").hidden);
        found.push(...(await violations(viewer, `${name}, details and legend`)));
        await viewer.picture(`${name}-details`);
        await viewer.click("#findings button");
        await viewer.waitFor("the report", () => document.getElementById("report").open);
        found.push(...(await violations(viewer, `${name}, report`)));
        await viewer.picture(`${name}-report`);
        await viewer.press("Escape");
        await viewer.click("#help-toggle");
        await viewer.waitFor("the help", () => document.getElementById("help").open);
        found.push(...(await violations(viewer, `${name}, help`)));
        await viewer.close();
      }
    }
    await quiet.end();
    if (found.length > 0) throw new Error(`axe-core: ${found.length} serious violations:\n${found.join("\n")}`);
    return "16 states, no serious violation";
  },
};

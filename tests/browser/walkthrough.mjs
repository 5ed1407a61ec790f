// Performs docs/live-page.md: runs its commands, does in a browser what its sentences say, and asserts
// what they promise. With `--update` it makes the pictures of the document.

import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

import { stepsOf } from "./markdown.mjs";
import { Program, folder } from "./program.mjs";
import { Viewer } from "./viewer.mjs";

const DOCUMENT = "docs/live-page.md";

/** The parts of the page, as the document names them. */
const PLACES = {
  status: "#status",
  table: "#descriptors",
  tree: "#tasks",
  feed: "#findings",
  details: "#details",
  report: "#report",
  moment: "#moment",
  timeline: "#lanes",
};

class Walk {
  constructor(isUpdate) {
    this.isUpdate = isUpdate;
    this.cwd = folder();
    this.programs = [];
    this.viewer = null;
  }

  place(name) {
    if (!PLACES[name]) throw new Error(`there is no ${name} in the page; there are: ${Object.keys(PLACES).join(", ")}`);
    return PLACES[name];
  }

  /** The newest program whose command begins with this. */
  program(name) {
    const found = this.programs.findLast((it) => it.name.startsWith(name));
    if (!found) throw new Error(`\`${name}\` has not been started`);
    return found;
  }

  async run(command, output) {
    const program = new Program(command, { cwd: this.cwd });
    this.programs.push(program);
    for (const line of output) await program.shows(line);
    // What shows no output has done its work when it ends, or it serves or waits.
    if (/-o |\| nc/.test(command) && (await program.ended) !== 0) throw new Error(`exit code ${program.code}: ${program.text}`);
  }

  async open(url) {
    if (this.viewer) await this.viewer.close();
    this.viewer = await Viewer.open(url);
  }

  openFile(name) {
    return this.open(pathToFileURL(join(this.cwd, name)).href);
  }

  type(text, name) {
    this.program(name).type(`${text}\n`);
  }

  filter(text) {
    return this.viewer.page.type("#filter", text);
  }

  async interrupt(name) {
    const program = this.program(name);
    const code = await program.end("SIGINT");
    if (name.startsWith("echown") && code !== 0) throw new Error(`exit code ${code}: ${program.text}`);
  }

  terminal(name, text) {
    return this.program(name).shows(text);
  }

  shows(place, text) {
    return this.viewer.shows(this.place(place), text);
  }

  showsNot(place, text) {
    return this.viewer.shows(this.place(place), text, false);
  }

  clickOf(text, owner, place) {
    return this.clickElement(`${this.place(place)} li, ${this.place(place)} tr`, owner, text);
  }

  clickIn(text, place) {
    return this.clickElement(this.place(place), "", text);
  }

  click(text) {
    return this.clickElement("body", "", text);
  }

  /** Clicks the button with this text in the innermost element of `within` that has the other text. */
  async clickElement(within, of, text) {
    const find = (within, of, text) => {
      const parts = [...document.querySelectorAll(within)].filter((it) => it.textContent.includes(of));
      const part = parts.find((it) => !parts.some((other) => other !== it && it.contains(other)));
      return [...(part?.querySelectorAll("button") ?? [])].find((it) => it.textContent.includes(text) && !it.disabled);
    };
    await this.viewer.waitFor(`a button \`${text}\` ${of && `of ${of} `}in ${within}`, `!!(${find})(${[within, of, text].map((it) => JSON.stringify(it))})`);
    const button = await this.viewer.page.evaluateHandle(find, within, of, text);
    await button.click();
  }

  async press(key) {
    await this.viewer.press(key);
  }

  async picture(path) {
    const file = join(dirname(DOCUMENT), path);
    if (this.isUpdate) {
      mkdirSync(dirname(file), { recursive: true });
      await this.viewer.page.screenshot({ path: file });
    } else if (!existsSync(file)) throw new Error(`${file} is missing; \`ci/browser --update walkthrough\` makes it`);
  }

  async drag(end) {
    const slider = await this.viewer.page.$("#scrubber");
    const box = await slider.boundingBox();
    const y = box.y + box.height / 2;
    const { mouse } = this.viewer.page;
    await mouse.move(box.x + box.width / 2, y);
    await mouse.down();
    await mouse.move(end === "left" ? box.x + 1 : box.x + box.width - 1, y, { steps: 5 });
    await mouse.up();
  }
}

export const walkthrough = {
  async walkthrough({ isUpdate }) {
    const walk = new Walk(isUpdate);
    const steps = stepsOf(DOCUMENT);
    for (const step of steps) {
      try {
        await walk[step.action](...step.arguments);
      } catch (error) {
        throw new Error(`${DOCUMENT}:${step.line}: ${step.sentence}\n${error.message}`, { cause: error });
      }
    }
    await walk.viewer.picture("walkthrough");
    await walk.viewer.close();
    return `${steps.length} steps of ${DOCUMENT}`;
  },
};

// A page in Chromium that notes everything a page must not do: messages in the console, violations of
// the content security policy, requests to other origins.

import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { DEADLINE_MS, until } from "./program.mjs";

export const tools = createRequire(join(process.env.ECHOWN_BROWSER_TOOLS, "package.json"));

/** The rest of one round of the panels and a whole one. */
const PANEL_FRAMES = 12;

let browser = null;

async function chromium() {
  const puppeteer = tools("puppeteer-core");
  browser ??= await puppeteer.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    // The sandbox of Chromium needs a user that is not root. The screen is virtual.
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--force-color-profile=srgb"],
  });
  return browser;
}

export async function closeBrowser() {
  if (browser) await browser.close();
  browser = null;
}

export class Viewer {
  /** Opens a page; `before` runs in it before its own scripts. `scheme` is `light` or `dark`. */
  static async open(url, { width = 1280, height = 900, scheme = "light", before = null } = {}) {
    const page = await (await chromium()).newPage();
    const viewer = new Viewer(page, url);
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.evaluateOnNewDocument(() => {
      window.policyViolations = [];
      document.addEventListener("securitypolicyviolation", (event) => {
        window.policyViolations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
      });
    });
    if (before) await page.evaluateOnNewDocument(before);
    await page.goto(url, { waitUntil: "load", timeout: DEADLINE_MS });
    return viewer;
  }

  constructor(page, url) {
    this.page = page;
    this.faults = [];
    this.url = url;
    const origin = new URL(url).origin;
    page.on("console", (message) => this.faults.push(`console: ${message.type()} ${message.text()}`));
    page.on("pageerror", (error) => this.faults.push(`error: ${error.stack || error}`));
    page.on("dialog", (dialog) => {
      this.faults.push(`dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on("request", (request) => {
      const asked = request.url();
      if (asked === url || asked.startsWith("data:")) return;
      if (url.startsWith("file:") || new URL(asked).origin !== origin) this.faults.push(`request to ${asked}`);
    });
  }

  evaluate(...it) {
    return this.page.evaluate(...it);
  }

  text(selector) {
    // Not `innerText`: it forces the layout of the whole page.
    return this.evaluate((it) => document.querySelector(it)?.textContent ?? "", selector);
  }

  /** Waits until an element has a text, or no longer has it. */
  async shows(selector, text, isThere = true, deadlineMs = DEADLINE_MS) {
    await until(
      async () => `${selector} ${isThere ? "shows" : "no longer shows"} ${text}; it shows: ${await this.text(selector)}`,
      async () => (await this.text(selector)).includes(text) === isThere,
      deadlineMs,
    );
  }

  /** Waits until a function of the page returns something. */
  waitFor(what, condition, ...rest) {
    return until(what, () => this.evaluate(condition, ...rest));
  }

  /** Waits until all of the page shows what a user did before. The page updates one of its six parts in each
   *  frame (`updatePanels`), and begins with the first one when it has finished a round. */
  settled() {
    return this.evaluate(async (frames) => {
      for (let i = 0; i < frames; i += 1) await new Promise((done) => requestAnimationFrame(done));
    }, PANEL_FRAMES);
  }

  live() {
    return this.waitFor("the page is live", () => document.getElementById("status").dataset.state === "live");
  }

  click(selector) {
    return this.page.click(selector);
  }

  async press(...keys) {
    for (const key of keys) await this.page.keyboard.press(key);
  }

  counters() {
    return this.evaluate(() => ({ ...window.echown }));
  }

  /** A screenshot for people, if a folder is given. */
  async picture(name) {
    const target = process.env.ECHOWN_BROWSER_PICTURES;
    if (!target) return;
    mkdirSync(target, { recursive: true });
    await this.page.screenshot({ path: join(target, `${name}.png`) });
  }

  /** Closes the page, and fails if it did what a page must not do. */
  async close() {
    const violations = await this.evaluate(() => window.policyViolations);
    await this.page.close();
    const faults = [...this.faults, ...violations.map((it) => `content security policy: ${it}`)];
    if (faults.length > 0) throw new Error(`the page at ${this.url}: ${[...new Set(faults)].join("; ")}`);
  }
}

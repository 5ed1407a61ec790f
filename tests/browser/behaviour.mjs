// What the live page does: hand-overs, findings, rewind, filters, keys; and what it must not do.

import { Program, folder, serve, until } from "./program.mjs";
import { Viewer } from "./viewer.mjs";

/** The longest time from a client's connection until the page shows it, in milliseconds. */
const SHOWN_MS = 1000;

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** A client that has got its first echo. */
async function client(server, text = "Hello") {
  const made = new Program(["nc", "127.0.0.1", String(server.port)]);
  made.type(`${text}\n`);
  await made.shows(text);
  return made;
}

/** Rows of the table whose owner is a connection's task. */
const connections = () => [...document.querySelectorAll("#descriptors tbody tr")].filter((it) => it.querySelector(".owner").textContent.startsWith("echo ")).length;

export const behaviour = {
  async "hand-over"() {
    const server = await serve();
    const viewer = await Viewer.open(server.url);
    await viewer.live();
    const times = [];
    for (let round = 1; round <= 5; round += 1) {
      const begin = performance.now();
      await client(server);
      await until(`${round} connections in the table`, async () => (await viewer.evaluate(connections)) === round);
      times.push(performance.now() - begin);
    }
    const shown = Math.round(median(times));
    if (shown > SHOWN_MS) throw new Error(`a hand-over is shown after ${shown} ms (median of ${times.map(Math.round)})`);
    await viewer.picture("hand-over");
    await viewer.close();
    return `shown after ${shown} ms (median of 5)`;
  },

  async leak() {
    const server = await serve("--chaos", "leak=1");
    const viewer = await Viewer.open(server.url);
    await viewer.live();
    const one = await client(server);
    await viewer.shows("#findings", "leak");
    await one.end();
    // The lane is on a canvas: its pixels in the colour of findings.
    const red = () => {
      const canvas = document.getElementById("timeline");
      const danger = getComputedStyle(document.documentElement).getPropertyValue("--danger").trim();
      const copy = new OffscreenCanvas(canvas.width, canvas.height + 1).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 1);
      copy.fillStyle = danger;
      copy.fillRect(0, 0, 1, 1);
      const [r, g, b] = copy.getImageData(0, 0, 1, 1).data;
      const { data } = copy.getImageData(0, 1, canvas.width, canvas.height);
      let found = 0;
      for (let at = 0; at < data.length; at += 4) if (Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b) < 24) found += 1;
      return found;
    };
    await until("a red lane", async () => (await viewer.evaluate(red)) > 50);
    await viewer.picture("leak");
    await viewer.click("#findings button");
    await viewer.waitFor("the report opens", () => document.getElementById("report").open);
    for (const text of ["acquired here by task", "given here by task", "^^^^", "help:"]) await viewer.shows("#report-text", text);
    await viewer.picture("report");
    await viewer.press("Escape");
    await viewer.waitFor("the report is closed", () => !document.getElementById("report").open);
    await viewer.close();
  },

  async markup() {
    const path = "<img src=x onerror=alert(1)><b>bold";
    const connect = `use Socket; $| = 1; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; bind(S, sockaddr_un($ARGV[0])) or die;
      connect(S, sockaddr_un("socket")) or die; syswrite(S, "Hello\n"); sysread(S, $back, 6); print $back; sleep 60;`;
    // A leak is closed at once, so the open connection is another server's.
    for (const [chaos, place] of [[[], "#descriptors"], [["--chaos", "leak=1"], "#report-text"]]) {
      const cwd = folder();
      const server = new Program(["echown", "serve", "--listen", "unix:socket", "--status", "127.0.0.1:0", ...chaos], { cwd });
      const viewer = await Viewer.open((await server.shows(/^status on (http:\S+)$/m))[1]);
      await viewer.live();
      const peer = new Program(["perl", "-e", connect, path], { cwd });
      await peer.shows("Hello");
      if (chaos.length > 0) {
        await viewer.shows("#findings", "leak");
        await viewer.click("#findings button");
      }
      await viewer.shows(place, path);
      const made = await viewer.evaluate(() => document.querySelectorAll("main img, dialog img").length + [...document.querySelectorAll("b")].filter((it) => it.textContent.startsWith("bold")).length);
      if (made !== 0) throw new Error(`the peer's path became ${made} elements`);
      await viewer.picture(`markup${chaos.length}`);
      await viewer.close();
    }
  },

  async rewind() {
    const server = await serve();
    const viewer = await Viewer.open(server.url);
    await viewer.live();
    const clients = [await client(server), await client(server), await client(server)];
    await until("three connections", async () => (await viewer.evaluate(connections)) === 3);
    for (const it of clients) await it.end();
    await until("no connection", async () => (await viewer.evaluate(connections)) === 0);
    // Drags the slider to the left until all three are open again.
    const box = await (await viewer.page.$("#scrubber")).boundingBox();
    const { mouse } = viewer.page;
    let x = box.x + box.width - 4;
    await mouse.move(x, box.y + box.height / 2);
    await mouse.down();
    await until("all three again, further left", async () => {
      x = Math.max(box.x, x - 15);
      await mouse.move(x, box.y + box.height / 2);
      await viewer.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
      return (await viewer.evaluate(connections)) === 3;
    });
    await mouse.up();
    await viewer.waitFor("the page is paused", () => document.getElementById("status").dataset.state === "paused");
    await viewer.picture("rewind");
    // The keys of the slider go on from there, although the history grows.
    await viewer.page.focus("#scrubber");
    await until("no connection, further left", async () => {
      await viewer.press("ArrowLeft");
      await viewer.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
      return (await viewer.evaluate(connections)) === 0;
    });
    await until("all three, further right", async () => {
      await viewer.press("ArrowRight");
      await viewer.evaluate(() => new Promise((done) => requestAnimationFrame(done)));
      return (await viewer.evaluate(connections)) === 3;
    });
    const before = (await viewer.counters()).drawn;
    const other = await client(server);
    await until("a new event", async () => (await viewer.counters()).drawn > before);
    if ((await viewer.evaluate(connections)) !== 3) throw new Error("a new connection changes a moment of the past");
    await viewer.click("#live");
    await until("the new connection only", async () => (await viewer.evaluate(connections)) === 1);
    await other.end();
    await viewer.close();
  },

  async pause() {
    const server = await serve();
    const viewer = await Viewer.open(server.url);
    await viewer.live();
    await viewer.click("#pause");
    await viewer.waitFor("the page is paused", () => document.getElementById("status").dataset.state === "paused");
    const before = (await viewer.counters()).received;
    await client(server);
    await until("events arrive while the page is paused", async () => (await viewer.counters()).received > before);
    await viewer.shows("#status", "behind live");
    if ((await viewer.evaluate(connections)) !== 0) throw new Error("a paused page changed");
    await viewer.click("#live");
    await until("the connection after the pause", async () => (await viewer.evaluate(connections)) === 1);
    await viewer.close();
  },

  async filter() {
    const server = await serve();
    const viewer = await Viewer.open(server.url);
    await viewer.live();
    await client(server);
    await client(server);
    await until("two connections", async () => (await viewer.evaluate(connections)) === 2);
    const addresses = await viewer.evaluate(() => [...document.querySelectorAll("#descriptors tbody tr")].filter((it) => it.querySelector(".owner").textContent.startsWith("echo ")).map((it) => it.querySelector(".address").textContent));
    const rows = () => viewer.evaluate(() => [...document.querySelectorAll("#descriptors tbody tr")].map((it) => it.textContent));
    await viewer.page.type("#filter", addresses[0]);
    await until("one row with the address", async () => (await rows()).length === 1 && (await rows())[0].includes(addresses[0]));
    await viewer.press("Escape");
    await until("both rows", async () => (await viewer.evaluate(connections)) === 2);
    await viewer.page.select("#filter-task", "echo");
    await until("two rows of the task", async () => (await rows()).length === 2);
    await viewer.click("#clear-filter");
    await viewer.click("#only-findings");
    await until("no row without a finding", async () => (await rows()).length === 0);
    await viewer.picture("filter");
    await viewer.close();
  },

  async narrow() {
    const server = await serve();
    const viewer = await Viewer.open(server.url, { width: 400 });
    await viewer.live();
    await client(server);
    await viewer.shows("#tasks", "echo ");
    const isWider = await viewer.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    if (isWider) throw new Error("the page is wider than a screen of 400 pixels");
    await viewer.evaluate(() => [...document.querySelectorAll("#tasks .chip")].at(-1).click());
    await viewer.picture("narrow");
    await viewer.waitFor("the details are on the screen", () => {
      const { top, bottom, height } = document.getElementById("details").getBoundingClientRect();
      return height > 0 && top > -1 && bottom < innerHeight + 1;
    });
    await viewer.picture("narrow");
    await viewer.close();
  },

  async keyboard() {
    const server = await serve("--chaos", "leak=1");
    const viewer = await Viewer.open(server.url);
    await viewer.live();
    const one = await client(server);
    await viewer.shows("#findings", "leak");
    await one.end();
    const focused = () => viewer.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);
    // Tab alone reaches everything that can be clicked, and shows where it is.
    const wanted = new Set(["pause", "live", "step-back", "zoom-in", "filter", "filter-task", "options-toggle", "legend-toggle", "help-toggle", "scrubber", "timeline", "tasks", "finding"]);
    await viewer.press("Space");
    await viewer.waitFor("Space pauses", () => document.getElementById("status").dataset.state === "paused");
    for (let presses = 0; presses < 120 && wanted.size > 0; presses += 1) {
      await viewer.press("Tab");
      const at = await focused();
      if (wanted.delete(at)) {
        const outline = await viewer.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        if (outline === "none") throw new Error(`the focus of ${at} cannot be seen`);
      }
    }
    if (wanted.size > 0) throw new Error(`Tab does not reach ${[...wanted].join(", ")}`);
    await viewer.press("l");
    await viewer.live();
    // From the timeline to the details.
    await viewer.page.focus("#timeline");
    await viewer.press("ArrowDown", "ArrowDown", "Enter");
    await viewer.waitFor("Enter opens the details", () => !document.getElementById("details").hidden);
    if ((await viewer.text("#announcer")) === "") throw new Error("the timeline announces nothing");
    await viewer.press("Escape");
    await viewer.waitFor("Escape closes the details", () => document.getElementById("details").hidden);
    // From the feed to the report.
    await viewer.page.focus("#findings button");
    await viewer.press("Enter");
    await viewer.waitFor("Enter opens the report", () => document.getElementById("report").open);
    await viewer.press("Escape");
    await viewer.press("?");
    await viewer.waitFor("? opens the help", () => document.getElementById("help").open);
    await viewer.press("Escape", "g");
    await viewer.waitFor("g opens the legend", () => !document.getElementById("legend").hidden);
    await viewer.press("/");
    if ((await focused()) !== "filter") throw new Error("/ does not lead to the filter");
    await viewer.close();
  },
};

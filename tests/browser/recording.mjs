// `echown view` on a recording: served, and as a file that is opened without a server.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { Program, folder, serve, until } from "./program.mjs";
import { Viewer } from "./viewer.mjs";

/** The whole timeline is in the window, and nothing moves. */
async function showsAll(viewer) {
  await viewer.waitFor("the whole recording", () => document.getElementById("status").dataset.state === "recording");
  await viewer.shows("#status", "Recording");
  await viewer.shows("#pause", "Play");
  await viewer.shows("#counts", "event");
  // In between, the connection is open.
  await viewer.page.type("#filter", "task:echo");
  await viewer.settled();
  await until("a moment of the recording shows the connection", async () => {
    await viewer.click("#step-back");
    await viewer.settled();
    return (await viewer.text("#tasks")).includes("echo 127.0.0.1:");
  });
  await viewer.page.focus("#scrubber");
  await viewer.press("Home");
  await viewer.shows("#tasks", "echo 127.0.0.1:", false);
}

/** The page of a recording with these lines, as a file, and the folder of both. */
async function written(lines) {
  const cwd = folder();
  writeFileSync(join(cwd, "lines.jsonl"), lines.map((it) => (typeof it === "string" ? it : JSON.stringify(it)) + "\n").join(""));
  const view = new Program(["echown", "view", "lines.jsonl", "-o", "page.html"], { cwd });
  if ((await view.ended) !== 0) throw new Error(`exit code ${view.code}: ${view.text}`);
  return { cwd, url: pathToFileURL(join(cwd, "page.html")).href };
}

const isRecording = () => document.getElementById("status").dataset.state === "recording";

const HEADER = { event: "recording", schema_version: 1, time_ns: 0, time_unix_ms: 1764504519000, process: 7, program: "made" };
const MAIN = { id: 1, name: "main" };
const CHILD = { id: 2, name: "child" };

export const recording = {
  async incomplete() {
    const step = { process: 7, resource: 1, kind: "file", number: 3, generation: 1 };
    const { url } = await written([
      HEADER,
      { event: "task_started", time_ns: 1e6, process: 7 },
      { event: "task_cancelled", time_ns: 2e6 },
      { event: "task_ended", time_ns: 3e6, process: 7 },
      { event: "dropped", time_ns: 4e6, process: 7 },
      { ...step, event: "acquired", time_ns: 5e6, to: MAIN },
      { ...step, event: "given", time_ns: 6e6 },
      { ...step, event: "offered", time_ns: 7e6, from: CHILD },
      { ...step, event: "inherited", time_ns: 8e6, from: CHILD, to: MAIN },
      { ...step, event: "acquired", time_ns: 5e6, resource: 2, number: 4, to: MAIN },
      { ...step, event: "replaced", time_ns: 8e6, resource: 2, number: 4 },
      { event: "end", time_ns: 9e6, process: 7, reason: "finished" },
    ]);
    const viewer = await Viewer.open(url);
    await viewer.waitFor("the whole recording", isRecording);
    await viewer.shows("#counts", "4 lines not read");
    const { received, unread, kept } = await viewer.counters();
    if (received !== 6 || unread !== 4 || kept !== 6) throw new Error(`received ${received}, unread ${unread}, kept ${kept}`);
    // What the parent inherits stays offered; a number that was taken has ended its resource.
    const rows = () => viewer.evaluate(() => [...document.querySelectorAll("#descriptors tbody tr")].map((it) => it.textContent).join("\n"));
    await until("the inherited offer only", async () => {
      const text = await rows();
      return text.includes("main") && text.includes("offered") && !text.includes("\n");
    });
    await viewer.click("#legend-toggle");
    await viewer.picture("incomplete");
    await viewer.close();
  },

  async "long-recording"() {
    const lines = [HEADER, { event: "task_started", time_ns: 1e6, process: 7, task: MAIN }, { event: "live", time_ns: 1e6, process: 7 }];
    const events = 70000;
    const text = "x".repeat(1000);
    for (let i = 2; i <= events; i += 1) lines.push({ event: "message", time_ns: i * 1e6, process: 7, task: MAIN, text });
    const { cwd, url } = await written(lines);
    // More than the queue of a live page may have, and long enough to ask for a snapshot if it counted as live.
    const file = await Viewer.open(url);
    await file.waitFor("the whole recording", isRecording);
    const { received, unread, lost } = await file.counters();
    if (received !== events || unread !== 0 || lost !== 0) throw new Error(`received ${received}, unread ${unread}, lost ${lost}`);
    await file.close();

    const view = new Program(["echown", "view", "lines.jsonl"], { cwd });
    const served = await Viewer.open((await view.shows(/^open (http:\S+)$/m))[1]);
    await served.waitFor("the whole recording", isRecording);
    await served.close();
    if ((await view.end()) !== 0) throw new Error(`exit code ${view.code}: ${view.text}`);
  },

  async "live-end"() {
    const server = await serve();
    const viewer = await Viewer.open(server.url, { before: () => (window.fetch = () => Promise.reject(new Error("no snapshot"))) });
    await viewer.live();
    await server.end();
    await viewer.waitFor("the end of a program", () => document.getElementById("status").dataset.state === "ended");
    await viewer.close();
  },

  async recording() {
    const server = await serve("--record", "echown.jsonl", "--chaos", "leak=1");
    const client = new Program(["nc", "127.0.0.1", String(server.port)]);
    client.type("Hello\n");
    await client.shows("Hello");
    await server.end();
    await client.end();

    const view = new Program(["echown", "view", "echown.jsonl"], { cwd: server.cwd });
    const url = (await view.shows(/^open (http:\S+)$/m))[1];
    const served = await Viewer.open(url);
    await served.shows("#findings", "leak");
    await served.picture("recording");
    await showsAll(served);
    await served.close();
    if ((await view.end()) !== 0) throw new Error(`exit code ${view.code}: ${view.text}`);

    const written = new Program(["echown", "view", "echown.jsonl", "-o", "page.html"], { cwd: server.cwd });
    if ((await written.ended) !== 0) throw new Error(`exit code ${written.code}: ${written.text}`);
    const file = await Viewer.open(pathToFileURL(join(server.cwd, "page.html")).href);
    await file.shows("#findings", "leak");
    await showsAll(file);
    await file.close();
  },
};

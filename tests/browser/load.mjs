// 1,000 connections and 10,000 events a second: the page stays smooth, and no event is missing without
// being reported as lost.

import { createReadStream } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { Program, serve, until } from "./program.mjs";
import { Viewer } from "./viewer.mjs";

const SECONDS = Number(process.env.ECHOWN_BROWSER_SECONDS || 30);
const CONNECTIONS = 1000;

/** Each is five events: acquired, given, task started, dropped, task ended. */
const CONNECTIONS_PER_SECOND = 2000;

/** Otherwise the load is not what the check is about. */
const LEAST_RATE = 9000;

const FRAME_MS = 50;
const LONG_TASK_MS = 200;

/** Figures are made for windows of this length, and their medians count: the machine has other work. */
const WINDOW_MS = 5000;

/** After the load, a flood that the page does not read for a while, so that events are lost. */
const FLOOD = ["--connections", "16", "--churn", "--duration", "3s", "--warmup", "100ms"];
const BLOCKED_MS = 2500;

const quantile = (values, part) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? 0;
const median = (values) => quantile(values, 0.5);

/** Counts what arrives on the wire, without the page's help. Runs in the page before its scripts.
 *
 *  `lastAt` is the latest time of all lines. It need not be that of the last line: losses are reported at
 *  once, ahead of the events that still waited in the viewer's queue and are older. */
function watchWire() {
  const wire = (window.wire = { before: 0, live: 0, lost: 0, liveAt: null, lastAt: 0 });
  const Native = window.EventSource;
  window.EventSource = class extends Native {
    constructor(...it) {
      super(...it);
      this.addEventListener("message", ({ data }) => {
        for (const line of data.split("\n")) {
          const [, event, time] = /^\{"event":"(\w+)","time_ns":(\d+)/.exec(line);
          const at = Number(time);
          if (event === "recording" || event === "end") continue;
          if (event === "live") wire.liveAt = at;
          else if (event === "lost") wire.lost += JSON.parse(line).count;
          else if (wire.liveAt === null || at <= wire.liveAt) wire.before += 1;
          else wire.live += 1;
          wire.lastAt = Math.max(wire.lastAt, at);
        }
      });
    }
  };
}

/** Notes frames and long tasks in windows. */
function watchFrames(windowMs) {
  const smooth = (window.smooth = { frames: [], tasks: [], begin: performance.now() });
  let last = null;
  const at = (time) => Math.max(0, Math.floor((time - smooth.begin) / windowMs));
  const frame = (time) => {
    if (last !== null) (smooth.frames[at(time)] ??= []).push(time - last);
    last = time;
    requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) (smooth.tasks[at(entry.startTime)] ??= []).push(entry.duration);
  }).observe({ type: "longtask" });
}

/** Events of a recording after `begin` until `end`, those reported as lost included. */
async function eventsBetween(path, begin, end) {
  let events = 0;
  for await (const text of createInterface({ input: createReadStream(path) })) {
    const line = JSON.parse(text);
    if (line.event === "end" && line.reason !== "finished") throw new Error(`the recording ended early: ${text}`);
    if (["recording", "live", "end"].includes(line.event) || line.time_ns <= begin || line.time_ns > end) continue;
    events += line.event === "lost" ? line.count : 1;
  }
  return events;
}

async function bench(server, ...options) {
  const program = new Program(["echown", "bench", ...options, "--format", "json", `127.0.0.1:${server.port}`]);
  if ((await program.ended) !== 0) throw new Error(`exit code ${program.code}: ${program.text}`);
  return JSON.parse(program.text.split("\n").find((it) => it.startsWith("{")));
}

/** What the page counts is what arrived, and what arrived is what the server did. */
async function account(viewer, server) {
  // The page parses in slices between frames.
  await viewer.waitFor("all lines are parsed", () => window.echown.received === window.wire.before + window.wire.live && window.echown.state !== "live");
  const { received, drawn, repeated, unread, lost } = await viewer.counters();
  const wire = await viewer.evaluate(() => window.wire);
  const sent = wire.before + (await eventsBetween(join(server.cwd, "load.jsonl"), wire.liveAt, wire.lastAt));
  const figures = { sent, received, drawn, lost };
  const all = JSON.stringify({ ...figures, repeated, unread, wire });
  if (lost !== wire.lost + unread) throw new Error(`the page has not counted all losses: ${all}`);
  if (repeated !== 0) throw new Error(`the page ignored lines as repeated: ${all}`);
  if (drawn + lost !== sent) throw new Error(`drawn and lost events are not those that were sent: ${all}`);
  return figures;
}

export const load = {
  async load() {
    const server = await serve("--max-connections", String(CONNECTIONS + 200), "--record", "load.jsonl", "--record-limit", "2GiB");
    const viewer = await Viewer.open(server.url, { before: watchWire });
    await viewer.live();
    const begin = performance.now();
    const loaded = bench(
      server, "--connections", "16", "--idle", String(CONNECTIONS - 16), "--churn", "--rate", String(CONNECTIONS_PER_SECOND),
      "--duration", `${SECONDS}s`,
    );
    await until("the connections", async () => (await viewer.counters()).received > CONNECTIONS * 3);
    await viewer.evaluate(watchFrames, WINDOW_MS);
    const before = (await viewer.counters()).received;
    const from = performance.now();
    const made = await loaded;
    const counters = await viewer.counters();
    const rate = Math.round((counters.received + counters.lost - before) / ((performance.now() - from) / 1000));
    const smooth = await viewer.evaluate(() => window.smooth);
    await viewer.picture("load");

    const flood = bench(server, ...FLOOD);
    await viewer.evaluate((blocked) => {
      const end = performance.now() + blocked;
      while (performance.now() < end);
    }, BLOCKED_MS);
    await flood;
    // The server sends viewers the rest when it stops.
    await server.end();
    const { sent, drawn, lost } = await account(viewer, server);
    await viewer.close();

    const windows = smooth.frames.filter((it) => it?.length > 1);
    const frame = median(windows.map((it) => quantile(it, 0.95)));
    const longest = smooth.frames.map((_, at) => Math.max(0, ...(smooth.tasks[at] ?? []))).toSorted((a, b) => b - a);
    console.log(`load for ${Math.round((performance.now() - begin) / 1000)} s: ${CONNECTIONS} connections, ${windows.length} windows of ${WINDOW_MS / 1000} s
  events per second      ${rate}
  latency of an echo     p50 ${Math.round(made.latency.p50)} \u00b5s, p99 ${Math.round(made.latency.p99)} \u00b5s
  frames per window      ${windows.map((it) => it.length).join(" ")}
  frame time             p50 ${median(windows.flat()).toFixed(1)} ms, p95 ${frame.toFixed(1)} ms (median of the windows)
  longest task           ${longest[0]} ms
  events, with a flood   ${sent} sent = ${drawn} drawn + ${lost} reported as lost
`);
    if (lost === 0) throw new Error("no event was lost in the flood, so this run says nothing about losses");
    if (rate < LEAST_RATE) throw new Error(`only ${rate} events per second: the machine is too slow or too busy for this check`);
    if (frame > FRAME_MS) throw new Error(`the 95th percentile of frame times is ${frame} ms`);
    // One window may have been disturbed.
    if (longest[1] > LONG_TASK_MS) throw new Error(`tasks of ${longest} ms block the page`);
    return `${rate} events per second, frames p95 ${frame.toFixed(1)} ms, longest task ${longest[0]} ms, ${lost} of ${sent} events reported as lost`;
  },
};

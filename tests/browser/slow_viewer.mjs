// A viewer that does not read changes nothing for the clients of the echo.

import { connect } from "node:net";

import { Program, serve } from "./program.mjs";

const ROUNDS = 7;

/** 1,000 connections, most of them idle; the others are new for each message, so that there are events. */
const LOAD = ["--connections", "16", "--idle", "984", "--churn", "--duration", "1500ms", "--warmup", "300ms", "--format", "json"];

/** What a broken feature does, not what a noisy machine does: a server that waits for its viewer stands still. */
const LEAST_RATIO = 0.5;

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** A viewer that asks for events and never reads them. */
function deafViewer(url) {
  const { hostname, port, host } = new URL(url);
  return new Promise((done, failed) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(`GET /events HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      done(socket);
    });
    socket.pause();
    socket.on("error", failed);
  });
}

async function bench(port) {
  const program = new Program(["echown", "bench", ...LOAD, `127.0.0.1:${port}`]);
  if ((await program.ended) !== 0) throw new Error(`exit code ${program.code}: ${program.text}`);
  const line = program.text.split("\n").find((it) => it.startsWith("{"));
  return JSON.parse(line);
}

export const slowViewer = {
  async "slow-viewer"() {
    const server = await serve("--max-connections", "1200");
    const results = { without: [], with: [] };
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const kind of round % 2 === 0 ? ["without", "with"] : ["with", "without"]) {
        const viewer = kind === "with" ? await deafViewer(server.url) : null;
        results[kind].push(await bench(server.port));
        viewer?.destroy();
      }
    }
    const of = (kind, value) => median(results[kind].map(value));
    const rate = (it) => it.messages_per_second;
    const p99 = (it) => it.latency.p99;
    const ratio = of("with", rate) / of("without", rate);
    const line = (kind) => `${Math.round(of(kind, rate)).toString().padStart(10)} ${Math.round(of(kind, p99)).toString().padStart(10)}`;
    console.log(`a viewer that does not read, ${ROUNDS} rounds, medians: 984 idle connections, 16 of one message each
                  per second   p99 (\u00b5s)
  without viewer  ${line("without")}
  with viewer     ${line("with")}
`);
    if (ratio < LEAST_RATIO) throw new Error(`with a slow viewer, clients get ${ratio.toFixed(2)} of the throughput`);
    return `throughput with and without: ${ratio.toFixed(2)}, p99: ${(of("with", p99) / of("without", p99)).toFixed(2)}`;
  },
};

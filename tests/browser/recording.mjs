// `echown view` on a recording: served, and as a file that is opened without a server.

import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { Program, serve, until } from "./program.mjs";
import { Viewer } from "./viewer.mjs";

/** The whole timeline is in the window, and nothing moves. */
async function showsAll(viewer) {
  await viewer.waitFor("the whole recording", () => document.getElementById("status").dataset.state === "recording");
  await viewer.shows("#status", "Recording");
  await viewer.shows("#pause", "Play");
  await viewer.shows("#counts", "event");
  // In between, the connection is open.
  await viewer.page.type("#filter", "task:echo");
  await until("a moment of the recording shows the connection", async () => {
    await viewer.click("#step-back");
    return (await viewer.text("#tasks")).includes("echo 127.0.0.1:");
  });
  await viewer.page.focus("#scrubber");
  await viewer.press("Home");
  await viewer.shows("#tasks", "echo 127.0.0.1:", false);
}

export const recording = {
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

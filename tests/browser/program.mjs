// Programs that a check starts: the server, clients, commands of the documents. All of them are ended
// when the check ends.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

export const DEADLINE_MS = 20000;

const running = new Set();
const folders = new Set();

/** Waits until `condition` returns something; `what` names it in the error. */
export async function until(what, condition, deadlineMs = DEADLINE_MS) {
  const end = performance.now() + deadlineMs;
  let last;
  while (performance.now() < end) {
    last = await condition();
    if (last) return last;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error(`not within ${deadlineMs / 1000} s: ${typeof what === "function" ? await what() : what}`);
}

/** A folder that is deleted when the check ends. */
export function folder() {
  const made = mkdtempSync(join(tmpdir(), "echown-browser-"));
  folders.add(made);
  return made;
}

export class Program {
  /** `command` is a program with its arguments, or a line for the shell. */
  constructor(command, options = {}) {
    this.name = Array.isArray(command) ? command.join(" ") : command;
    const path = process.env.ECHOWN_PROGRAMS + delimiter + process.env.PATH;
    const [file, ...rest] = Array.isArray(command) ? command : ["bash", "-c", command];
    this.text = "";
    this.code = null;
    // A process group, so that a signal reaches a pipeline as it does from a terminal.
    this.child = spawn(file, rest, { cwd: options.cwd, env: { ...process.env, PATH: path }, detached: true });
    running.add(this);
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", (part) => (this.text += part));
    }
    this.child.stdin.on("error", () => {});
    this.ended = new Promise((done) => {
      this.child.on("error", (error) => {
        this.text += `${error}\n`;
        this.code = -1;
        running.delete(this);
        done(this.code);
      });
      this.child.on("close", (code, signal) => {
        this.code = code ?? signal;
        running.delete(this);
        done(this.code);
      });
    });
  }

  type(text) {
    this.child.stdin.write(text);
  }

  signal(name) {
    if (this.code === null) process.kill(-this.child.pid, name);
  }

  /** Waits for a text, and returns what a regular expression matched. */
  shows(text, deadlineMs) {
    const find = () => (text instanceof RegExp ? text.exec(this.text) : this.text.includes(text));
    return until(
      () => `\`${this.name}\` shows ${text}; it shows:\n${this.text}`,
      () => {
        const found = find();
        if (!found && this.code !== null) throw new Error(`\`${this.name}\` ended with ${this.code} before it showed ${text}:\n${this.text}`);
        return found;
      },
      deadlineMs,
    );
  }

  async end(name = "SIGINT") {
    this.signal(name);
    let timer;
    const late = new Promise((done) => (timer = setTimeout(() => done("late"), DEADLINE_MS)));
    if ((await Promise.race([this.ended, late])) === "late") {
      this.signal("SIGKILL");
      throw new Error(`\`${this.name}\` did not end after ${name}:\n${this.text}`);
    }
    clearTimeout(timer);
    return this.code;
  }
}

/** A server with a status address on free ports. */
export async function serve(...more) {
  const cwd = folder();
  const program = new Program(["echown", "serve", "--listen", "127.0.0.1:0", "--status", "127.0.0.1:0", ...more], { cwd });
  program.url = (await program.shows(/^status on (http:\S+)$/m))[1];
  program.port = Number((await program.shows(/^listening on 127\.0\.0\.1:(\d+)$/m))[1]);
  program.cwd = cwd;
  return program;
}

/** Ends what a check has left running. */
export async function endAll() {
  for (const program of running) program.signal("SIGKILL");
  await Promise.all([...running].map((it) => it.ended));
  for (const it of folders) rmSync(it, { recursive: true, force: true });
  folders.clear();
}

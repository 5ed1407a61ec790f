// Reads a walkthrough from Markdown: the commands of `console` and `sh` blocks, and the sentences of list items. A
// picture on a line of its own is a screenshot of this moment.
//
// Every sentence of a list item is performed or asserted. One that matches no form below is an error, so
// that a document cannot promise what nobody tries. Text outside of lists and blocks is for people only.

import { readFileSync } from "node:fs";

/** Forms of sentences, and the actions they stand for. `X` is a code span. */
const FORMS = [
  [/^Open <(.+)> in a browser$/, "open"],
  [/^Open `(.+)` in a browser$/, "openFile"],
  [/^Type `(.+)` in the terminal of `(.+)`$/, "type"],
  [/^Type `(.+)` in the filter$/, "filter"],
  [/^End `(.+)` with Ctrl-C$/, "interrupt"],
  [/^The terminal of `(.+)` shows `(.+)`$/, "terminal"],
  [/^The (\w+) shows? `(.+)`$/, "shows"],
  [/^The (\w+) no longer shows? `(.+)`$/, "showsNot"],
  [/^Click `(.+)` of `(.+)` in the (\w+)$/, "clickOf"],
  [/^Click `(.+)` in the (\w+)$/, "clickIn"],
  [/^Click `(.+)`$/, "click"],
  [/^Press `(.+)`$/, "press"],
  [/^Drag the slider to the (left|right) end$/, "drag"],
];

/** Steps of a document: `{line, action, arguments}`. */
export function stepsOf(path) {
  const steps = [];
  const lines = readFileSync(path, "utf8").split("\n");
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at];
    const fence = /^\s*```(\w*)/.exec(line);
    if (fence) {
      const begin = at;
      for (at += 1; !/^\s*```$/.test(lines[at]); at += 1);
      if (fence[1] === "sh") steps.push(...commandsOf(lines.slice(begin + 1, at).map((it) => `$ ${it}`), begin + 2));
      if (fence[1] === "console") steps.push(...commandsOf(lines.slice(begin + 1, at), begin + 2));
      continue;
    }
    const picture = /^!\[.+\]\((.+\.png)\)$/.exec(line);
    if (picture) steps.push({ line: at + 1, action: "picture", sentence: line, arguments: [picture[1]] });
    const item = /^(?:-|\d+\.) (.+)$/.exec(line);
    if (item) for (const sentence of item[1].split(/(?<=[.`>])\.? (?=[A-Z])/)) steps.push({ line: at + 1, ...stepOf(path, at + 1, sentence) });
  }
  return steps;
}

function stepOf(path, line, sentence) {
  const plain = sentence.replace(/[.:]$/, "");
  for (const [form, action] of FORMS) {
    const found = form.exec(plain);
    if (found) return { action, sentence, arguments: found.slice(1) };
  }
  throw new Error(`${path}:${line}: nothing tries the sentence "${sentence}"`);
}

/** `$ command` and the lines of output that follow it. */
function commandsOf(lines, first) {
  const commands = [];
  lines.forEach((line, index) => {
    if (line.startsWith("$ ")) commands.push({ line: first + index, action: "run", sentence: line, arguments: [line.slice(2), []] });
    else commands.at(-1).arguments[1].push(line);
  });
  return commands;
}

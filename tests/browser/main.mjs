// Runs the checks of the live page one after the other, and prints a table.
//
// `main.mjs [--update] [CHECK...]`; without a name all checks run. ci/browser starts it.

import { accessibility } from "./accessibility.mjs";
import { behaviour } from "./behaviour.mjs";
import { load } from "./load.mjs";
import { endAll } from "./program.mjs";
import { recording } from "./recording.mjs";
import { slowViewer } from "./slow_viewer.mjs";
import { closeBrowser } from "./viewer.mjs";
import { walkthrough } from "./walkthrough.mjs";

const CHECKS = {
  ...walkthrough,
  ...behaviour,
  ...recording,
  ...accessibility,
  ...slowViewer,
  ...load,
};

const isUpdate = process.argv.includes("--update");
const names = process.argv.slice(2).filter((it) => it !== "--update");
for (const name of names) {
  if (CHECKS[name]) continue;
  console.error(`no check ${name}; they are: ${Object.keys(CHECKS).join(", ")}`);
  process.exit(2);
}

const rows = [];
let failed = 0;
for (const name of names.length > 0 ? names : Object.keys(CHECKS)) {
  const begin = performance.now();
  let verdict = "ok";
  try {
    const figures = await CHECKS[name]({ isUpdate });
    if (figures) verdict += `: ${figures}`;
  } catch (error) {
    failed += 1;
    verdict = "FAILED";
    console.log(`== ${name}\n${error.stack}\n`);
  } finally {
    await endAll();
  }
  rows.push(`${name.padEnd(14)} ${((performance.now() - begin) / 1000).toFixed(1).padStart(6)} s  ${verdict}`);
}
await closeBrowser();
console.log(rows.join("\n"));
process.exit(failed > 0 ? 1 : 0);

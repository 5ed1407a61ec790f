// Descriptors that a script opens by `fs.openSync` and forgets. Node writes the lines of functions, not of
// calls, for perf.
//
// command: node --perf-basic-prof --interpreted-frames-native-stack
// run:
// expect: leak warning x5 @open
import fs from "node:fs";

function keep() { // @open
  return fs.openSync("/dev/null", "r");
}

for (let i = 0; i < 5; i++) keep();

// `fs.closeSync` of a number that is closed already.
//
// command: node --perf-basic-prof --interpreted-frames-native-stack
// run:
// expect: double-close error @open @first @second
import fs from "node:fs";

function open() { // @open
  return fs.openSync("/dev/null", "r");
}

function first(number) { // @first
  fs.closeSync(number);
}

function second(number) { // @second
  try {
    fs.closeSync(number);
  } catch {
    // EBADF
  }
}

const number = open();
first(number);
second(number);

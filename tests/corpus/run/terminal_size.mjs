// The size of the terminal by a stream on /dev/tty that is not destroyed, as in sindresorhus/terminal-size#27:
// each call leaves one descriptor: libuv opens the terminal again and puts that in the place of the script's.
//
// command: node --perf-basic-prof --interpreted-frames-native-stack
// needs: a terminal
// run:
// expect: leak warning x3 @size
import fs from "node:fs";
import tty from "node:tty";

function size() { // @size
  return new tty.WriteStream(fs.openSync("/dev/tty", "r+")).columns;
}

for (let i = 0; i < 3; i++) size();

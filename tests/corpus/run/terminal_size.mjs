// The size of the terminal by a stream on /dev/tty that is not destroyed, as in sindresorhus/terminal-size#27:
// each call leaves two descriptors, the script's and the one that libuv opens for itself.
//
// command: node --perf-basic-prof --interpreted-frames-native-stack
// needs: a terminal
// run:
// expect: leak warning x3 @size
// expect: leak warning x3 @size
import fs from "node:fs";
import tty from "node:tty";

function size() { // @size
  return new tty.WriteStream(fs.openSync("/dev/tty", "r+")).columns;
}

for (let i = 0; i < 3; i++) size();

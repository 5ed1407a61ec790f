// Files that Go code opens and drops without a close; the garbage collector is off.
//
// run:
// expect: leak warning x4 @open
package main

import (
	"os"
	"runtime/debug"
)

var kept []*os.File

func main() {
	debug.SetGCPercent(-1)
	for i := 0; i < 4; i++ {
		file, err := os.Open("/dev/null") // @open
		if err != nil {
			os.Exit(1)
		}
		kept = append(kept, file)
	}
}

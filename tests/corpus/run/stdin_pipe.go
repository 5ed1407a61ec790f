// `StdinPipe` without `Start`: nothing closes the two ends of the pipe (golang/go#58369).
//
// run:
// expect: leak warning x3 @pipe
package main

import (
	"io"
	"os"
	"os/exec"
	"runtime/debug"
)

var kept []io.WriteCloser

func main() {
	debug.SetGCPercent(-1)
	for i := 0; i < 3; i++ {
		input, err := exec.Command("true").StdinPipe() // @pipe
		if err != nil {
			os.Exit(1)
		}
		kept = append(kept, input)
	}
}

// A descriptor that Go code closes twice by system calls, from two goroutines on two threads.
//
// run:
// expect: double-close error @open @first @second
package main

import (
	"os"
	"runtime"
	"syscall"
)

func main() {
	runtime.LockOSThread()
	fd, err := syscall.Open("/dev/null", syscall.O_RDONLY|syscall.O_CLOEXEC, 0) // @open
	if err != nil {
		os.Exit(1)
	}
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		syscall.Close(fd) // @first
		done <- true
	}()
	<-done
	syscall.Close(fd) // @second
}

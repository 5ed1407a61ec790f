// A server and its client of net/http in one process, and a child: everything is closed.
//
// run:
// expect: no-failure
package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	handler := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		io.WriteString(answer, "hello")
	})
	go http.Serve(listener, handler)
	for i := 0; i < 50; i++ {
		response, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			os.Exit(2)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if i%10 == 0 && exec.Command("true").Run() != nil {
			os.Exit(3)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	listener.Close()
}

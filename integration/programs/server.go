// The workload's server on Go's net/http, on IPv4 and IPv6. Usage: server PORT [CERTIFICATE KEY]
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

func answer(response http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	wish := func(name string, otherwise int) int {
		if number, err := strconv.Atoi(query.Get(name)); err == nil {
			return number
		}
		return otherwise
	}
	received, _ := io.Copy(io.Discard, request.Body)
	if gate := query.Get("gate"); gate != "" {
		for _, err := os.Stat(gate); err != nil; _, err = os.Stat(gate) {
			time.Sleep(time.Millisecond)
		}
	}
	if delay := wish("delay", 0); delay > 0 {
		fmt.Println("delaying", request.URL.Path, delay, "ms")
		time.Sleep(time.Duration(delay) * time.Millisecond)
	}
	status, size := wish("status", 200), wish("size", 2)
	address, port, _ := net.SplitHostPort(request.RemoteAddr)
	header := response.Header()
	header.Set("X-Peer", fmt.Sprintf("%d %s %s", os.Getpid(), address, port))
	header.Set("X-Received", strconv.FormatInt(received, 10))
	if status == 204 || status == 304 {
		response.WriteHeader(status)
		return
	}
	chunked := wish("chunked", 0) == 1
	if !chunked {
		header.Set("Content-Length", strconv.Itoa(size))
	}
	response.WriteHeader(status)
	if request.Method == http.MethodHead {
		return
	}
	if !chunked {
		response.Write(bytes.Repeat([]byte("y"), size))
		return
	}
	for begin := 0; begin < size; begin += 1000 {
		response.Write(bytes.Repeat([]byte("y"), min(1000, size-begin)))
		response.(http.Flusher).Flush()
	}
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}

func serve(address string) {
	place, handler := net.JoinHostPort(address, os.Args[1]), http.HandlerFunc(answer)
	if len(os.Args) > 3 {
		panic(http.ListenAndServeTLS(place, os.Args[2], os.Args[3], handler))
	}
	panic(http.ListenAndServe(place, handler))
}

func main() {
	go serve("127.0.0.1")
	serve("::1")
}

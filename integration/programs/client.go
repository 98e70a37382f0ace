// Runs a plan with Go's net/http: one client, N at a time, its pool as large. Usage: client PLAN LOG N
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

type planned struct {
	ID      string            `json:"id"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Body    int               `json:"body"`
	Chunked bool              `json:"chunked"`
	Headers map[string]string `json:"headers"`
}

type answered struct {
	ID     string `json:"id"`
	Status int    `json:"status"`
	Body   int64  `json:"body"`
	Start  int64  `json:"start_ns"`
	End    int64  `json:"end_ns"`
	Peer   string `json:"peer"`
	Error  string `json:"error"`
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func run(client *http.Client, plan planned) (line answered) {
	line.ID = plan.ID
	var body io.Reader = bytes.NewReader(bytes.Repeat([]byte("x"), plan.Body))
	if plan.Chunked {
		body = io.MultiReader(body) // hides the length
	} else if plan.Body == 0 {
		body = nil
	}
	request, err := http.NewRequest(plan.Method, plan.URL, body)
	must(err)
	for name, value := range plan.Headers {
		request.Header.Set(name, value)
	}
	line.Start = time.Now().UnixNano()
	defer func() { line.End = time.Now().UnixNano() }()
	response, err := client.Do(request)
	if err != nil {
		line.Error = err.Error()
		return line
	}
	line.Status, line.Peer = response.StatusCode, response.Header.Get("X-Peer")
	if line.Body, err = io.Copy(io.Discard, response.Body); err != nil {
		line.Error = err.Error()
	}
	response.Body.Close()
	return line
}

func main() {
	plan, err := os.ReadFile(os.Args[1])
	must(err)
	log, err := os.Create(os.Args[2] + ".part")
	must(err)
	concurrency, err := strconv.Atoi(os.Args[3])
	must(err)
	client := &http.Client{
		Transport: &http.Transport{
			MaxIdleConnsPerHost: concurrency,
			MaxConnsPerHost:     concurrency,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	todo, done := make(chan planned), make(chan answered)
	var workers sync.WaitGroup
	for i := 0; i < concurrency; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for request := range todo {
				done <- run(client, request)
			}
		}()
	}
	go func() {
		lines := bufio.NewScanner(bytes.NewReader(plan))
		for lines.Scan() {
			var request planned
			must(json.Unmarshal(lines.Bytes(), &request))
			todo <- request
		}
		close(todo)
		workers.Wait()
		close(done)
	}()
	encoder := json.NewEncoder(log)
	for line := range done {
		must(encoder.Encode(line))
	}
	must(log.Close())
	must(os.Rename(os.Args[2]+".part", os.Args[2]))
	io.Copy(io.Discard, os.Stdin) // stays until its input ends
}

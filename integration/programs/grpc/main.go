// The workload's gRPC programs in Go, as integration/programs/grpc_workload.py describes them. Usage:
// program server PORT | program client PLAN LOG N TARGET
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// raw passes messages on as the bytes they are.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (raw) Name() string                       { return "raw" }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func anything(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	kind := method[strings.LastIndex(method, "/")+1:]
	if kind != "Unary" && kind != "ClientStream" && kind != "ServerStream" && kind != "Bidi" {
		return status.Error(codes.Unimplemented, "no such kind")
	}
	wish := map[string]int{"responses": 1, "size": 2}
	if incoming, ok := metadata.FromIncomingContext(stream.Context()); ok && len(incoming["x-ask"]) > 0 {
		values, err := url.ParseQuery(incoming["x-ask"][0])
		check(err)
		for name := range values {
			wish[name], _ = strconv.Atoi(values.Get(name))
		}
	}
	for {
		var message []byte
		err := stream.RecvMsg(&message)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if kind == "Bidi" {
			if err := stream.SendMsg(&message); err != nil {
				return err
			}
		}
	}
	select {
	case <-time.After(time.Duration(wish["delay"]) * time.Millisecond):
	case <-stream.Context().Done():
		return status.FromContextError(stream.Context().Err()).Err()
	}
	unary := kind == "Unary" || kind == "ClientStream"
	message := bytes.Repeat([]byte("y"), wish["size"])
	for range wish["responses"] {
		if unary && wish["status"] != 0 {
			break
		}
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	if wish["status"] != 0 {
		return status.Error(codes.Code(wish["status"]), "as asked")
	}
	return nil
}

func serve(port string) {
	server := grpc.NewServer(grpc.UnknownServiceHandler(anything), grpc.ForceServerCodec(raw{}))
	for _, address := range []string{"127.0.0.1:", "[::1]:"} {
		listener, err := net.Listen("tcp", address+port)
		check(err)
		go func() { check(server.Serve(listener)) }()
	}
	select {}
}

type asked struct {
	ID        string `json:"id"`
	Method    string `json:"method"`
	Requests  int    `json:"requests"`
	Size      int    `json:"size"`
	Ask       string `json:"ask"`
	TimeoutMs int    `json:"timeout_ms"`
	CancelMs  int    `json:"cancel_ms"`
}

type answer struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Messages int    `json:"messages"`
	StartNs  int64  `json:"start_ns"`
	EndNs    int64  `json:"end_ns"`
}

func call(connection *grpc.ClientConn, one asked) answer {
	line := answer{ID: one.ID, StartNs: time.Now().UnixNano()}
	kind := one.Method[strings.LastIndex(one.Method, "/")+1:]
	description := &grpc.StreamDesc{
		ClientStreams: kind == "ClientStream" || kind == "Bidi",
		ServerStreams: kind == "ServerStream" || kind == "Bidi",
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-ask", one.Ask)
	if one.TimeoutMs != 0 {
		bounded, cancel := context.WithTimeout(ctx, time.Duration(one.TimeoutMs)*time.Millisecond)
		defer cancel()
		ctx = bounded
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if one.CancelMs != 0 {
		time.AfterFunc(time.Duration(one.CancelMs)*time.Millisecond, cancel)
	}
	err := func() error {
		stream, err := connection.NewStream(ctx, description, one.Method, grpc.ForceCodec(raw{}))
		if err != nil {
			return err
		}
		message := bytes.Repeat([]byte("x"), one.Size)
		for range one.Requests {
			if err := stream.SendMsg(&message); err != nil && err != io.EOF {
				return err
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		for {
			var received []byte
			err := stream.RecvMsg(&received)
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			line.Messages++
			if !description.ServerStreams {
				return nil
			}
		}
	}()
	line.Status = names[status.Code(err)]
	line.EndNs = time.Now().UnixNano()
	return line
}

var names = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func ask(plan, log, atOnce, target string) {
	connection, err := grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	file, err := os.Open(plan)
	check(err)
	calls := make(chan asked)
	number, err := strconv.Atoi(atOnce)
	check(err)
	var lock sync.Mutex
	var out bytes.Buffer
	var workers sync.WaitGroup
	for range number {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for one := range calls {
				line, err := json.Marshal(call(connection, one))
				check(err)
				lock.Lock()
				out.Write(append(line, '\n'))
				lock.Unlock()
			}
		}()
	}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var one asked
		check(json.Unmarshal(lines.Bytes(), &one))
		calls <- one
	}
	close(calls)
	workers.Wait()
	check(connection.Close())
	check(os.WriteFile(log+".part", out.Bytes(), 0o644))
	check(os.Rename(log+".part", log))
	io.Copy(io.Discard, os.Stdin)
}

func main() {
	if os.Args[1] == "server" {
		serve(os.Args[2])
	}
	ask(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
}

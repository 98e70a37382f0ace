// The workload's server on node's http, https or http2, on IPv4 and IPv6. Usage: server.mjs PORT [CERTIFICATE KEY] [2]
import { readFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import https from "node:https";

const port = Number(process.argv[2]);
const [cert, key] = process.argv.length > 4 ? process.argv.slice(3, 5).map((file) => readFileSync(file)) : [];
const two = process.argv.at(-1) === "2";

async function answer(request, response) {
  const wish = new URL(request.url, "http://host").searchParams;
  const number = (name, otherwise) => (/^\d+$/.test(wish.get(name) ?? "") ? Number(wish.get(name)) : otherwise);
  let received = 0;
  for await (const piece of request) received += piece.length;
  await new Promise((resolve) => setTimeout(resolve, number("delay", 0)));
  const status = number("status", 200);
  const size = number("size", 2);
  const headers = {
    "X-Peer": `${process.pid} ${request.socket.remoteAddress} ${request.socket.remotePort}`,
    "X-Received": String(received),
  };
  if (status === 204 || status === 304) {
    response.writeHead(status, headers).end();
  } else if (number("chunked", 0)) {
    response.writeHead(status, headers);
    for (let begin = 0; begin < size; begin += 1000) response.write("y".repeat(Math.min(1000, size - begin)));
    response.end();
  } else {
    response.writeHead(status, { ...headers, "Content-Length": size });
    response.end(request.method === "HEAD" ? undefined : "y".repeat(size));
  }
}

for (const host of ["127.0.0.1", "::1"]) {
  const secured = two ? http2.createSecureServer : https.createServer;
  const server = cert ? secured({ cert, key, allowHTTP1: true }, answer) : (two ? http2 : http).createServer(answer);
  // Over TLS, Node 20 refuses a request whose body comes in a record of its own while the answer before drains
  // (HPE_PAUSED): so much room that it never has to.
  server.on("secureConnection", (socket) => (socket._writableState.highWaterMark = 1 << 24));
  server.keepAliveTimeout = 60_000; // five seconds are less than a collector's start where the machine is busy
  server.listen(port, host);
}

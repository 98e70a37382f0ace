// gRPC-Web over HTTP/1 on Connect: the workload of grpc_workload.py in messages of `message Text { bytes data = 1; }`.
// A message of so many bytes is one that takes so many, prefix not counted: none takes one or two. MODULES names the folder of the packages.
// Usage: web.mjs server PORT PLAN | web.mjs client PLAN LOG N TARGET
import http from "node:http";
import { createRequire } from "node:module";
import { carryOut, later, read } from "./plan.mjs";

const require = createRequire(`${process.env.MODULES}/`);
const { create, toBinary } = require("@bufbuild/protobuf");
const { fileDesc, serviceDesc } = require("@bufbuild/protobuf/codegenv2");
const { FileDescriptorProtoSchema } = require("@bufbuild/protobuf/wkt");
const { createClient, Code, ConnectError } = require("@connectrpc/connect");
const { connectNodeAdapter, createGrpcWebTransport } = require("@connectrpc/connect-node");

const text = (size) => ({ data: Buffer.alloc(size && size - (size < 130 ? 2 : size < 16387 ? 3 : 4), "x") });
const statusName = (code) => Code[code].replace(/(?<=[a-z])([A-Z])/g, "_$1").toUpperCase().replace("CANCELED", "CANCELLED");

/** The service of a method's path, which has that one method. */
function serviceOf(path) {
  const [service, method] = path.slice(1).split("/");
  const dot = service.lastIndexOf(".");
  const type = `.${service.slice(0, dot)}.Text`;
  const file = create(FileDescriptorProtoSchema, {
    name: `${service}.proto`,
    package: service.slice(0, dot),
    syntax: "proto3",
    messageType: [{ name: "Text", field: [{ name: "data", jsonName: "data", number: 1, label: 1, type: 12 }] }],
    service: [{
      name: service.slice(dot + 1),
      method: [{ name: method, inputType: type, outputType: type, serverStreaming: method === "ServerStream" }],
    }],
  });
  return serviceDesc(fileDesc(Buffer.from(toBinary(FileDescriptorProtoSchema, file)).toString("base64")), 0);
}

function wishes(context) {
  const asked = new URLSearchParams(context.requestHeader.get("x-ask") ?? "");
  const number = (name, otherwise) => Number(asked.get(name) ?? otherwise);
  return {
    responses: number("responses", 1), size: number("size", 9), status: number("status", 0), delay: number("delay", 0),
  };
}

async function* serverStream(_, context) {
  const { responses, size, status, delay } = wishes(context);
  await later(delay);
  for (let number = 0; number < responses; number++) yield text(size);
  if (status) throw new ConnectError("as asked", status);
}

async function unary(_, context) {
  const { size, status, delay } = wishes(context);
  await later(delay);
  if (status) throw new ConnectError("as asked", status);
  return text(size);
}

function serve(port, plan) {
  const routes = (router) => {
    for (const { method } of read(plan)) router.service(serviceOf(method), { unary, serverStream });
  };
  const handler = connectNodeAdapter({ routes, acceptCompression: [] });
  for (const host of ["127.0.0.1", "::1"]) http.createServer(handler).listen(Number(port), host);
}

async function call(transport, { id, method, size, ask, timeout_ms: timeoutMs, cancel_ms: cancel }) {
  const client = createClient(serviceOf(method), transport);
  const stop = new AbortController();
  const options = { headers: { "x-ask": ask }, signal: stop.signal, ...(timeoutMs ? { timeoutMs } : {}) };
  const line = { id, status: "OK", messages: 0, start_ns: BigInt(Date.now()) * 1_000_000n, end_ns: 0n };
  if (cancel) setTimeout(() => stop.abort(), cancel);
  try {
    if (method.endsWith("/ServerStream")) for await (const _ of client.serverStream(text(size), options)) line.messages++;
    else {
      await client.unary(text(size), options);
      line.messages = 1;
    }
  } catch (error) {
    line.status = statusName(ConnectError.from(error).code);
  }
  line.end_ns = BigInt(Date.now() + 1) * 1_000_000n;
  return line;
}

async function ask(plan, log, atOnce, target) {
  const transport = createGrpcWebTransport({ baseUrl: `http://${target}`, httpVersion: "1.1", acceptCompression: [] });
  await carryOut(plan, log, atOnce, (one) => call(transport, one));
}

const [role, ...rest] = process.argv.slice(2);
if (role === "server") serve(...rest);
else await ask(...rest);

// The workload's gRPC programs on @grpc/grpc-js, as grpc_workload.py describes them; its server serves the methods of a
// plan. MODULES names the folder of the package, CERTIFICATE and KEY the files for TLS. Usage: grpc.mjs server PORT PLAN | grpc.mjs client PLAN LOG N TARGET
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { carryOut, later, read } from "./plan.mjs";

const grpc = createRequire(`${process.env.MODULES}/`)("@grpc/grpc-js");
const { CERTIFICATE, KEY } = process.env;
const same = (message) => message;
const names = Object.fromEntries(Object.entries(grpc.status).map(([name, code]) => [code, name]));
const kindOf = (method) => method.slice(method.lastIndexOf("/") + 1);

function wishes(call) {
  const asked = new URLSearchParams(String(call.metadata.get("x-ask")[0] ?? ""));
  const number = (name, otherwise) => Number(asked.get(name) ?? otherwise);
  return {
    responses: number("responses", 1), size: number("size", 2), status: number("status", 0), delay: number("delay", 0),
  };
}

async function one(call, callback) {
  const { size, status, delay } = wishes(call);
  await later(delay);
  if (status) callback({ code: status, details: "as asked" });
  else callback(null, Buffer.alloc(size, "y"));
}

async function oneOfMany(call, callback) {
  for await (const _ of call);
  await one(call, callback);
}

async function many(call) {
  const { responses, size, status, delay } = wishes(call);
  await later(delay);
  for (let number = 0; number < responses; number++) call.write(Buffer.alloc(size, "y"));
  if (status) call.emit("error", { code: status, details: "as asked" });
  else call.end();
}

function manyOfMany(call) {
  call.on("data", (message) => call.write(message));
  call.on("end", () => many(call));
}

const handlers = {
  Unary: [one, "unary"],
  ClientStream: [oneOfMany, "clientStream"],
  ServerStream: [many, "serverStream"],
  Bidi: [manyOfMany, "bidi"],
};

function serve(port, plan) {
  const server = new grpc.Server();
  for (const { method } of read(plan)) {
    const [handler, type] = handlers[kindOf(method)] ?? [];
    if (handler) server.register(method, handler, same, same, type);
  }
  const credentials = CERTIFICATE
    ? grpc.ServerCredentials.createSsl(null, [{ private_key: readFileSync(KEY), cert_chain: readFileSync(CERTIFICATE) }])
    : grpc.ServerCredentials.createInsecure();
  for (const host of ["127.0.0.1", "[::1]"]) server.bindAsync(`${host}:${port}`, credentials, () => {});
}

function call(client, { id, method, requests, size, ask, timeout_ms: timeout, cancel_ms: cancel }) {
  const kind = kindOf(method);
  const metadata = new grpc.Metadata();
  metadata.set("x-ask", ask);
  const options = timeout ? { deadline: Date.now() + timeout } : {};
  const line = { id, status: "", messages: 0, start_ns: BigInt(Date.now()) * 1_000_000n, end_ns: 0n };
  const message = Buffer.alloc(size, "x");
  return new Promise((resolve) => {
    const done = (_, answer) => (line.messages += answer ? 1 : 0);
    const make = {
      Unary: () => client.makeUnaryRequest(method, same, same, message, metadata, options, done),
      ClientStream: () => client.makeClientStreamRequest(method, same, same, metadata, options, done),
      ServerStream: () => client.makeServerStreamRequest(method, same, same, message, metadata, options),
      Bidi: () => client.makeBidiStreamRequest(method, same, same, metadata, options),
    }[kind] ?? (() => client.makeUnaryRequest(method, same, same, message, metadata, options, done));
    const running = make();
    running.on("data", () => line.messages++);
    running.on("error", () => {});
    running.on("status", ({ code }) => {
      line.status = names[code];
      line.end_ns = BigInt(Date.now() + 1) * 1_000_000n;
      resolve(line);
    });
    if (kind === "ClientStream" || kind === "Bidi") {
      for (let number = 0; number < requests; number++) running.write(message);
      running.end();
    }
    if (cancel) setTimeout(() => running.cancel(), cancel);
  });
}

async function ask(plan, log, atOnce, target) {
  const { createSsl, createInsecure } = grpc.credentials;
  const client = new grpc.Client(target, CERTIFICATE ? createSsl(readFileSync(CERTIFICATE)) : createInsecure());
  await carryOut(plan, log, atOnce, (one) => call(client, one));
  client.close();
}

const [role, ...rest] = process.argv.slice(2);
if (role === "server") serve(...rest);
else await ask(...rest);

// Runs a plan with node's http2: one session for an origin, N streams at a time. Usage: client_http2.mjs PLAN LOG N
import http2 from "node:http2";
import { readFileSync, renameSync, writeFileSync } from "node:fs";

const [planFile, logFile, concurrency] = process.argv.slice(2);
const plan = readFileSync(planFile, "utf8").trim().split("\n").map((line) => JSON.parse(line));
const log = [];
const sessions = new Map();
// Whole milliseconds are what the wall clock offers here: a start is rounded down, an end up.
const now = (roundUp) => BigInt(Date.now() + roundUp) * 1_000_000n;

function session(origin) {
  if (!sessions.has(origin)) sessions.set(origin, http2.connect(origin));
  return sessions.get(origin);
}

function run({ id, method, url, body: size, headers }) {
  const { origin, pathname, search } = new URL(url);
  const lower = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
  const line = { id, status: 0, body: 0, start_ns: now(0), end_ns: 0n, peer: "", error: "" };
  return new Promise((resolve) => {
    const stream = session(origin).request(
      { ":method": method, ":path": pathname + search, ...lower },
      { endStream: !size },
    );
    stream.on("response", (fields) => {
      line.status = fields[":status"];
      line.peer = fields["x-peer"] ?? "";
    });
    stream.on("data", (piece) => (line.body += piece.length));
    stream.on("error", (error) => (line.error = String(error)));
    stream.on("close", () => {
      line.end_ns = now(1);
      log.push(line);
      resolve();
    });
    if (size) stream.end(Buffer.alloc(size, "x"));
  });
}

async function worker(requests) {
  for (const request of requests) await run(request);
}

const shared = plan.values();
await Promise.all(Array.from({ length: Number(concurrency) }, () => worker(shared)));
// 64-bit times are written as JSON numbers, which JSON.stringify would refuse.
const text = (line) => JSON.stringify(line, (_, value) => (typeof value === "bigint" ? `<${value}>` : value));
writeFileSync(`${logFile}.part`, log.map((line) => text(line).replace(/"<(\d+)>"/g, "$1") + "\n").join(""));
renameSync(`${logFile}.part`, logFile);
process.stdin.resume(); // stays until its input ends
process.stdin.on("end", () => process.exit(0));

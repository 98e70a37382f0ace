// Runs a plan with node's fetch (undici): its global pool, N requests at a time. Usage: client.mjs PLAN LOG N
import { readFileSync, renameSync, writeFileSync } from "node:fs";

const [planFile, logFile, concurrency] = process.argv.slice(2);
const plan = readFileSync(planFile, "utf8").trim().split("\n").map((line) => JSON.parse(line));
const log = [];
// Whole milliseconds are what the wall clock offers here: a start is rounded down, an end up.
const now = (roundUp) => BigInt(Date.now() + roundUp) * 1_000_000n;

function* pieces(size) {
  for (let begin = 0; begin < size; begin += 1000) yield Buffer.alloc(Math.min(1000, size - begin), "x");
}

async function run({ id, method, url, body: size, chunked, headers }) {
  let body = size ? Buffer.alloc(size, "x") : undefined;
  if (chunked) body = ReadableStream.from(pieces(size));
  const line = { id, status: 0, body: 0, start_ns: now(0), end_ns: 0n, peer: "", error: "" };
  try {
    const response = await fetch(url, { method, headers, body, duplex: "half", redirect: "manual" });
    line.status = response.status;
    line.peer = response.headers.get("x-peer") ?? "";
    line.body = (await response.arrayBuffer()).byteLength;
  } catch (error) {
    line.error = String(error.cause ?? error);
  }
  line.end_ns = now(1);
  log.push(line);
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

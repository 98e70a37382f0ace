// Plans and logs of grpc_workload.py: a plan is read, its calls are carried out so many at a time, and noted in the log.
import { readFileSync, renameSync, writeFileSync } from "node:fs";

export const read = (file) => readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
export const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** `call` makes a log's line of a plan's, whose times are BigInt. */
export async function carryOut(plan, log, atOnce, call) {
  const calls = read(plan).values();
  const lines = [];
  const worker = async () => {
    for (const one of calls) lines.push(await call(one));
  };
  await Promise.all(Array.from({ length: Number(atOnce) }, worker));
  // 64-bit times are written as JSON numbers, which JSON.stringify would refuse.
  const written = (line) => JSON.stringify(line, (_, value) => (typeof value === "bigint" ? `<${value}>` : value));
  writeFileSync(`${log}.part`, lines.map((line) => written(line).replace(/"<(\d+)>"/g, "$1") + "\n").join(""));
  renameSync(`${log}.part`, log);
  process.stdin.resume(); // stays until its input ends
  process.stdin.on("end", () => process.exit(0));
}

// BullMQ as a contestant (see bench/contestant.py for what it says and hears):
//   node bullmq.mjs MODULES ACTION JOBS CONCURRENCY POSTGRES_URL REDIS_URL
// MODULES: the directory into which bullmq and ioredis were installed. Defaults throughout: finished jobs are kept.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const [modules, action, jobsText, concurrencyText, , redisUrl] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { Queue, Worker } = require("bullmq");
const Redis = require("ioredis").default;
const [jobs, concurrency] = [Number(jobsText), Number(concurrencyText)];
const TEXT = "x".repeat(170);
const say = (words) => process.stdout.write(`${JSON.stringify(words)}\n`);
const now = () => performance.timeOrigin + performance.now(); // Unix milliseconds, with fractions
const data = (n, more = {}) => ({ n, text: TEXT, ...more });

async function submit(queue, count, inFlight = 50) {
  let next = 0;
  const producer = async () => {
    while (next < count) await queue.add("noop", data(next++));
  };
  await Promise.all(Array.from({ length: inFlight }, producer));
}

async function bulk(queue, count) {
  for (let first = 0; first < count; first += 500) {
    const size = Math.min(500, count - first);
    await queue.addBulk(Array.from({ length: size }, (_, i) => ({ name: "noop", data: data(first + i) })));
  }
}

async function tick(queue, count) {
  const calls = [];
  const start = now();
  for (let n = 0; n < count; n += 1) {
    await sleep(Math.max(0, start + n * 10 - now()));
    calls.push(queue.add("noop", data(n, { asked: now() })));
  }
  await Promise.all(calls);
}

function work(worker) {
  const seen = new Set();
  const waits = [];
  let first = 0;
  let starts = 0;
  let completed = 0;
  worker.perform = (job) => {
    first ||= now();
    starts += 1;
    seen.add(job.data.n);
    if (job.data.asked) waits.push(now() - job.data.asked);
  };
  return new Promise((resolve, reject) => {
    worker.on("error", reject);
    worker.on("failed", (_, error) => reject(error));
    worker.on("completed", () => {
      completed += 1;
      if (completed < jobs) return;
      if (starts !== jobs || seen.size !== jobs) reject(new Error(`${starts} starts of ${seen.size} jobs`));
      resolve({ s: (now() - first) / 1000, waits });
    });
    worker.run().catch(reject);
  });
}

const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const connection = new Redis(redisUrl, { maxRetriesPerRequest: null });
let worker;
let queue;
if (action === "drain" || action === "listen") {
  worker = new Worker("bench", async (job) => worker.perform(job), { connection, concurrency, autorun: false });
  await worker.waitUntilReady();
} else {
  queue = new Queue("bench", { connection });
  await queue.waitUntilReady();
  if (action === "submit" || action === "bulk") await submit(queue, 200);
}

say({ ready: true });
const input = createInterface({ input: process.stdin });
const closed = new Promise((resolve) => input.once("close", resolve));
await new Promise((resolve) => input.once("line", resolve));
const before = process.cpuUsage();
const measured = {};
if (worker) {
  const { s, waits } = await work(worker);
  waits.sort((a, b) => a - b);
  if (action === "drain") measured.s = s;
  else Object.assign(measured, { p50_ms: percentile(waits, 0.5), p99_ms: percentile(waits, 0.99) });
} else {
  const start = now();
  const call = { submit, tick }[action] ?? bulk;
  await call(queue, jobs);
  measured.s = (now() - start) / 1000;
}
const used = process.cpuUsage(before);
measured.cpu_s = (used.user + used.system) / 1e6;
measured.rss_mib = Math.round(process.resourceUsage().maxRSS / 1024);
say(measured);
await closed;
process.exit(0);

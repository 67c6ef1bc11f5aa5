import { fork } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { expected, ping, pingPong, stream } from "./check.mjs";
import { openLan, startLan } from "./lan.mjs";
import { ownerOf } from "./names.mjs";
import { lanNames } from "./state.mjs";

/** @typedef {import("./check.mjs").Lan} Lan */
/** @typedef {import("./device.mjs").Device} Device */

const usage = `node bench/lan/main.mjs COMMAND
  up N [--latency MS] [--jitter MS] [--mbit M] [--queue MS]   a LAN of N devices, until down
  exec I [--cpu CORES] [--memory BYTES] [--read-bps BYTES] [--cores LIST] -- COMMAND ...
  stat [I]                                                    a device's or all devices' figures, and the switch's
  check [N] [--seconds S] [and up's options]                  measure, beside the model's values
  list                                                        the LANs there are
  down
exec, stat, check and down take --lan NAME where there are several LANs; check makes its own with N.
`;

const commands = { up, keep, exec, stat, check, list, down };
const stopMs = 10_000;

/** @typedef {ReturnType<typeof read>} Words */

/** @param {string[]} args */
function read(args) {
  const number = { type: /** @type {const} */ ("string") };
  const options = { latency: number, jitter: number, mbit: number, queue: number, seconds: number };
  const limits = { cpu: number, memory: number, "read-bps": number, cores: number, lan: number };
  return parseArgs({ args, options: { ...options, ...limits }, allowPositionals: true });
}

/** @param {Words} words */
function lanOptions({ values, positionals: [devices] }) {
  return {
    devices: Number(devices),
    latencyMs: Number(values.latency ?? 1),
    jitterMs: Number(values.jitter ?? 0),
    mbit: Number(values.mbit ?? 300),
    queueMs: Number(values.queue ?? 100),
  };
}

/** @param {string | undefined} name */
function lanOf(name) {
  const names = lanNames();
  if (name ? names.includes(name) : names.length === 1) return openLan(name ?? names[0] ?? "");
  throw new Error(names.length ? `which LAN? --lan ${names.join(" or ")}` : "there is no LAN: up N makes one");
}

/** @param {Lan} lan @param {string | undefined} index */
function deviceOf(lan, index) {
  const device = lan.devices[Number(index)];
  if (!device) throw new Error(`which device? 0 to ${lan.devices.length - 1}`);
  return device;
}

/**
 * Leaves a process behind that has the LAN, and removes it when it is told to end.
 * @param {Words} _words
 * @param {string[]} args
 */
async function up(_words, args) {
  const keeper = fork(import.meta.filename, ["keep", ...args], { detached: true, stdio: ["ignore", 1, 2, "ipc"] });
  const [said] = await Promise.race([once(keeper, "message"), once(keeper, "exit")]);
  if (typeof said === "object") process.stdout.write(`${said.name}: ${said.addresses.join(" ")}\n`);
  else process.exitCode = 1;
  keeper.disconnect();
  keeper.unref();
}

/** @param {Words} words */
async function keep(words) {
  const lan = await startLan(lanOptions(words));
  process.send?.({ name: lan.name, addresses: lan.devices.map(({ address }) => address) });
  setInterval(() => {}, 2 ** 30);
}

/** @param {Words} words */
async function exec({ values, positionals: [index, command = "", ...args] }) {
  const limits = { cpu: values.cpu, memory: values.memory, readBps: values["read-bps"] };
  const given = Object.entries(limits).filter(([, value]) => value !== undefined);
  const cores = values.cores === undefined ? {} : { cores: values.cores };
  const numbers = Object.fromEntries(given.map(([name, value]) => [name, Number(value)]));
  const device = deviceOf(lanOf(values.lan), index);
  const child = device.spawn(command, args, { ...numbers, ...cores, stdio: "inherit" });
  for (const signal of /** @type {const} */ (["SIGINT", "SIGTERM"])) process.on(signal, () => child.kill(signal));
  const [status] = await once(child, "exit");
  process.exitCode = status ?? 1;
}

/** @param {Words} words */
async function stat({ values, positionals: [index] }) {
  const lan = lanOf(values.lan);
  const devices = index === undefined ? lan.devices : [deviceOf(lan, index)];
  for (const device of devices) print({ device: device.index, ...device.stat() });
  if (index === undefined) print({ switch: await lan.counters() });
}

/** @param {unknown} value */
function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** @param {Words} words */
async function check(words) {
  if (!words.positionals.length) return measure(lanOf(words.values.lan), words);
  const lan = await startLan(lanOptions(words));
  try {
    await measure(lan, words);
  } finally {
    await lan[Symbol.asyncDispose]();
  }
}

/** @param {Lan} lan @param {Words} words */
async function measure(lan, { values }) {
  await lan.counters();
  for (const from of lan.devices) for (const to of lan.devices) if (from.index < to.index) await pair(lan, from, to);
  const [first, second] = [deviceOf(lan, "0"), deviceOf(lan, "1")];
  const model = modelOf(lan, first, second);
  row("16 KiB ping-pong 0-1", times(await pingPong(first, second)), `${model.pingPongUs.toFixed(0)} us`);
  report("pings and ping-pong", await lan.counters());
  const seconds = Number(values.seconds ?? 2);
  row("TCP 0 to 1", mbit(await stream(first, second, { seconds })), `${model.streamMbit.toFixed(1)} Mbit/s`);
  row("TCP 1 to 0", mbit(await stream(second, first, { seconds })), `${model.streamBackMbit.toFixed(1)} Mbit/s`);
  report("TCP", await lan.counters());
}

/** @param {Lan} lan @param {Device} from @param {Device} to */
async function pair(lan, from, to) {
  const { pingUs } = modelOf(lan, from, to);
  row(`ping ${from.index}-${to.index}`, times(await ping(from, to)), `${pingUs.toFixed(0)} us`);
}

/** @param {Lan} lan @param {Device} from @param {Device} to */
function modelOf(lan, from, to) {
  const links = [lan.links[from.index], lan.links[to.index]];
  const [one, other] = /** @type {[import("./check.mjs").FullLink, import("./check.mjs").FullLink]} */ (links);
  return expected(one, other);
}

/** @param {import("./check.mjs").Times} measured */
function times({ sent, received, minUs, medianUs, p99Us }) {
  const lost = sent === received ? "" : `, ${sent - received} lost`;
  return `${medianUs.toFixed(0)} us (${minUs.toFixed(0)} to ${p99Us.toFixed(0)}${lost})`;
}

/** @param {import("./check.mjs").Stream} measured */
function mbit(measured) {
  return `${measured.mbit.toFixed(1)} Mbit/s`;
}

/** @param {string} what @param {string} measured @param {string} model */
function row(what, measured, model) {
  process.stdout.write(`${what.padEnd(24)}${measured.padEnd(34)}model ${model}\n`);
}

/** @param {string} during @param {import("./lan.mjs").Counters} counters */
function report(during, { lateness, ports, cpuSeconds }) {
  const { meanUs, p50Us, p99Us, maxUs } = lateness;
  const lost = ports.map(({ up: { dropped: sent }, down: { dropped: got }, socketDrops }) => [sent, got, socketDrops]);
  const [up, down, socket] = [0, 1, 2].map((kind) => lost.reduce((sum, counts) => sum + (counts[kind] ?? 0), 0));
  const late = `late by ${meanUs} us, median ${p50Us}, p99 ${p99Us}, most ${maxUs}`;
  process.stdout.write(
    `  ${during}: frames ${late}; dropped ${up} up, ${down} down, ${socket} by the machine; cpu ${cpuSeconds} s\n`,
  );
}

async function list() {
  for (const name of lanNames()) process.stdout.write(`${name}: ${openLan(name).devices.length} devices\n`);
}

/** @param {Words} words */
async function down({ values }) {
  const { name } = lanOf(values.lan);
  process.kill(ownerOf(name), "SIGTERM");
  for (const end = Date.now() + stopMs; lanNames().includes(name); await sleep(20))
    if (Date.now() > end) throw new Error(`${name} is still there`);
}

const [verb = "", ...args] = process.argv.slice(2);
const command = Object.hasOwn(commands, verb) ? commands[/** @type {keyof typeof commands} */ (verb)] : undefined;
try {
  if (command) await command(read(args), args);
  else process.stderr.write(usage);
  if (!command) process.exitCode = verb ? 2 : 0;
} catch (error) {
  process.stderr.write(`${/** @type {Error} */ (error).message}\n`);
  process.exitCode = 1;
}

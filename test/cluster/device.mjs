// A device of its own process: `node device.mjs coordinator|worker PORT TOKEN`. It reports over IPC, answers
// "report" with what it has counted and "close" by closing, after which it has to end by itself.
import { joinCoordinator } from "#stellium/cluster/control/client";
import { listenForWorkers } from "#stellium/cluster/control/server";
import { DeviceRegister } from "#stellium/cluster/identity/deviceRegister";
import { Membership } from "#stellium/cluster/identity/membership";
import { JoinToken } from "#stellium/cluster/token";

const [role, port, text] = process.argv.slice(2);
const token = JoinToken.parse(String(text));
const stop = new AbortController();
const { signal } = stop;
/** @type {Record<string, number>} */
const counts = {};

/** @param {string} what */
function count(what) {
  counts[what] = (counts[what] ?? 0) + 1;
}

/** @param {Record<string, unknown>} report */
function say(report) {
  if (process.connected) process.send?.(report);
}

/** @param {unknown} error */
function codeOf(error) {
  return error instanceof Error && "code" in error ? String(error.code) : String(error);
}

process.on("message", (message) => {
  if (message === "report") say({ type: "report", counts, rss: process.memoryUsage.rss() });
  if (message !== "close") return;
  stop.abort();
  process.disconnect();
});

/** @param {import("#stellium/cluster/control/server").WorkerConnection} worker */
async function serve({ channel, hello }) {
  count("joined");
  channel.ended.then(({ error, reason }) =>
    say({ type: "ended", code: error?.code ?? "left", message: error?.message ?? reason }),
  );
  try {
    await channel.send({ type: "welcome", rank: 1, size: 2, session: "0123456789abcdef" });
    for await (const message of channel) count(message.type === "data" ? "data" : "message");
    count("left");
  } catch (error) {
    count(codeOf(error));
  }
  if (channel.isOpen) await channel.close(`done with ${hello.name}`);
}

async function coordinate() {
  const onDrop = (/** @type {string} */ _, /** @type {string} */ reason) => count(reason.replace(/[:(].*/s, "").trim());
  const register = DeviceRegister.unkept(token);
  const listener = await listenForWorkers({ host: "127.0.0.1", register, version: "0.1.0", signal, onDrop });
  say({ type: "listening", port: listener.port });
  for await (const worker of listener) void serve(worker);
}

async function work() {
  /** @type {import("#stellium/cluster/control/messages").WorkerHello} */
  const hello = {
    type: "hello",
    name: "child",
    host: "child.local",
    threads: 1,
    memoryCap: null,
    features: [],
    cpuVariant: null,
    ggml: "0",
    cache: [],
    keepsKey: false,
  };
  const membership = Membership.ofToken(token);
  const options = { host: "127.0.0.1", port: Number(port), membership, version: "0.1.0", hello: () => hello, signal };
  for await (const { channel } of joinCoordinator(options)) {
    say({ type: "joined" });
    const { error, reason } = await channel.ended;
    say({ type: "ended", code: error?.code ?? "left", message: error?.message ?? reason });
  }
}

await (role === "coordinator" ? coordinate() : work()).catch((error) => {
  say({ type: "failed", code: codeOf(error), message: error.message });
  if (process.connected && codeOf(error) !== "ABORTED") process.disconnect();
});

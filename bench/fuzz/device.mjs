// A device in a process of its own: `node device.mjs PORT TOKEN CACHE_DIR MEMORY CACHE_SIZE`. It joins whatever listens there, again
// and again, and says over IPC why it could not stay. It answers "report" by the most memory it has had.
import { Membership } from "#stellium/cluster/identity/membership";
import { JoinToken } from "#stellium/cluster/token";
import { work } from "#stellium/cluster/worker";
import { StelliumError } from "#stellium/errors";

const [port, token = "", cacheDir = "", memory, cacheSize] = process.argv.slice(2);
process.once("disconnect", () => process.exit());
process.on("message", () => process.send?.({ type: "report", peak: process.resourceUsage().maxRSS * 1024 }));

const membership = Membership.ofToken(JoinToken.parse(token));
const device = { cacheDir, memory: Number(memory), cacheSize: Number(cacheSize), threads: 1, name: "device" };
for (;;) {
  const round = new AbortController();
  let loaded = false;
  const onState = (/** @type {{ state: string }} */ { state }) => {
    loaded ||= state === "ready";
    // Joining again by itself takes longer, but keeps what is loaded.
    if (state === "waiting" && !loaded) round.abort();
  };
  const where = { host: "127.0.0.1", port: Number(port), membership };
  try {
    await work({ ...where, ...device, signal: round.signal, onState });
  } catch (error) {
    // Anything else is a mistake, and ends this process.
    if (!(error instanceof StelliumError)) throw error;
    const { code, message } = error;
    if (code === "ABORTED") await new Promise((resolve) => setTimeout(resolve, 5));
    else await new Promise((resolve) => process.send?.({ type: "failed", code, message }, resolve));
  }
}

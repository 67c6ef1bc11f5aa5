import { once } from "node:events";
import multicastDns from "multicast-dns";

/** A multicast DNS socket whose packets stay on this machine. */
export function openLoopback() {
  return multicastDns({ interface: "127.0.0.1", bind: "0.0.0.0" }).on("warning", () => {});
}

/** Some sandboxes let no multicast through, not even to themselves; where it does not, it says what is skipped. */
export async function multicastWorks(): Promise<boolean> {
  const mdns = openLoopback().on("error", () => {});
  const heard = once(mdns, "query", { signal: AbortSignal.timeout(3000) });
  const asking = setInterval(() => mdns.query("stellium-test.local", "A"), 100);
  const works = await heard.then(
    () => true,
    () => false,
  );
  clearInterval(asking);
  mdns.destroy();
  if (!works) console.warn("skipped: there is no multicast on loopback here, so no coordinator can be found");
  return works;
}

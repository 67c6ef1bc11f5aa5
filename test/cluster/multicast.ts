import { once } from "node:events";
import multicastDns from "multicast-dns";
import { skipIf } from "../skip.ts";

/** A multicast DNS socket whose packets stay on this machine. */
export function openLoopback() {
  return multicastDns({ interface: "127.0.0.1", bind: "0.0.0.0" }).on("warning", () => {});
}

/** Options for what needs multicast: some sandboxes let none through, not even to themselves. */
export async function skipWithoutMulticast(): Promise<ReturnType<typeof skipIf>> {
  const mdns = openLoopback().on("error", () => {});
  const heard = once(mdns, "query", { signal: AbortSignal.timeout(3000) });
  const asking = setInterval(() => mdns.query("stellium-test.local", "A"), 100);
  const works = await heard.then(
    () => true,
    () => false,
  );
  clearInterval(asking);
  mdns.destroy();
  return skipIf(!works, "there is no multicast on loopback");
}

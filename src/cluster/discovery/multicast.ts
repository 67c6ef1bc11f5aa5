import multicastDns, { type MulticastDNS } from "multicast-dns";
import { log } from "../../log.ts";

/** The DNS-SD service type (RFC 6763) under which coordinators are found. */
export const serviceType = "_stellium._tcp.local";

/**
 * Opens a multicast DNS socket (RFC 6762). `host` is the address of the interface to use, or a wildcard for all of them.
 * Where multicast is not to be had, `onTrouble` is told why, and nothing is ever received.
 */
export function openMulticast(host: string, onTrouble: (reason: string) => void): MulticastDNS {
  const wildcard = host === "0.0.0.0" || host === "::";
  // Bound to an interface's own address, a socket would not get what is sent to the group.
  const mdns = multicastDns({ bind: "0.0.0.0", ...(wildcard ? {} : { interface: host }) });
  mdns.on("error", (error) => onTrouble(error.message));
  // One interface of several that does without multicast, or a packet that is none.
  mdns.on("warning", (warning) => log("debug", `multicast DNS: ${warning.message}`));
  return mdns;
}

import { createSocket } from "node:dgram";
import multicastDns, { type MulticastDNS } from "multicast-dns";
import { log } from "../../log.ts";

/** The DNS-SD service type (RFC 6763) under which coordinators are found. */
export const serviceType = "_stellium._tcp.local";

/** Packets that are looked at, in a second and at once. Others are dropped undecoded: that is what takes time. */
const packetsPerSecond = 1000;
const packetsAtOnce = 100;
/** Longer than any answer of a coordinator. */
const longestPacket = 1500;

/**
 * Opens a multicast DNS socket (RFC 6762). `host` is the address of the interface to use, or a wildcard for all of them.
 * Where multicast is not to be had, `onTrouble` is told why, and nothing is ever received.
 */
export function openMulticast(host: string, onTrouble: (reason: string) => void): MulticastDNS {
  const wildcard = host === "0.0.0.0" || host === "::";
  const socket = createSocket({ type: "udp4", reuseAddr: true });
  // Bound to an interface's own address, a socket would not get what is sent to the group.
  const mdns = multicastDns({ socket, bind: "0.0.0.0", ...(wildcard ? {} : { interface: host }) });
  const decoders = socket.listeners("message");
  const gate = new PacketGate();
  socket.removeAllListeners("message").on("message", (packet, sender) => {
    if (gate.admits(packet.length)) for (const decode of decoders) decode(packet, sender);
  });
  mdns.on("error", (error) => onTrouble(error.message));
  // One interface of several that does without multicast, or a packet that is none.
  mdns.on("warning", (warning) => log("debug", `multicast DNS: ${warning.message}`));
  return mdns;
}

/** Lets through as many packets as take little time to decode, at any time some of those that come. */
export class PacketGate {
  readonly #clock: () => number;
  #room = packetsAtOnce;
  #filledAt: number;

  /** @param clock - milliseconds */
  constructor(clock: () => number = () => performance.now()) {
    this.#clock = clock;
    this.#filledAt = clock();
  }

  admits(bytes: number): boolean {
    const now = this.#clock();
    this.#room = Math.min(packetsAtOnce, this.#room + ((now - this.#filledAt) * packetsPerSecond) / 1000);
    this.#filledAt = now;
    if (bytes > longestPacket || this.#room < 1) return false;
    this.#room--;
    return true;
  }
}

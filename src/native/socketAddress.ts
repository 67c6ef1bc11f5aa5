import { isIPv4, isIPv6 } from "node:net";
import { networkInterfaces } from "node:os";

/** `AF_INET6`; `AF_INET` is 2 everywhere. */
const familyOfIpv6 = process.platform === "darwin" ? 30 : 10;
const familyOfIpv4 = 2;

/** An IP address and port as the system's socket calls want it. */
export interface SocketAddress {
  readonly family: number;
  /** A `sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes). */
  readonly bytes: Uint8Array;
}

/** Lays out a numeric IPv4 or IPv6 address (`fe80::1%eth0` too). Throws `RangeError` for names: resolve them before. */
export function socketAddress(host: string, port: number): SocketAddress {
  if (isIPv4(host)) return ipv4Address(host, port);
  if (isIPv6(host)) return ipv6Address(host, port);
  throw new RangeError(`${host} is no IP address`);
}

function ipv4Address(host: string, port: number): SocketAddress {
  const bytes = withFamily(16, familyOfIpv4, port);
  bytes.set(host.split(".").map(Number), 4);
  return { family: familyOfIpv4, bytes };
}

function ipv6Address(host: string, port: number): SocketAddress {
  const [address = "", zone] = host.split("%");
  const bytes = withFamily(28, familyOfIpv6, port);
  const view = new DataView(bytes.buffer);
  groupsOf(address).forEach((group, i) => {
    view.setUint16(8 + 2 * i, group);
  });
  view.setUint32(24, zone === undefined ? 0 : scopeOf(zone), true);
  return { family: familyOfIpv6, bytes };
}

function withFamily(length: number, family: number, port: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  if (process.platform === "darwin") bytes.set([length, family]);
  else bytes[0] = family;
  new DataView(bytes.buffer).setUint16(2, port);
  return bytes;
}

/** The eight groups; `URL` turns every way to write an address into one. */
function groupsOf(address: string): number[] {
  const short = new URL(`http://[${address}]`).hostname.slice(1, -1);
  const [head = [], tail = []] = short.split("::").map((part) => part.split(":").filter((group) => group !== ""));
  const zeros = Array<string>(8 - head.length - tail.length).fill("0");
  return [...head, ...zeros, ...tail].map((group) => Number.parseInt(group, 16));
}

/** Index of a link-local zone, given as a number or an interface's name. */
function scopeOf(zone: string): number {
  if (/^\d+$/.test(zone)) return Number(zone);
  const scope = networkInterfaces()[zone]?.find((entry) => entry.family === "IPv6" && entry.scopeid);
  if (scope?.family !== "IPv6") throw new RangeError(`there is no network interface ${zone} with IPv6`);
  return scope.scopeid;
}

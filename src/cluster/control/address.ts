import { isIPv4, isIPv6 } from "node:net";
import { type NetworkInterfaceInfo, networkInterfaces } from "node:os";
import { StelliumError } from "../../errors.ts";

/** Where a process listens, or where to reach it. */
export interface Address {
  /** Name or address; an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Containers, virtual machines and tunnels: seldom what another device on the LAN can reach. */
const virtual =
  /^(docker|br-|veth|virbr|vmnet|vboxnet|vnic|bridge|cni|flannel|cali|lxc|podman|tun|tap|utun|wg|zt|tailscale)/i;
const privateNetwork = /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.)/;

/** `HOST:PORT`, with brackets around an IPv6 address. */
export function formatAddress({ host, port }: Address): string {
  return isIPv6(host) ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Reads `HOST:PORT` or `[IPV6]:PORT`. Throws `BAD_USAGE`. */
export function parseAddress(text: string): Address {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host && port <= 65_535 && (bracketed === undefined || isIPv6(bracketed))) return { host, port };
  throw new StelliumError("BAD_USAGE", { detail: `"${text}" is not HOST:PORT, such as 192.168.1.20:7711` });
}

/** The address of a socket's other end, with an IPv4 address as such where it came through an IPv6 listener. */
export function plainHost(address: string | undefined): string {
  return (address ?? "?").replace(/^::ffff:(?=\d+\.)/i, "");
}

/**
 * Under which hosts others reach a listener bound to `host`, the most plausible first: real interfaces before virtual
 * ones, private IPv4 before public, IPv4 before IPv6; loopback where there is nothing else. An address or name that is
 * not a wildcard is its own only answer.
 */
export function reachableHosts(host: string, interfaces = networkInterfaces()): string[] {
  if (host !== "0.0.0.0" && host !== "::") return [host];
  const found = Object.entries(interfaces)
    .flatMap(([name, infos]) => (infos ?? []).map((info) => ({ host: info.address, rank: unlikeliness(name, info) })))
    .filter((candidate) => Number.isFinite(candidate.rank) && (host === "::" || isIPv4(candidate.host)))
    .sort((a, b) => a.rank - b.rank)
    .map((candidate) => candidate.host);
  return found.length > 0 ? found : [host === "::" ? "::1" : "127.0.0.1"];
}

function unlikeliness(name: string, { address, internal }: NetworkInterfaceInfo): number {
  const linkLocal = /^(169\.254\.|fe[89ab])/i.test(address);
  if (internal || linkLocal) return Number.POSITIVE_INFINITY;
  const family = isIPv4(address) ? (privateNetwork.test(address) ? 0 : 1) : 2;
  return (virtual.test(name) ? 10 : 0) + family;
}

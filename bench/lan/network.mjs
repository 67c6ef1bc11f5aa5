import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { compiled } from "./compile.mjs";
import { run } from "./shell.mjs";

export const namespaces = "/run/netns";
const subnet = "10.77.0";

/** @param {number} index */
export function addressOf(index) {
  return `${subnet}.${index + 1}`;
}

/** @param {string} lan @param {string | number} which */
export function namespaceOf(lan, which) {
  return `${lan}-${which}`;
}

/**
 * A command that runs in a network namespace and is as on the host otherwise (ip netns exec would hide the cgroups).
 * @param {string} namespace
 * @returns {[string, ...string[]]}
 */
export function inside(namespace) {
  return ["nsenter", `--net=${join(namespaces, namespace)}`, "--"];
}

/**
 * One namespace for each device and one for the switch, with a veth pair from each to the switch.
 * @param {string} lan
 * @param {number} devices
 * @param {string} congestion
 */
export function makeNetwork(lan, devices, congestion) {
  const indices = Array.from({ length: devices }, (_, index) => index);
  const hub = namespaceOf(lan, "switch");
  const made = [hub, ...indices.map((index) => namespaceOf(lan, index))];
  run("ip", ["-batch", "-"], { input: made.map((name) => `netns add ${name}`).join("\n") });
  const pairs = indices.map((index) => `link add p${index} type veth peer name d${index}`);
  configure(hub, pairs);
  const [command, ...enter] = inside(hub);
  run(command, [...enter, compiled("linkem"), "-k", ...indices.flatMap((index) => [`p${index}`, `d${index}`])]);
  const plugs = indices.flatMap((index) => plug(lan, index));
  configure(hub, plugs);
  for (const index of indices) configure(namespaceOf(lan, index), card(index, congestion));
}

/** @param {string} lan @param {number} index */
function plug(lan, index) {
  return [`link set p${index} up`, `link set d${index} netns ${namespaceOf(lan, index)} name eth0`];
}

/**
 * Congestion control goes by route: the sysctl of a namespace refuses what the host does not allow.
 * @param {number} index
 * @param {string} congestion
 */
function card(index, congestion) {
  const address = addressOf(index);
  const mac = `02:77:00:00:00:${(index + 1).toString(16).padStart(2, "0")}`;
  return [
    "link set lo up",
    `link set eth0 address ${mac}`,
    "link set eth0 up",
    `addr add ${address}/24 broadcast + dev eth0`,
    "route add 224.0.0.0/4 dev eth0",
    `route replace ${subnet}.0/24 dev eth0 proto kernel scope link src ${address} congctl ${congestion}`,
  ];
}

/** @param {string} namespace @param {string[]} lines */
function configure(namespace, lines) {
  const withoutIpv6 = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do [ ! -e $f ] || echo 1 >$f; done";
  const [command, ...enter] = inside(namespace);
  run(command, [...enter, "sh", "-c", `${withoutIpv6}; exec ip -batch -`], { input: lines.join("\n") });
}

/** @param {string} lan */
export function removeNetwork(lan) {
  const made = existsSync(namespaces) ? readdirSync(namespaces).filter((name) => name.startsWith(`${lan}-`)) : [];
  const input = made.map((name) => `netns del ${name}`).join("\n");
  if (input) run("ip", ["-force", "-batch", "-"], { input, tolerant: true });
}

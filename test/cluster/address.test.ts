import type { NetworkInterfaceInfo } from "node:os";
import { describe, expect, it } from "vitest";
import { formatAddress, parseAddress, plainHost, reachableHosts } from "#stellium/cluster/control/address";
import { backoffDelay } from "#stellium/cluster/control/backoff";

const info = (address: string, internal = false) => ({ address, internal }) as NetworkInterfaceInfo;

describe("an address", () => {
  it.each([
    ["192.168.1.20:7711", "192.168.1.20", 7711],
    ["pi.local:1", "pi.local", 1],
    ["[fe80::1]:65535", "fe80::1", 65_535],
  ])("%s is read and written", (text, host, port) => {
    expect(parseAddress(text)).toEqual({ host, port });
    expect(formatAddress({ host, port })).toBe(text);
  });

  it.each(["", "pi", "pi:", ":80", "pi:70000", "fe80::1:80", "[pi]:80", "a b:80", "pi:80x"])("%j is none", (text) => {
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: "BAD_USAGE" }));
  });

  it("of IPv4 is shown as such behind an IPv6 listener", () => {
    expect(plainHost("::ffff:10.0.0.1")).toBe("10.0.0.1");
    expect(plainHost("fe80::1")).toBe("fe80::1");
  });
});

describe("where others reach a listener", () => {
  const interfaces = {
    lo: [info("127.0.0.1", true), info("::1", true)],
    docker0: [info("172.17.0.1")],
    wlan0: [info("fe80::2"), info("2001:db8::2"), info("192.168.1.20")],
    ppp0: [info("203.0.113.5")],
    dead: [info("169.254.1.1")],
  };

  it("is the address on the LAN first", () => {
    expect(reachableHosts("0.0.0.0", interfaces)).toEqual(["192.168.1.20", "203.0.113.5", "172.17.0.1"]);
    expect(reachableHosts("::", interfaces)).toEqual(["192.168.1.20", "203.0.113.5", "2001:db8::2", "172.17.0.1"]);
  });

  it("is loopback where there is nothing else, and what was given otherwise", () => {
    expect(reachableHosts("0.0.0.0", { lo: interfaces.lo })).toEqual(["127.0.0.1"]);
    expect(reachableHosts("::", {})).toEqual(["::1"]);
    expect(reachableHosts("10.1.1.1", interfaces)).toEqual(["10.1.1.1"]);
  });
});

it("waits 0.2 to 10 s between tries, longer each time, and not all devices alike", () => {
  const delays = (random: number) => Array.from({ length: 9 }, (_, attempt) => backoffDelay(attempt, random));
  expect(delays(1)).toEqual([200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
  expect(delays(0)).toEqual([200, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
  expect(backoffDelay(1e9, 1)).toBe(10_000);
});

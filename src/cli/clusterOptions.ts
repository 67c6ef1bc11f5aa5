import type { ClusterOptions } from "../cluster/clusterOptions.ts";
import { parseAddress } from "../cluster/control/address.ts";
import { type JoinToken, resolveToken } from "../cluster/token.ts";
import { collectiveNames } from "../collective/collective.ts";
import { wireNames } from "../collective/wire.ts";
import { badUsage } from "../errors.ts";
import { mostRanks } from "../plan/shares.ts";
import { choice, number, text, toggle, type Values } from "./arguments/option.ts";
import { sizeOption } from "./figures.ts";

/** The secret of a cluster. */
export const tokenOptions = {
  token: text({
    flag: "token",
    value: "TOKEN",
    summary: "what admits new devices: 16 characters or more; shows in `ps`, unlike STELLIUM_TOKEN",
  }),
  tokenFile: text({
    flag: "token-file",
    value: "FILE",
    summary: "a file, readable by you alone, that holds the token",
  }),
};

/** Where slices of models are kept. */
export const cacheDirOption = text({
  flag: "cache-dir",
  value: "DIR",
  summary: "where slices of models and keys of devices are kept",
});

/** The most disk that the cache may take. */
export const cacheSizeOption = sizeOption({
  flag: "cache-size",
  value: "SIZE",
  summary: "most disk it may take; what is unused for longest goes (default: 3/4 of what is free)",
});

/** Which devices share the model. */
export const clusterOptions = {
  devices: number({
    flag: "devices",
    value: "K",
    summary: "share the model among K processes on this machine",
    min: 1,
    max: mostRanks,
    whole: true,
  }),
  workers: number({
    flag: "workers",
    value: "K",
    summary: "share the model with K devices that join by `stellium join`",
    min: 1,
    max: mostRanks - 1,
    whole: true,
  }),
  listen: text({
    flag: "listen",
    value: "HOST:PORT",
    summary: "where devices join (default 0.0.0.0 and any free port)",
  }),
  ...tokenOptions,
  shares: text({ flag: "shares", value: "A,B,...", summary: "relative shares, this device's first (default: equal)" }),
  head: choice({
    flag: "head",
    value: "WHERE",
    summary: "where logits are computed: coordinator (default) or sharded: workers see likely words",
    choices: ["coordinator", "sharded"],
  }),
  wire: choice({
    flag: "wire",
    value: "TYPE",
    summary: `how partial sums travel: ${wireNames.join(", ")} (default f16)`,
    choices: wireNames,
  }),
  collective: choice({
    flag: "collective",
    value: "NAME",
    summary: `how they are summed up: auto, ${collectiveNames.join(", ")} (default auto)`,
    choices: ["auto", ...collectiveNames],
  }),
  insecureDataPlane: toggle({
    flag: "insecure-data-plane",
    summary: "sums travel unencrypted and unauthenticated: for measuring only",
  }),
  cacheDir: cacheDirOption,
  cacheSize: cacheSizeOption,
};

type ClusterValues = Values<typeof clusterOptions> & { readonly window?: number | undefined };

/** What the options say of a cluster; undefined where one device is to do it alone. Throws `BAD_USAGE`. */
export async function clusterOf(values: ClusterValues): Promise<ClusterOptions | undefined> {
  const { devices, workers, head, wire, collective, cacheDir, cacheSize } = values;
  if (devices !== undefined && workers !== undefined) throw badUsage("--devices and --workers exclude each other");
  const count = workers ?? (devices ?? 1) - 1;
  if (count === 0) return undefined;
  return {
    workers: count,
    local: workers === undefined,
    listen: values.listen === undefined ? undefined : parseAddress(values.listen),
    token: await tokenOf(values),
    shares: values.shares === undefined ? undefined : sharesOf(values.shares),
    head,
    wire,
    collective,
    insecure: values.insecureDataPlane,
    cacheDir,
    cacheSize,
    window: values.window,
  };
}

/** The token that was given, if any. Throws `BAD_USAGE`. */
export function tokenOf({ token, tokenFile }: Values<typeof tokenOptions>): Promise<JoinToken | undefined> {
  // Options are read from variables, too. What is typed goes before what is set, and a file is not shown.
  const flag = token === process.env["STELLIUM_TOKEN"] ? undefined : token;
  return resolveToken({ flag, file: tokenFile, env: process.env });
}

/** Relative shares, one for each device. Throws `BAD_USAGE`. */
export function sharesOf(text: string): number[] {
  const shares = text.split(",").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  if (shares.every((share) => share >= 0 && Number.isFinite(share))) return shares;
  throw badUsage(`--shares must be numbers such as 3,1,2, not ${JSON.stringify(text)}`);
}

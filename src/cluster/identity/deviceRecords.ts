import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { reasonOf, StelliumError } from "../../errors.ts";
import { isRefusedBySystem } from "../../system/cacheFolder.ts";
import { makeOwnerOnlyFolder, syncFolder, writeOwnerOnly } from "../../system/ownerOnly.ts";
import { cacheDirectory } from "../../weights/sliceDirectory.ts";
import { key, textField } from "../control/fields.ts";
import { JoinToken } from "../token.ts";
import { deviceIdPattern } from "./credential.ts";

/** Devices that may have keys, and removed devices that are remembered. */
export const mostRecords = 1000;
/** Folders of files: what the coordinator knows a device by, which ones it let go, when it last saw them, barred tokens. */
const folders = ["devices", "removed", "seen", "revoked"] as const;

const deviceRecord = z.object({
  /** 32 bytes in base64. */
  key,
  /** When it was admitted, in ms since 1970. */
  since: z.number().positive(),
  /** Fingerprint of the token that it was admitted with. */
  token: z.string().regex(/^[0-9a-f]{32}$/),
});
const sighting = z.object({
  name: textField(64, 1),
  /** Where it connected from. */
  address: textField(253),
  /** In ms since 1970. */
  at: z.number().positive(),
});

/** How a coordinator recognises a device. */
export type DeviceRecord = z.infer<typeof deviceRecord>;
/** When and as what a device was last connected. */
export type Sighting = z.infer<typeof sighting>;
/** A device that was admitted, for people. */
export interface AdmittedDevice extends Partial<Sighting> {
  readonly id: string;
  /** When it was admitted, in ms since 1970; undefined if its record is damaged, and its key lost with it. */
  readonly since: number | undefined;
}

/**
 * What a coordinator keeps of its devices and of its token, in a folder that only its owner can enter: a file for each
 * device, so that several processes may change them without a lock. A record is written once, then moved to `removed`.
 */
export class DeviceRecords {
  /** The folder that holds all of it. */
  readonly path: string;

  /** @param cache - the cache directory; throws `HOME_UNKNOWN` if there is none by default */
  constructor(cache: string = cacheDirectory()) {
    this.path = join(cache, "coordinator");
  }

  /** Whether anything is kept here. */
  get exists(): boolean {
    return existsSync(this.#folder("devices"));
  }

  /** The file that holds the token of a coordinator that was given none. */
  get tokenPath(): string {
    return join(this.path, "token");
  }

  /** Makes the folders. Throws what the system says. */
  prepare(): void {
    makeOwnerOnlyFolder(this.path);
    for (const name of folders) makeOwnerOnlyFolder(this.#folder(name));
  }

  /** Ids of the devices that have keys, or had them until they were removed. Throws what the system says. */
  ids(which: "devices" | "removed"): string[] {
    const names = readdirSync(this.#folder(which)).filter((name) => name.endsWith(".json"));
    const ids = names.map((name) => name.slice(0, -".json".length)).filter((id) => deviceIdPattern.test(id));
    return ids.sort().slice(0, mostRecords);
  }

  /** What is known of a device; undefined if there is no such record, or it is damaged. */
  read(which: "devices" | "removed", id: string): DeviceRecord | undefined {
    return parsed(deviceRecord, this.#file(which, id));
  }

  /** Stores a device. Its key is on the disk when this resolves. */
  async add(id: string, record: DeviceRecord): Promise<void> {
    await writeOwnerOnly(this.#file("devices", id), JSON.stringify(record));
  }

  /** Stores as what a device is connected. */
  async saw(id: string, sighted: Sighting): Promise<void> {
    await writeOwnerOnly(this.#file("seen", id), JSON.stringify(sighted));
  }

  /** All admitted devices, in the order of their admission; none if nothing is kept here. */
  list(): AdmittedDevice[] {
    if (!this.exists) return [];
    const found = this.ids("devices").map((id) => {
      const since = this.read("devices", id)?.since;
      return { id, since, ...parsed(sighting, this.#file("seen", id)) };
    });
    return found.sort((a, b) => (a.since ?? 0) - (b.since ?? 0));
  }

  /**
   * Takes a device's key from it, bars the token that it was admitted with, and replaces the kept token. The token comes
   * first: if this is interrupted, the device is still listed and can be removed again.
   */
  async remove(id: string): Promise<void> {
    const record = this.read("devices", id);
    if (record !== undefined) await writeOwnerOnly(join(this.#folder("revoked"), record.token), "");
    if (existsSync(this.tokenPath)) await this.renewToken();
    await rename(this.#file("devices", id), this.#file("removed", id));
    await Promise.all([syncFolder(this.#folder("removed")), syncFolder(this.#folder("devices"))]);
    await rm(this.#file("seen", id), { force: true });
    await this.#forgetOldest();
  }

  /** Whether a token admits no device any more, because one that knows it was removed. */
  isRevoked(token: JoinToken): boolean {
    return existsSync(join(this.#folder("revoked"), token.fingerprint));
  }

  /** The kept token; undefined if there is none. Throws `BAD_USAGE` if others can read it, and `FILE_UNREADABLE`. */
  token(): JoinToken | undefined {
    try {
      const status = statSync(this.tokenPath, { throwIfNoEntry: false });
      if (status === undefined) return undefined;
      if (process.platform !== "win32" && (status.mode & 0o077) !== 0) throw exposed(this.tokenPath);
      return JoinToken.parse(readFileSync(this.tokenPath, "utf8").trim(), { from: "kept", path: this.tokenPath });
    } catch (error) {
      if (!isRefusedBySystem(error)) throw error;
      throw new StelliumError("FILE_UNREADABLE", { path: this.tokenPath, reason: reasonOf(error) }, { cause: error });
    }
  }

  /** Keeps a new token in place of the old one, if any. */
  async renewToken(): Promise<JoinToken> {
    const token = JoinToken.generate({ from: "kept", path: this.tokenPath, isNew: true });
    await writeOwnerOnly(this.tokenPath, `${token.text}\n`);
    return token;
  }

  /** Removed devices are remembered to be told so, and not for ever. */
  async #forgetOldest(): Promise<void> {
    const paths = readdirSync(this.#folder("removed")).map((name) => join(this.#folder("removed"), name));
    if (paths.length <= mostRecords) return;
    const aged = await Promise.all(paths.map(async (path) => ({ path, age: (await stat(path)).ctimeMs })));
    aged.sort((a, b) => a.age - b.age);
    await rm(aged[0]!.path, { force: true });
  }

  #folder(name: (typeof folders)[number]): string {
    return join(this.path, name);
  }

  #file(name: "devices" | "removed" | "seen", id: string): string {
    return join(this.#folder(name), `${id}.json`);
  }
}

function exposed(path: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail: `others can read ${path}; run \`stellium token --rotate\`` });
}

function parsed<T>(schema: z.ZodType<T>, path: string): T | undefined {
  try {
    return schema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return undefined;
  }
}

import { randomBytes } from "node:crypto";
import { reasonOf } from "../../errors.ts";
import { log } from "../../log.ts";
import { cacheUnwritable, isRefusedBySystem } from "../../system/cacheFolder.ts";
import { unlessHomeless } from "../../system/homeDirectory.ts";
import { JoinToken } from "../token.ts";
import { deviceOf, tokenIdentity } from "./credential.ts";
import { DeviceRecords, mostRecords, type Sighting } from "./deviceRecords.ts";

/** Handshakes look at the disk again after this long, so that many of them do not keep this process busy. */
const freshForMs = 100;
/** A device that connects again and again wears out no disk. */
const sightingEveryMs = 10_000;

/** Where keys are kept, and which token admits devices. */
export interface RegisterOptions {
  /** The default cache directory if absent. */
  readonly cacheDir?: string | undefined;
  /** The kept one if absent, which is made at the first start. */
  readonly token?: JoinToken | undefined;
}

/** What a device is to the coordinator, once it has proved its identity. */
export type Standing =
  /** It knows the token. */
  | { readonly by: "token" }
  /** It has a key of its own. */
  | { readonly by: "key"; readonly device: string; readonly removed: boolean };

/** The key that a device gets when it is admitted. */
export interface IssuedKey {
  readonly device: string;
  /** 32 bytes in base64. */
  readonly key: string;
}

/**
 * The devices that the coordinator lets in: those that know the token, and those that it has given keys. It looks at what
 * is kept on the disk at handshakes and every second, so that `stellium devices rm` and `stellium token --rotate` act on a
 * running coordinator.
 */
export class DeviceRegister {
  readonly #records: DeviceRecords | undefined;
  /** Whether the token is the kept one, which may change. */
  readonly #follows: boolean;
  #token: JoinToken;
  #tokenKey: Buffer | undefined;
  #keys = new Map<string, Buffer>();
  #removed = new Map<string, Buffer>();
  #isReadable = true;
  #readAt = 0;
  /** When it was last stored that a device was seen. */
  readonly #storedAt = new Map<string, number>();

  /**
   * Reads what is kept, or makes it. Without a folder that can be written, devices get no keys and join by the token each
   * time. Throws `BAD_USAGE` if others can read the kept token, `FILE_UNREADABLE`, and `CACHE_UNWRITABLE` if there are
   * devices with keys.
   */
  static async open({ cacheDir, token }: RegisterOptions): Promise<DeviceRegister> {
    const records = recordsIn(cacheDir);
    if (records === undefined) return DeviceRegister.unkept(token ?? JoinToken.generate());
    const own = token ?? records.token() ?? (await madeToken(records));
    return new DeviceRegister(own, records, token === undefined);
  }

  /** Gives no keys: devices join by this token each time. */
  static unkept(token: JoinToken): DeviceRegister {
    return new DeviceRegister(token, undefined, false);
  }

  private constructor(token: JoinToken, records: DeviceRecords | undefined, follows: boolean) {
    this.#records = records;
    this.#follows = follows;
    this.#token = token;
    this.#tokenKey = token.credential.key;
    this.refresh();
  }

  /** The token that admits devices now. */
  get token(): JoinToken {
    return this.#token;
  }

  /** Takes over what has changed on the disk. What cannot be read stays as it was. */
  refresh(): void {
    const records = this.#records;
    this.#readAt = performance.now();
    if (!records?.exists) return;
    try {
      // In this order, since removing moves a file from the first folder to the second.
      this.#keys = keysOf(records, "devices", this.#keys);
      this.#removed = keysOf(records, "removed", this.#removed);
      for (const id of this.#removed.keys()) this.#keys.delete(id);
      this.#refreshToken(records);
      this.#isReadable = true;
    } catch (error) {
      if (this.#isReadable) log("warn", `cannot read ${records.path}: ${reasonOf(error)}; what was known stays`);
      this.#isReadable = false;
    }
  }

  /** The key that an identity has to prove. For an unknown one it is a key that nobody has, so that it fails alike. */
  keyFor(identity: string): Buffer {
    if (performance.now() - this.#readAt > freshForMs) this.refresh();
    const device = deviceOf(identity) ?? "";
    const known = identity === tokenIdentity ? this.#tokenKey : (this.#keys.get(device) ?? this.#removed.get(device));
    return known ?? randomBytes(32);
  }

  /** What an identity stands for, after its handshake; undefined for one that has no key. */
  standingOf(identity: string | undefined): Standing | undefined {
    if (identity === tokenIdentity) return { by: "token" };
    const device = deviceOf(identity ?? "") ?? "";
    const removed = this.isRemoved(device);
    return removed || this.#keys.has(device) ? { by: "key", device, removed } : undefined;
  }

  /** Whether a device's key is valid. */
  isMember(device: string): boolean {
    return this.#keys.has(device);
  }

  /** Whether a device had a key until it was removed. */
  isRemoved(device: string): boolean {
    return this.#removed.has(device);
  }

  /** Makes a key for a device, and keeps it; undefined if none can be kept. */
  async issue(): Promise<IssuedKey | undefined> {
    if (this.#records === undefined) return undefined;
    if (this.#keys.size >= mostRecords) {
      log("warn", `${mostRecords} devices have keys, and a new one gets none; \`stellium devices rm\` removes some`);
      return undefined;
    }
    const device = randomBytes(16).toString("hex");
    const key = randomBytes(32);
    try {
      const record = { key: key.toString("base64"), since: Date.now(), token: this.#token.fingerprint };
      await this.#records.add(device, record);
    } catch (error) {
      log("warn", `cannot keep a key for a device in ${this.#records.path}: ${reasonOf(error)}`);
      return undefined;
    }
    this.#keys.set(device, key);
    return { device, key: key.toString("base64") };
  }

  /** Keeps when a device was seen, for `stellium devices`, but not each time if it comes and goes. Never rejects. */
  async saw(device: string, sighting: Omit<Sighting, "at">): Promise<void> {
    const at = Date.now();
    const isRecent = at - (this.#storedAt.get(device) ?? 0) < sightingEveryMs;
    if (!this.isMember(device) || isRecent) return;
    this.#storedAt.set(device, at);
    await this.#records?.saw(device, { ...sighting, at }).catch((error: unknown) => {
      log("info", `cannot keep when a device was seen: ${reasonOf(error)}`);
    });
  }

  #refreshToken(records: DeviceRecords): void {
    const token = this.#follows ? records.token() : this.#token;
    if (token !== undefined && token.text !== this.#token.text) {
      this.#token = token;
      this.#tokenKey = token.credential.key;
    }
    if (this.#tokenKey === undefined || !records.isRevoked(this.#token)) return;
    this.#tokenKey = undefined;
    log(
      "warn",
      "the token admits no device any more, since one that knows it was removed; give another for new devices",
    );
  }
}

/** Folders that can be written; undefined, with a line in the log, if there are none. */
function recordsIn(cacheDir: string | undefined): DeviceRecords | undefined {
  const without = (reason: string) => void log("info", `devices get no keys of their own: ${reason}`);
  const records = unlessHomeless(() => new DeviceRecords(cacheDir));
  if (records === undefined) return without("there is no home directory; STELLIUM_CACHE_DIR can name a folder");
  try {
    records.prepare();
    return records;
  } catch (error) {
    if (!isRefusedBySystem(error)) throw error;
    if (records.exists) throw cacheUnwritable(records.path, "STELLIUM_CACHE_DIR", error);
    return without(`${records.path} cannot be written: ${reasonOf(error)}`);
  }
}

/** A token that is kept, or holds for this run. */
async function madeToken(records: DeviceRecords): Promise<JoinToken> {
  return await records.renewToken().catch((error: unknown) => {
    log("warn", `the join token changes with each start: ${records.tokenPath} cannot be written: ${reasonOf(error)}`);
    return JoinToken.generate();
  });
}

/** Reads the keys that are new, and leaves out those that are gone. */
function keysOf(
  records: DeviceRecords,
  which: "devices" | "removed",
  known: ReadonlyMap<string, Buffer>,
): Map<string, Buffer> {
  const entries = records.ids(which).flatMap((id): [string, Buffer][] => {
    const key = known.get(id) ?? keyOf(records.read(which, id));
    return key === undefined ? [] : [[id, key]];
  });
  return new Map(entries);
}

function keyOf(record: { readonly key: string } | undefined): Buffer | undefined {
  return record && Buffer.from(record.key, "base64");
}

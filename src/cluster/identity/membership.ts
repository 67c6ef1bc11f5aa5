import { accessSync, constants, readdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { reasonOf, StelliumError } from "../../errors.ts";
import { log } from "../../log.ts";
import { isRefusedBySystem } from "../../system/cacheFolder.ts";
import { unlessHomeless } from "../../system/homeDirectory.ts";
import { makeOwnerOnlyFolder, writeOwnerOnly } from "../../system/ownerOnly.ts";
import { birthOf, isRunningProcess, type ProcessMark } from "../../system/runningProcess.ts";
import { cacheDirectory } from "../../weights/sliceDirectory.ts";
import { key } from "../control/fields.ts";
import type { JoinToken } from "../token.ts";
import { type Credential, deviceIdentity } from "./credential.ts";
import type { IssuedKey } from "./deviceRegister.ts";

const membershipRecord = z.object({
  /** 32 bytes in base64. */
  key,
  /** When the coordinator removed this device, in ms since 1970. */
  removed: z.number().positive().optional(),
});

/** A record's file. While a process uses it, its name has that process in it: taking it is one rename. */
interface RecordFile {
  readonly name: string;
  readonly device: string;
  readonly user: ProcessMark | undefined;
}

/**
 * How a device proves to its coordinator who it is: by the token until it has been admitted, and from then on by the key
 * that it was given, and by nothing else. Someone who knows the token can therefore not pose as the coordinator. Each
 * process has a key of its own; keys are kept for each token in `joined/` of the cache directory.
 */
export class Membership implements Disposable {
  readonly #token: JoinToken;
  /** Where keys for this token are kept; undefined if none can be. */
  readonly #folder: string | undefined;
  #issued: IssuedKey | undefined;

  /** Joins by the token each time, and keeps nothing. */
  static ofToken(token: JoinToken): Membership {
    return new Membership(token, undefined, undefined);
  }

  /**
   * Takes a key that was kept for this token and that no other process uses.
   * Throws `DEVICE_REMOVED` if the coordinator took it back, and `FILE_UNREADABLE`.
   *
   * @param cache - the default cache directory if absent
   */
  static open(token: JoinToken, cache = unlessHomeless(() => cacheDirectory())): Membership {
    if (cache === undefined) {
      log(
        "info",
        "this device gets no key of its own: there is no home directory; STELLIUM_CACHE_DIR can name a folder",
      );
      return Membership.ofToken(token);
    }
    const folder = join(cache, "joined", token.fingerprint);
    const kept = takeRecord(folder);
    return new Membership(token, kept || isWritable(dirname(folder)) ? folder : undefined, kept);
  }

  private constructor(token: JoinToken, folder: string | undefined, issued: IssuedKey | undefined) {
    this.#token = token;
    this.#folder = folder;
    this.#issued = issued;
  }

  /** What this device proves in a handshake, and has the coordinator prove. */
  get credential(): Credential {
    if (this.#issued === undefined) return this.#token.credential;
    return { identity: deviceIdentity(this.#issued.device), key: Buffer.from(this.#issued.key, "base64") };
  }

  /** Whether the coordinator that admitted this device knows it by its key. */
  get isAdmitted(): boolean {
    return this.#issued !== undefined;
  }

  /** Whether a key can be kept here. */
  get keepsKey(): boolean {
    return this.#folder !== undefined;
  }

  /** Where the key is kept, for messages. */
  get path(): string {
    return this.#folder ?? "nowhere";
  }

  /** Keeps the key that the coordinator has given. If that fails, it holds until this process ends. */
  async keep({ device, key }: IssuedKey): Promise<void> {
    this.#issued = { device, key };
    await this.#write({ key });
  }

  /** Remembers that the coordinator has taken the key back. Returns what to say about it. */
  async leave(): Promise<StelliumError> {
    if (this.#issued !== undefined) await this.#write({ key: this.#issued.key, removed: Date.now() });
    return new StelliumError("DEVICE_REMOVED");
  }

  /** Lets another process of this device use the key. */
  [Symbol.dispose](): void {
    if (this.#folder === undefined || this.#issued === undefined) return;
    const { device } = this.#issued;
    rename(this.#folder, nameOf(device, ownMark()), nameOf(device));
  }

  async #write(record: z.infer<typeof membershipRecord>): Promise<void> {
    if (this.#folder === undefined || this.#issued === undefined) return;
    try {
      makeOwnerOnlyFolder(this.#folder);
      await writeOwnerOnly(join(this.#folder, nameOf(this.#issued.device, ownMark())), JSON.stringify(record));
    } catch (error) {
      log("warn", `cannot keep this device's key in ${this.#folder}: ${reasonOf(error)}`);
    }
  }
}

/** The first key that is free. Throws `DEVICE_REMOVED` if there are only such that were taken back. */
function takeRecord(folder: string): IssuedKey | undefined {
  let removed = false;
  for (const file of recordFiles(folder)) {
    const record = readRecord(join(folder, file.name));
    if (record?.removed !== undefined) removed = true;
    if (record === undefined || record.removed !== undefined) continue;
    if (file.user !== undefined && isRunningProcess(file.user)) continue;
    if (rename(folder, file.name, nameOf(file.device, ownMark()))) return { device: file.device, key: record.key };
  }
  if (removed) throw new StelliumError("DEVICE_REMOVED");
  return undefined;
}

function recordFiles(folder: string): RecordFile[] {
  const files = namesIn(folder).flatMap((name): RecordFile[] => {
    const [, device, pid, birth] = /^([0-9a-f]{32})(?:\.(\d{1,10})(?:-(\d{1,20}))?)?\.json$/.exec(name) ?? [];
    if (device === undefined) return [];
    return [{ name, device, user: pid === undefined ? undefined : { pid: Number(pid), birth } }];
  });
  return files.sort((a, b) => (a.device < b.device ? -1 : 1));
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw unreadable(folder, reasonOf(error), error);
  }
}

/** Undefined if another process has taken the file meanwhile. A key that cannot be read does not count as none. */
function readRecord(path: string): z.infer<typeof membershipRecord> | undefined {
  try {
    return membershipRecord.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    if (isMissing(error)) return undefined;
    const reason = isRefusedBySystem(error) ? reasonOf(error) : "it is damaged; delete it to join with the token again";
    throw unreadable(path, reason, error);
  }
}

/** False if another process was faster. On a disk that cannot be written names stay as they are. */
function rename(folder: string, from: string, to: string): boolean {
  try {
    renameSync(join(folder, from), join(folder, to));
    return true;
  } catch (error) {
    return !isMissing(error);
  }
}

function isWritable(folder: string): boolean {
  try {
    makeOwnerOnlyFolder(folder);
    accessSync(folder, constants.W_OK);
    return true;
  } catch (error) {
    log("info", `this device gets no key of its own, since ${folder} cannot be written: ${reasonOf(error)}`);
    return false;
  }
}

function nameOf(device: string, user?: ProcessMark): string {
  if (user === undefined) return `${device}.json`;
  return `${device}.${user.pid}${user.birth === undefined ? "" : `-${user.birth}`}.json`;
}

function ownMark(): ProcessMark {
  return { pid: process.pid, birth: birthOf(process.pid) };
}

function isMissing(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");
}

function unreadable(path: string, reason: string, cause: unknown): StelliumError {
  return new StelliumError("FILE_UNREADABLE", { path, reason }, { cause });
}

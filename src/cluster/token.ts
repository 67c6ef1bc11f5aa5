import { hkdfSync, randomBytes, timingSafeEqual } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { resolve } from "node:path";
import { inspect } from "node:util";
import { reasonOf, StelliumError } from "../errors.ts";
import { type Credential, tokenIdentity } from "./identity/credential.ts";

const fewestCharacters = 16;
const mostCharacters = 1024;
/** More than any token takes in UTF-8. */
const fileBytes = 8 * mostCharacters;
/** No letters and digits that are taken for each other, no marks that end a double click's selection. */
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";
const generatedCharacters = 26;
const salt = "stellium join token";
const keyBytes = 32;

/** What a key is for: keys of different purposes say nothing about each other. */
export type KeyPurpose = "control" | "comparison" | "fingerprint";

/** Where a token may come from: the flag, else the file, else `STELLIUM_TOKEN`, since what was typed beats what was set. */
export interface TokenSources {
  /** The token itself, as given on the command line. */
  readonly flag?: string | undefined;
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  /** Path of a file that holds the token and that its owner alone can read. */
  readonly file?: string | undefined;
}

/** Where a token came from. */
export type TokenOrigin =
  /** The command line or a program; `STELLIUM_TOKEN`; or it was made for this process alone. */
  | { readonly from: "given" | "variable" | "memory" }
  /** A file of the user's, or the one in which this device keeps its own token; `isNew` if it was made now. */
  | { readonly from: "file" | "kept"; readonly path: string; readonly isNew?: boolean };

/**
 * The secret that lets devices into a cluster. It prints as `[join token]` wherever it is logged by accident; only
 * `text` shows it. Someone who listens while a device joins can try guesses offline, so a chosen token has to be as hard
 * to guess as a generated one.
 */
export class JoinToken {
  readonly origin: TokenOrigin;
  readonly #text: string;

  /** A new token of 130 random bits. */
  static generate(origin: TokenOrigin = { from: "memory" }): JoinToken {
    const random = [...randomBytes(generatedCharacters)];
    return new JoinToken(random.map((byte) => alphabet[byte % alphabet.length]).join(""), origin);
  }

  /** Throws `BAD_USAGE` unless `text` is 16 to 1,024 printable characters. */
  static parse(text: string, origin: TokenOrigin = { from: "given" }): JoinToken {
    // The same characters come composed from one system's keyboard and decomposed from another's.
    const token = text.normalize("NFC");
    const length = [...token].length;
    if (length < fewestCharacters || length > mostCharacters) {
      throw refusal(`a join token has ${fewestCharacters} to ${mostCharacters} characters, and this one has ${length}`);
    }
    if (!/^[^\p{C}\p{Zl}\p{Zp}]+$/u.test(token)) throw refusal("a join token is made of printable characters only");
    return new JoinToken(token, origin);
  }

  private constructor(text: string, origin: TokenOrigin) {
    this.origin = origin;
    this.#text = text;
  }

  /** The secret itself, for a join line. */
  get text(): string {
    return this.#text;
  }

  /** 32 bytes derived by HKDF-SHA-256. */
  key(purpose: KeyPurpose): Buffer {
    return Buffer.from(hkdfSync("sha256", this.#text, salt, purpose, keyBytes));
  }

  /** What a device proves that knows this token. */
  get credential(): Credential {
    return { identity: tokenIdentity, key: this.key("control") };
  }

  /** Names the token in records, in 32 hexadecimal digits, without giving it away. */
  get fingerprint(): string {
    return this.key("fingerprint").toString("hex", 0, 16);
  }

  /** Compares in a time that says nothing about either. */
  equals(other: JoinToken): boolean {
    return timingSafeEqual(this.key("comparison"), other.key("comparison"));
  }

  toString(): string {
    return "[join token]";
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

/**
 * The token that was given, or undefined where none was. Throws `BAD_USAGE` if it is no token or if others than its
 * owner may read the file, `FILE_UNREADABLE`.
 */
export async function resolveToken({ flag, env, file }: TokenSources): Promise<JoinToken | undefined> {
  if (flag !== undefined) return JoinToken.parse(flag);
  if (file !== undefined) return await readToken({ from: "file", path: resolve(file) });
  const text = env?.["STELLIUM_TOKEN"] || undefined;
  return text === undefined ? undefined : JoinToken.parse(text, { from: "variable" });
}

/**
 * Reads a token from its file. Throws `BAD_USAGE` if it is no token or if others than its owner may read the file,
 * `FILE_UNREADABLE`.
 */
export async function readToken(origin: Extract<TokenOrigin, { path: string }>): Promise<JoinToken> {
  return JoinToken.parse(await readOwnersFile(origin.path), origin);
}

async function readOwnersFile(path: string): Promise<string> {
  const handle = await open(path, "r").catch((error: unknown) => {
    throw new StelliumError("FILE_UNREADABLE", { path, reason: reasonOf(error) }, { cause: error });
  });
  try {
    await checkOwnerOnly(handle, path);
    return await readText(handle, path);
  } finally {
    await handle.close();
  }
}

async function checkOwnerOnly(handle: FileHandle, path: string): Promise<void> {
  const { mode } = await handle.stat();
  if (process.platform === "win32" || (mode & 0o077) === 0) return;
  const octal = (mode & 0o777).toString(8).padStart(4, "0");
  throw refusal(`${path} has mode ${octal}, so others can read the token; run \`chmod 600 ${path}\``);
}

/** Read bytewise rather than by size, so that a pipe (`<(pass show stellium)`) does as well as a file. */
async function readText(handle: FileHandle, path: string): Promise<string> {
  const buffer = Buffer.alloc(fileBytes);
  let length = 0;
  while (length < fileBytes) {
    const { bytesRead } = await readSome(handle, path, buffer, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.toString("utf8", 0, length).trim();
}

function readSome(handle: FileHandle, path: string, buffer: Buffer, at: number) {
  return handle.read(buffer, at, buffer.length - at, null).catch((error: unknown) => {
    throw new StelliumError("FILE_UNREADABLE", { path, reason: reasonOf(error) }, { cause: error });
  });
}

function refusal(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}

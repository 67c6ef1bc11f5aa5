import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** Facts in a shared library's ELF tables; see the System V ABI and the LSB on symbol versions. */
export interface ElfLibrary {
  /** `e_machine`, such as 62 for x86-64. */
  readonly machine: number;
  /** File names of the libraries that it needs. */
  readonly libraries: readonly string[];
  /** Versions that it needs, by the library that they are of, such as `GLIBC_2.34` of `libc.so.6`. */
  readonly needs: ReadonlyMap<string, readonly string[]>;
  /** Versions of symbols that it provides. */
  readonly provides: readonly string[];
}

/** Sections of the dynamic table (`DT_*`), and what of the program header (`PT_*`) is looked at. */
const dynamicTag = { end: 0, needed: 1, strings: 5, stringBytes: 10 } as const;
const versionTag = { defined: 0x6ffffffc, definedCount: 0x6ffffffd, needed: 0x6ffffffe, neededCount: 0x6fffffff };
const segment = { load: 1, dynamic: 2 } as const;
/** More than any library has: a file that says otherwise is none. */
const most = { segments: 256, tableBytes: 1 << 16, stringBytes: 1 << 24, versions: 4096 };

/** Reads at an offset of a file. Throws if it ends before. */
type ReadAt = (offset: number, bytes: number) => DataView;

/**
 * Reads what a shared library needs and provides, without loading it. Returns undefined if the file is not a
 * little-endian ELF library, or damaged. Throws what opening it does.
 */
export function readElf(path: string): ElfLibrary | undefined {
  const descriptor = openSync(path, "r");
  try {
    const { size } = fstatSync(descriptor);
    return parseElf((offset, bytes) => readFrom(descriptor, size, offset, bytes));
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  } finally {
    closeSync(descriptor);
  }
}

function readFrom(descriptor: number, size: number, offset: number, bytes: number): DataView {
  if (!(offset >= 0 && offset + bytes <= size)) throw new RangeError("it ends before");
  const buffer = new Uint8Array(bytes);
  if (readSync(descriptor, buffer, 0, bytes, offset) !== bytes) throw new RangeError("it ends before");
  return new DataView(buffer.buffer);
}

/** Throws `RangeError` for what is no such library. */
function parseElf(readAt: ReadAt): ElfLibrary {
  const head = readAt(0, 64);
  if (head.getUint32(0) !== 0x7f454c46 || head.getUint8(5) !== 1) throw new RangeError("it is no ELF file");
  const wide = head.getUint8(4) === 2;
  const segments = segmentsOf(readAt, head, wide);
  const table = dynamicTable(readAt, segments, wide);
  const at = (address: number) => fileOffset(segments, address);
  const text = stringTable(readAt(at(first(table, dynamicTag.strings)), bounded(table, dynamicTag.stringBytes)));
  const section = (tag: number) => (table.has(tag) ? at(first(table, tag)) : undefined);
  const count = (tag: number) => Math.min(most.versions, table.get(tag)?.[0] ?? 0);
  return {
    machine: head.getUint16(18, true),
    libraries: (table.get(dynamicTag.needed) ?? []).map(text),
    needs: neededVersions(readAt, section(versionTag.needed), count(versionTag.neededCount), text),
    provides: definedVersions(readAt, section(versionTag.defined), count(versionTag.definedCount), text),
  };
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly bytes: number;
}

function segmentsOf(readAt: ReadAt, head: DataView, wide: boolean): Segment[] {
  const start = wide ? Number(head.getBigUint64(32, true)) : head.getUint32(28, true);
  const [size, count] = [head.getUint16(wide ? 54 : 42, true), head.getUint16(wide ? 56 : 44, true)];
  if (count > most.segments || size < (wide ? 56 : 32)) throw new RangeError("it has no program header");
  const entries = Array.from({ length: count }, (_, i) => readAt(start + i * size, size));
  return entries.map((entry) => (wide ? wideSegment(entry) : narrowSegment(entry)));
}

function wideSegment(entry: DataView): Segment {
  const [offset, address, bytes] = [8, 16, 32].map((at) => Number(entry.getBigUint64(at, true)));
  return { type: entry.getUint32(0, true), offset: offset!, address: address!, bytes: bytes! };
}

function narrowSegment(entry: DataView): Segment {
  const [type, offset, address, bytes] = [0, 4, 8, 16].map((at) => entry.getUint32(at, true));
  return { type: type!, offset: offset!, address: address!, bytes: bytes! };
}

/** Where the bytes are that a loaded library has at an address. */
function fileOffset(segments: readonly Segment[], address: number): number {
  const inside = ({ type, address: start, bytes }: Segment) =>
    type === segment.load && address >= start && address < start + bytes;
  const found = segments.find(inside);
  if (found === undefined) throw new RangeError(`nothing is at ${address}`);
  return found.offset + (address - found.address);
}

/** The dynamic table: values by their tags. */
function dynamicTable(readAt: ReadAt, segments: readonly Segment[], wide: boolean): Map<number, number[]> {
  const found = segments.find(({ type }) => type === segment.dynamic);
  if (found === undefined || found.bytes > most.tableBytes) throw new RangeError("it has no dynamic table");
  const view = readAt(found.offset, found.bytes);
  const table = new Map<number, number[]>();
  const step = wide ? 16 : 8;
  for (let at = 0; at + step <= view.byteLength; at += step) {
    const tag = wide ? Number(view.getBigUint64(at, true)) : view.getUint32(at, true);
    if (tag === dynamicTag.end) break;
    const value = wide ? Number(view.getBigUint64(at + 8, true)) : view.getUint32(at + 4, true);
    table.set(tag, [...(table.get(tag) ?? []), value]);
  }
  return table;
}

function first(table: ReadonlyMap<number, readonly number[]>, tag: number): number {
  const value = table.get(tag)?.[0];
  if (value === undefined) throw new RangeError(`it has no entry ${tag}`);
  return value;
}

function bounded(table: ReadonlyMap<number, readonly number[]>, tag: number): number {
  const bytes = first(table, tag);
  if (bytes > most.stringBytes) throw new RangeError(`it has ${bytes} bytes of names`);
  return bytes;
}

function stringTable(view: DataView): (offset: number) => string {
  const bytes = Buffer.from(view.buffer);
  return (offset) => {
    const end = bytes.indexOf(0, offset);
    if (offset >= bytes.length || end < 0) throw new RangeError(`it has no name at ${offset}`);
    return bytes.toString("latin1", offset, end);
  };
}

/** `Elf_Verneed` and its `Elf_Vernaux`: both are lists whose entries say where the next one is, from themselves on. */
function neededVersions(readAt: ReadAt, start: number | undefined, count: number, text: (offset: number) => string) {
  const needs = new Map<string, readonly string[]>();
  for (let i = 0, at = start; at !== undefined && i < count; i++) {
    const entry = readAt(at, 16);
    const [file, firstVersion, next] = [4, 8, 12].map((field) => entry.getUint32(field, true));
    const versions = Math.min(most.versions, entry.getUint16(2, true));
    needs.set(text(file!), namesFrom(readAt, at + firstVersion!, versions, { bytes: 16, name: 8, next: 12 }, text));
    at = next === 0 ? undefined : at + next!;
  }
  return needs;
}

/** `Elf_Verdef`: the first name of each is its own, the others are those of versions before it. */
function definedVersions(readAt: ReadAt, start: number | undefined, count: number, text: (offset: number) => string) {
  const names: string[] = [];
  for (let i = 0, at = start; at !== undefined && i < count; i++) {
    const entry = readAt(at, 20);
    const [name, next] = [entry.getUint32(12, true), entry.getUint32(16, true)];
    names.push(...namesFrom(readAt, at + name, 1, { bytes: 8, name: 0, next: 4 }, text));
    at = next === 0 ? undefined : at + next;
  }
  return names;
}

function namesFrom(
  readAt: ReadAt,
  start: number,
  count: number,
  layout: { readonly bytes: number; readonly name: number; readonly next: number },
  text: (offset: number) => string,
): string[] {
  const names: string[] = [];
  for (let i = 0, at = start; i < count; i++) {
    const entry = readAt(at, layout.bytes);
    names.push(text(entry.getUint32(layout.name, true)));
    const next = entry.getUint32(layout.next, true);
    if (next === 0) break;
    at += next;
  }
  return names;
}

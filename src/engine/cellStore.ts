import { StelliumError } from "../errors.ts";
import { allocateNative, NativeBytes, type NativeMemory } from "../native/memory.ts";
import type { KvCache } from "./kvCache.ts";
import type { CellMove } from "./rankCommand.ts";

/** A copy of a slot's first cells. */
interface StoredCells {
  readonly cells: number;
  readonly memory: NativeMemory;
}

/** Copies of cells beside the KV cache, by key. Every rank has those of its own heads. */
export class CellStore implements Disposable {
  readonly #kv: KvCache;
  readonly #most: number;
  readonly #stored = new Map<number, StoredCells>();

  /** @param most - cells that all copies together may have */
  constructor(kv: KvCache, most: number) {
    this.#kv = kv;
    this.#most = most;
  }

  /** Throws `PROTOCOL_VIOLATION` where there is no room for a copy, or no such copy. */
  move(command: CellMove): void {
    if (command.move === "copy") this.#kv.copy(command.from, command.to, command.cells);
    else if (command.move === "save") this.#save(command.key, command.slot, command.cells);
    else if (command.move === "restore") this.#restore(command.key, command.slot, command.cells);
    else if (command.move === "drop") this.#drop(command.key);
    else this[Symbol.dispose]();
  }

  /** The bytes of a copy, valid until it is dropped. Throws `PROTOCOL_VIOLATION` where there is none. */
  stored(key: number): { cells: number; bytes: NativeBytes } {
    const { cells, memory } = this.#find(key, 0);
    return { cells, bytes: new NativeBytes(memory.address, this.#kv.bytesOf(cells)) };
  }

  /**
   * Makes room for a copy, in place of one of the same key, for its bytes to be written. Throws `PROTOCOL_VIOLATION` where
   * there is no room.
   */
  allocate(key: number, cells: number): NativeBytes {
    this.#drop(key);
    const stored = [...this.#stored.values()].reduce((sum, entry) => sum + entry.cells, 0);
    if (stored + cells > this.#most) throw violation(`${stored + cells} cells exceed the ${this.#most} to be kept`);
    const memory = allocateNative(Math.max(1, this.#kv.bytesOf(cells)));
    this.#stored.set(key, { cells, memory });
    return this.stored(key).bytes;
  }

  [Symbol.dispose](): void {
    for (const key of [...this.#stored.keys()]) this.#drop(key);
  }

  #save(key: number, slot: number, cells: number): void {
    this.allocate(key, cells);
    this.#kv.read(slot, cells, this.#find(key, cells).memory.address);
  }

  #restore(key: number, slot: number, cells: number): void {
    const stored = this.#find(key, cells);
    this.#kv.write(slot, cells, stored.memory.address, stored.cells);
  }

  #find(key: number, cells: number): StoredCells {
    const stored = this.#stored.get(key);
    if (stored === undefined || stored.cells < cells) throw violation(`no ${cells} cells are kept by ${key}`);
    return stored;
  }

  #drop(key: number): void {
    this.#stored.get(key)?.memory[Symbol.dispose]();
    this.#stored.delete(key);
  }
}

function violation(reason: string): StelliumError {
  return new StelliumError("PROTOCOL_VIOLATION", { peer: "rank 0", reason });
}

/**
 * The tokens still in the race, in buffers that are reused from token to token.
 * Better means a higher logit, and among equal logits the lower id.
 */
export class Candidates {
  ids = new Int32Array(0);
  logits = new Float32Array(0);
  /** Entries in use of `ids` and `logits`. */
  size = 0;

  /** Empties the list and makes room for `capacity` entries. */
  reset(capacity: number): void {
    this.size = 0;
    if (this.ids.length >= capacity) return;
    this.ids = new Int32Array(capacity);
    this.logits = new Float32Array(capacity);
  }

  push(id: number, logit: number): void {
    this.ids[this.size] = id;
    this.logits[this.size++] = logit;
  }
}

/** Fills `out` with the best `k` finite logits, best first, in one pass and O(k) space. */
export function selectTop(logits: Float32Array, k: number, out: Candidates): void {
  out.reset(Math.min(k, logits.length));
  let index = 0;
  for (; index < logits.length && out.size < k; index++) {
    if (Number.isFinite(logits[index])) out.push(index, logits[index]!);
  }
  heapify(out);
  replaceWorse(logits, index, out);
  sortHeap(out);
}

/** The rest of the pass, with the worst of the best at the root of the heap. NaN compares false and stays out. */
function replaceWorse(logits: Float32Array, from: number, heap: Candidates): void {
  let worst = heap.size > 0 ? heap.logits[0]! : Infinity;
  for (let index = from; index < logits.length; index++) {
    const logit = logits[index]!;
    if (logit > worst && logit !== Infinity) {
      heap.ids[0] = index;
      heap.logits[0] = logit;
      siftDown(heap, 0, heap.size);
      worst = heap.logits[0]!;
    }
  }
}

/** Fills `out` with the finite logits of at least `line`, in order of id. */
export function selectAbove(logits: Float32Array, line: number, out: Candidates): void {
  out.reset(logits.length);
  for (let index = 0; index < logits.length; index++) {
    const logit = logits[index]!;
    if (logit >= line && Number.isFinite(logit)) out.push(index, logit);
  }
}

/** Sorts best first. */
export function sortBestFirst(candidates: Candidates): void {
  heapify(candidates);
  sortHeap(candidates);
}

/** The worst entry moves to the root. */
function heapify(heap: Candidates): void {
  for (let root = (heap.size >> 1) - 1; root >= 0; root--) siftDown(heap, root, heap.size);
}

function sortHeap(heap: Candidates): void {
  for (let end = heap.size - 1; end > 0; end--) {
    swap(heap, 0, end);
    siftDown(heap, 0, end);
  }
}

function siftDown(heap: Candidates, from: number, size: number): void {
  for (let root = from; ; ) {
    let child = 2 * root + 1;
    if (child >= size) return;
    if (child + 1 < size && isWorse(heap, child + 1, child)) child++;
    if (!isWorse(heap, child, root)) return;
    swap(heap, root, child);
    root = child;
  }
}

function isWorse({ logits, ids }: Candidates, a: number, b: number): boolean {
  return logits[a] === logits[b] ? ids[a]! > ids[b]! : logits[a]! < logits[b]!;
}

function swap({ logits, ids }: Candidates, a: number, b: number): void {
  const [logit, id] = [logits[a]!, ids[a]!];
  logits[a] = logits[b]!;
  ids[a] = ids[b]!;
  logits[b] = logit;
  ids[b] = id;
}

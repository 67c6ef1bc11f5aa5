/** How values are written on the wire. */
export type WireName = "f32" | "f16" | "q8_0";

/** Bytes and elements of what a wire type encodes as one. */
export const wireBlocks: Readonly<Record<WireName, { readonly blockBytes: number; readonly blockElements: number }>> = {
  f32: { blockBytes: 4, blockElements: 1 },
  f16: { blockBytes: 2, blockElements: 1 },
  q8_0: { blockBytes: 34, blockElements: 32 },
};

/** All wire types, exact ones first. */
export const wireNames = Object.keys(wireBlocks) as readonly WireName[];

/** Bytes that `elements` values take on the wire; the last block is filled up. */
export function wireBytes(name: WireName, elements: number): number {
  const { blockBytes, blockElements } = wireBlocks[name];
  return Math.ceil(elements / blockElements) * blockBytes;
}

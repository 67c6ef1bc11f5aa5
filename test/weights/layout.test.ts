import { describe, expect, it } from "vitest";
import { extraBufferTypes } from "#stellium/native/backend";
import { cpuDevice, openGgml } from "#stellium/native/ggml";
import { viewNative } from "#stellium/native/memory";
import { rowBytes, type TensorTypeName } from "#stellium/native/tensorTypes";
import {
  allocationBytes,
  convertsInParts,
  describingContext,
  Layouts,
  newTensor,
  rowGroup,
} from "#stellium/weights/layout";
import { wholeTensor } from "#stellium/weights/slice";

const ggml = openGgml();
const device = cpuDevice(ggml);
const layouts = new Layouts(ggml, device);
const elements = 512;
const rows = 4 * rowGroup;

/** Blocks of any bits are valid weights. */
function someBytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 2654435761) >>> 13);
}

function matrix(type: TensorTypeName, columns: number, rows: number) {
  return wholeTensor({ name: "matrix", type, shape: [columns, rows], file: 0, offset: 0, bytes: 0 });
}

/** The bytes a matrix has in its layout, brought there `step` rows at a time. */
function converted(type: TensorTypeName, step: number): { name: string; inParts: boolean; bytes: Uint8Array } {
  const tensor = matrix(type, elements, rows);
  const layout = layouts.forPart(tensor);
  const context = describingContext(ggml, rows + 1);
  const whole = newTensor(ggml, context, tensor, rows);
  const room = allocationBytes(ggml, layout.bufferType, whole);
  const buffer = ggml.allocateBuffer(layout.bufferType, room)!;
  const source = someBytes(rowBytes(type, elements) * rows);
  viewNative(ggml.bufferBase(buffer), room).fill(0);
  for (let first = 0; first < rows; first += step) {
    const part = newTensor(ggml, context, tensor, step);
    ggml.placeTensor(buffer, part, ggml.bufferBase(buffer) + BigInt(Math.floor(room / rows) * first));
    const bytes = source.subarray(first * rowBytes(type, elements), (first + step) * rowBytes(type, elements));
    ggml.setTensor(part, bytes, 0, bytes.length);
  }
  const bytes = viewNative(ggml.bufferBase(buffer), room).slice();
  ggml.freeBuffer(buffer);
  ggml.free(context);
  return { name: layout.name, inParts: convertsInParts(layout, rows), bytes };
}

describe("layouts", () => {
  it.each(["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "Q2_K", "MXFP4", "F16"] as const)(
    "of %s are the same, converted whole or some rows at a time",
    (type) => {
      const whole = converted(type, rows);
      if (whole.inParts) expect(converted(type, rowGroup).bytes).toEqual(whole.bytes);
      else expect(whole.name).not.toBe("CPU");
    },
  );

  it("are the plain one for types and shapes that the device has no other for, and for several matrices", () => {
    expect(layouts.forPart(matrix("F32", 32, 7))).toBe(layouts.plain);
    expect(layouts.plain.plain).toBe(true);
    const several = { ...matrix("Q4_0", elements, rows), matrixRows: rowGroup };
    expect(layouts.forPart(several)).toBe(layouts.plain);
    expect(extraBufferTypes(device)).not.toContain(layouts.plain.bufferType);
  });
});

import { afterAll, beforeAll, expect, it } from "vitest";
import { modelBytes, planModel } from "../../bench/generateModel.mjs";
import { serveModel } from "../../bench/model/rangeServer.mjs";

const options = { shape: "tiny-llama", type: "Q4_0", seed: 3 };
const plan = planModel(options);
let server: Awaited<ReturnType<typeof serveModel>>;

beforeAll(async () => {
  server = await serveModel(options);
});

afterAll(() => server.close());

async function read(range?: string) {
  const response = await fetch(server.url, range === undefined ? {} : { headers: { range } });
  return { response, bytes: Buffer.from(await response.arrayBuffer()) };
}

it("serves a whole model that lies on no disk", async () => {
  const { response, bytes } = await read();
  expect(response.status).toBe(200);
  expect(bytes.equals(modelBytes(plan, 0, plan.fileBytes))).toBe(true);
});

it.each([
  ["bytes=0-0", 0, 1],
  ["bytes=1000-70001", 1000, 70_002],
  [`bytes=${plan.fileBytes - 3}-`, plan.fileBytes - 3, plan.fileBytes],
  [`bytes=${plan.fileBytes - 3}-${plan.fileBytes + 9}`, plan.fileBytes - 3, plan.fileBytes],
])("serves the range %s", async (range, start, end) => {
  const { response, bytes } = await read(range);
  expect(response.status).toBe(206);
  expect(response.headers.get("content-range")).toBe(`bytes ${start}-${end - 1}/${plan.fileBytes}`);
  expect(bytes.equals(modelBytes(plan, start, end))).toBe(true);
});

it.each([`bytes=${plan.fileBytes}-`, "bytes=9-3", "lines=1-2"])("refuses the range %s", async (range) => {
  const { response } = await read(range);
  expect(response.status).toBe(416);
});

it("serves experts of a model that no disk here would hold", async () => {
  const options = { shape: "gpt-oss-120b", type: "MXFP4" };
  const plan = planModel(options);
  const big = await serveModel(options);
  const { offset } = plan.tensors.find(({ name }) => name === "blk.35.ffn_down_exps.weight")!;
  const start = plan.header.length + offset + 300 * 1530 + 7;
  const response = await fetch(big.url, { headers: { range: `bytes=${start}-${start + 9999}` } });
  const bytes = Buffer.from(await response.arrayBuffer());
  await big.close();
  expect(bytes.equals(modelBytes(plan, start, start + 10_000))).toBe(true);
  expect(bytes.some((byte) => byte !== 0)).toBe(true);
});

it("counts what it sent, and computes nothing for a client that goes away", async () => {
  const big = await serveModel({ shape: "llama-2-70b", type: "Q4_0" });
  const controller = new AbortController();
  const { body } = await fetch(big.url, { signal: controller.signal });
  const { value } = await body!.getReader().read();
  expect(value!.subarray(0, 4)).toEqual(new Uint8Array(Buffer.from("GGUF")));
  controller.abort();
  await big.close();
  expect(big.sent()).toBeGreaterThan(0);
  expect(big.sent()).toBeLessThan(big.fileBytes / 100);
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { usualLimits } from "#stellium/api/connections";
import { clientGroup } from "#stellium/api/fairShare";
import { FollowerPlaces } from "#stellium/api/followers";
import type { ApiServer } from "#stellium/api/server";
import { openFileLimit } from "#stellium/system/openFiles";
import { environment, model, program, until } from "../cli/stellium.ts";
import { skipOnWindows } from "../skip.ts";
import { FakeModel } from "./fakeModel.ts";
import { ask, json, testServer } from "./harness.ts";

const chat = "/v1/chat/completions";
const open = { allowedHosts: [], corsOrigins: [] };
const halfHead = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
const halfBody = `${halfHead}Content-Length: 1000\r\n\r\n{`;
const few = { most: 20, mostWaiting: 8, mostWaitingOfOne: 6 };
let server: ApiServer | undefined;
const sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await server?.close(0);
  server = undefined;
});

/** A connection that sends this, and no more. Resolves when the server has it. */
async function send(text: string, url = server!.url): Promise<Socket & { answer: () => string }> {
  const socket = connect(Number(new URL(url).port), "127.0.0.1");
  sockets.push(socket);
  let answer = "";
  socket.setEncoding("latin1").on("data", (data) => {
    answer += data;
  });
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.write(text);
  return Object.assign(socket, { answer: () => answer });
}

/** A hundred at a time: the system does not queue as many as it likes for the server. */
async function sendMany(count: number, text: string, url = server!.url) {
  const all: Awaited<ReturnType<typeof send>>[] = [];
  while (all.length < count) {
    const next = Math.min(100, count - all.length);
    all.push(...(await Promise.all(Array.from({ length: next }, () => send(text, url)))));
  }
  return all;
}

function health(url = server!.url): Promise<number> {
  return fetch(`${url}/health`, { signal: AbortSignal.timeout(20_000) }).then(({ status }) => status);
}

/** A model that never ends what it began. */
function endless(): FakeModel {
  return new FakeModel({ beforePiece: () => new Promise(() => {}) });
}

describe("connections that only hold on", () => {
  it("keep nobody out: 2,100 of them, with half a head, half a body or nothing", async () => {
    server = await testServer({ served: new FakeModel() });
    const held: Socket[] = [];
    for (const text of [halfHead, halfBody, ""]) held.push(...(await sendMany(700, text)));
    expect(await health()).toBe(200);
    const body = JSON.stringify(ask("Hi"));
    expect((await fetch(server.url + chat, { method: "POST", body })).status).toBe(200);
    await until(() => held.filter(({ closed }) => !closed).length <= usualLimits().mostWaiting);
  });

  it("give way, the oldest first, and requests that are being answered do not", async () => {
    const served = endless();
    server = await testServer({ served }, { connections: few });
    const { length } = JSON.stringify(ask("Hi"));
    const whole = `${halfHead}Content-Length: ${length}\r\n\r\n${JSON.stringify(ask("Hi"))}`;
    const answered = await sendMany(10, whole);
    await until(() => served.running === 10);
    const first = await send(halfBody);
    const held = await sendMany(few.mostWaitingOfOne, halfBody);
    await until(() => first.closed);
    expect(held.concat(answered).filter(({ closed }) => closed)).toEqual([]);
    expect([await health(), served.running]).toEqual([200, 10]);
  });

  it("do not cut off a request with the key, though its body is slow", async () => {
    server = await testServer({ served: new FakeModel(), access: { ...open, apiKey: "secret" } }, { connections: few });
    const body = JSON.stringify(ask("Hi"));
    const headers = { authorization: "Bearer secret", "content-length": body.length };
    const slow = httpRequest(server.url + chat, { method: "POST", headers });
    const response = once(slow, "response");
    slow.write(body.slice(0, 1));
    await once(slow, "socket");
    await until(() => slow.socket!.bytesWritten > 0);
    const strangers = await sendMany(30, halfBody);
    await until(() => strangers.filter(({ closed }) => closed).length >= 30 - few.mostWaitingOfOne);
    slow.end(body.slice(1));
    const [answer] = await response;
    expect(answer.statusCode).toBe(200);
    answer.resume();
  });

  it("get an error that says so when their time is over", async () => {
    server = await testServer({ served: new FakeModel() }, { headMs: 200 });
    const late = await send(halfHead);
    await once(late, "close");
    const [head, body] = late.answer().split("\r\n\r\n");
    expect(head).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n/);
    const message = "the head of the request did not arrive within 0.2 s";
    expect(JSON.parse(body!).error).toMatchObject({ message, code: "request_too_slow" });
  });
});

it("a process that may open few files keeps nobody out either", skipOnWindows("ulimit"), async () => {
  const limited = ["-c", 'ulimit -n 200; exec "$0" "$@"', process.execPath, program, "serve", model, "--port", "0"];
  const child = spawn("sh", limited, { env: environment(), stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (said += text));
  try {
    await until(() => /serving \S+ on (\S+)/.test(said) || child.exitCode !== null);
    const url = /serving \S+ on (\S+)/.exec(said)?.[1];
    if (url === undefined) throw new Error(said);
    await sendMany(400, halfHead, url);
    expect(await health(url)).toBe(200);
    const body = JSON.stringify(ask("Hi", { max_tokens: 2 }));
    expect((await fetch(url + chat, { method: "POST", body })).status).toBe(200);
  } finally {
    child.kill("SIGKILL");
  }
});

it("more answers at a time than there are connections are refused in words", async () => {
  const served = endless();
  server = await testServer({ served }, { connections: few });
  const body = JSON.stringify(ask("Hi"));
  await sendMany(few.most, `${halfHead}Content-Length: ${body.length}\r\n\r\n${body}`);
  await until(() => served.running === few.most);
  const refused = await send("");
  await once(refused, "close");
  expect(refused.answer()).toMatch(/^HTTP\/1\.1 503 Service Unavailable\r\n/);
  expect(JSON.parse(refused.answer().split("\r\n\r\n")[1]!).error.code).toBe("connections_full");
});

describe("the cluster's events", () => {
  it("have a limited number of followers", async () => {
    server = await testServer({ served: new FakeModel() });
    const leaving = new AbortController();
    const follow = () => fetch(`${server!.url}/cluster/events`, { signal: leaving.signal });
    const followers = await Promise.all(Array.from({ length: 64 }, follow));
    expect(followers.every(({ status }) => status === 200)).toBe(true);
    const refused = await follow();
    expect([refused.status, (await json(refused)).error.code]).toEqual([429, "streams_full"]);
    leaving.abort();
    await expect.poll(async () => (await fetch(`${server!.url}/cluster/events`, { method: "GET" })).status).toBe(200);
  });

  it("share their places fairly among addresses", () => {
    const places = new FollowerPlaces(4);
    const left: string[] = [];
    const take = (group: string, name: string) => places.take({ group, leave: () => left.push(name) });
    for (const name of ["a1", "a2", "a3", "a4"]) take("a", name);
    take("b", "b1");
    const free = take("b", "b2");
    expect(left).toEqual(["a1", "a2"]);
    for (const group of ["a", "b"]) expect(() => take(group, "x")).toThrow(/4 clients follow/);
    free();
    take("a", "a5");
    expect(left).toEqual(["a1", "a2"]);
  });
});

it.each([
  ["192.168.1.20", "192.168.1.20"],
  ["::ffff:192.168.1.20", "192.168.1.20"],
  ["2001:db8:1:2:aaaa::5", "2001:db8:1:2"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2"],
  ["2001:db8::5", "2001:db8:0:0"],
  ["fe80::1%eth0", "fe80:0:0:0"],
  ["::1", "0:0:0:0"],
  [undefined, ""],
])("the address %s counts for %s", (address, group) => expect(clientGroup(address)).toBe(group));

it("the limits leave files to the rest of the process", () => {
  expect(usualLimits(256)).toEqual({ most: 128, mostWaiting: 32, mostWaitingOfOne: 16 });
  expect(usualLimits(1_000_000).most).toBe(2048);
  expect(openFileLimit(() => "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\n")).toBe(
    1024,
  );
  expect(openFileLimit(() => undefined)).toBe(undefined);
  expect(openFileLimit(() => "Max open files  unlimited  unlimited  files\n")).toBe(undefined);
});

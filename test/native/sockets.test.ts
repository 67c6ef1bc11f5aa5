import { afterEach, describe, expect, it } from "vitest";
import {
  acceptFrom,
  closeSocket,
  connectTo,
  limitSending,
  listenOn,
  mostLimit,
  trySend,
} from "#stellium/native/sockets";

const opened: number[] = [];
afterEach(() => {
  for (const socket of opened.splice(0)) closeSocket(socket);
});

/** Bytes that can be sent to a peer that reads nothing. */
function room(limit: number): number {
  const deadline = performance.now() + 5000;
  const { socket: listener, port } = listenOn("127.0.0.1");
  const sender = connectTo("127.0.0.1", port, deadline);
  opened.push(listener, sender, acceptFrom(listener, deadline));
  limitSending(sender, limit);
  const block = new Uint8Array(4096);
  let total = 0;
  for (let sent = 1; sent > 0; total += sent) sent = trySend(sender, block);
  return total;
}

describe("what may be under way over a socket", () => {
  it("follows the limit", () => {
    const [little, much] = [room(16 * 1024), room(mostLimit)];
    expect(much - little).toBeGreaterThan(mostLimit / 2);
    expect(much).toBeLessThan(2 ** 20);
  });
});

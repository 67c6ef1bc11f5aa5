import { once } from "node:events";
import { insider } from "./insiders.mjs";
import { framed, hostileFrame } from "./messages.mjs";

/** @typedef {import("./cluster.mjs").LiveCluster} LiveCluster */
/** @typedef {import("./random.mjs").Random} Random */
/** @typedef {import("node:tls").TLSSocket} Socket */

/**
 * What a device that got a place may do in it: nothing of which is what it should.
 * @type {Record<string, (socket: Socket, random: Random) => void>}
 */
export const misdeeds = {
  "hangs up": (socket) => socket.destroy(),
  "says that it failed, and stays": (socket) => socket.write(framed({ type: "failed", code: "NO", message: "never" })),
  "asks for blocks that there are not": (socket) => socket.write(framed({ type: "slice-request", blocks: [4095] })),
  "sends noise": (socket, random) => {
    for (let i = 0; i < 50; i++) socket.write(hostileFrame(random));
    socket.write(Buffer.from([255, 255, 255, 255, 9]));
  },
  "reports without end": (socket) => {
    const reports = Buffer.concat(Array.from({ length: 3000 }, () => framed({ type: "slice-complete" })));
    socket.write(reports);
  },
  "says that it has loaded its slice, and is gone": (socket) => {
    socket.write(framed({ type: "ready", phase: "loaded" }));
    setTimeout(() => socket.destroy(), 50);
  },
  "says that it listens where nobody does, and is gone": (socket) => {
    for (const phase of ["loaded", "listening"]) {
      socket.write(framed({ type: "ready", phase, ...(phase === "listening" ? { dataPort: 9 } : {}) }));
    }
    setTimeout(() => socket.destroy(), 50);
  },
};

/**
 * Ends a worker, has an insider take its place, who misbehaves, and then a sound one. Returns what the coordinator said
 * to the request that met the loss, and to the next one; and the worker that has the place now.
 * @param {LiveCluster} cluster @param {import("node:child_process").ChildProcess} worker
 * @param {(socket: Socket, random: Random) => void} misdeed @param {Random} random
 */
export async function replace(cluster, worker, misdeed, random) {
  const socket = await insider(cluster.port, cluster.token, "insider");
  const placed = welcomed(socket);
  const lost = await cluster.lose([worker]);
  await placed;
  misdeed(socket, random);
  const dropped = socket.closed ? Promise.resolve() : once(socket, "close").catch(() => {});
  const sound = cluster.join("sound");
  const answer = await cluster.ask();
  await dropped;
  return { lost, answer, sound };
}

/** Resolves when the coordinator has given it a place. @param {Socket} socket */
function welcomed(socket) {
  return new Promise((resolve) => {
    let said = "";
    socket.on("data", (chunk) => {
      said = (said + chunk.toString("latin1")).slice(-100_000);
      if (said.includes('"plan"')) resolve(undefined);
    });
  });
}

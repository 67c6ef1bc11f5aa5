// Of check.sh: runs where both units were started, and says what came of them.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";

const server = "http://127.0.0.1:7710";
const units = ["stellium-serve", "stellium-join"];

try {
  await check();
  process.stdout.write("sound\n");
} catch (error) {
  const logs = execFileSync("journalctl", ["--no-pager", "--lines=40", ...units.map((unit) => `--unit=${unit}`)]);
  process.stdout.write(`${logs}\n${error.stack}\n`);
}

async function check() {
  await within(60, "the server answers", async () => (await fetch(`${server}/health`)).ok);
  say("a text by two devices", await completion());
  for (const unit of units) {
    const user = processStatus(show(unit, "MainPID"), "Uid");
    if (user === "0") throw new Error(`${unit} runs as root`);
    say(unit, `user ${user}, ${show(unit, "NRestarts")} restarts`);
  }

  systemctl("kill", "--signal=KILL", "stellium-join");
  await within(60, "a killed device comes back", async () => show("stellium-join", "NRestarts") === "1");
  await within(60, "and takes part again", async () => (await completion()).length > 0);
  say("a text after one was killed", await completion());

  for (const unit of units) {
    const begun = performance.now();
    systemctl("stop", unit);
    say(`${unit} stopped`, `${show(unit, "Result")}, ${Math.round(performance.now() - begun)} ms`);
    if (show(unit, "Result") !== "success") throw new Error(`${unit} did not end well`);
  }
}

async function completion() {
  const response = await fetch(`${server}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ prompt: "ROMEO:", max_tokens: 24, seed: 1 }),
  });
  if (!response.ok) throw new Error(await response.text());
  const { choices } = await response.json();
  return choices[0].text;
}

async function within(seconds, what, holds) {
  const end = performance.now() + 1000 * seconds;
  while (!(await holds().catch(() => false))) {
    if (performance.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await wait(200);
  }
  say(what, "yes");
}

function systemctl(...args) {
  return execFileSync("systemctl", args, { encoding: "utf8" });
}

function show(unit, property) {
  return systemctl("show", "--value", "--property", property, unit).trim();
}

/** First value of a line of /proc/PID/status. */
function processStatus(pid, name) {
  const line = readFileSync(`/proc/${pid}/status`, "utf8")
    .split("\n")
    .find((entry) => entry.startsWith(`${name}:`));
  return line?.split(/\s+/)[1];
}

function say(what, result) {
  process.stdout.write(`${what}: ${JSON.stringify(result)}\n`);
}

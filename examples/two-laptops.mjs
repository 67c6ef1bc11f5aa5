// Two laptops write together, each with a half of every layer; neither has to hold the whole model.
//
// 1. On both: npm install stellium, and this file.
// 2. On the first, which has the model (a path, an URL, or a name such as Qwen/Qwen3-4B-GGUF:Q4_K_M):
//      node two-laptops.mjs MODEL "Once upon a time"
//    It prints the line for the second. A firewall has to let the port through that it names: for a port of your choice,
//    end that line by 0.0.0.0:7711.
// 3. On the second, that line. It receives its half once, and keeps it for the next time.
// 4. The text appears on the first. The second sees numbers: never the prompt, and never what is written.
//
// The second goes on waiting for more, until Ctrl-C: run the first line again, with STELLIUM_TOKEN set to the same token
// and the same port, and it takes part at once.
import { join, loadModel, StelliumError } from "stellium";

const [first = "models/stellium-shakespeare-5m-q8_0.gguf", second = "ROMEO:", listen] = process.argv.slice(2);
const stop = new AbortController();
process.once("SIGINT", () => stop.abort("Ctrl-C"));

try {
  if (first === "--join") await takePart(second);
  else await write(first, second);
} catch (error) {
  if (!(error instanceof StelliumError)) throw error;
  console.error(`${error.code}: ${error.message}. ${error.hint}`);
  process.exitCode = 1;
}

/** The first laptop. @param {string} name @param {string} prompt */
async function write(name, prompt) {
  const token = process.env["STELLIUM_TOKEN"] || undefined;
  const model = await loadModel(name, {
    cluster: { workers: 1, listen, token, onJoin: invite },
    signal: stop.signal,
  });
  try {
    process.stdout.write(prompt);
    for await (const piece of model.generate(prompt, { maxTokens: 200, signal: stop.signal }))
      process.stdout.write(piece);
    process.stdout.write("\n");
  } finally {
    await model.close();
  }
}

/** @param {import("stellium").JoinInvitation} invitation */
function invite({ address, token, joined }) {
  if (joined > 0) console.error("the second laptop is here");
  else console.error(`on the second laptop:\n  STELLIUM_TOKEN=${token} node two-laptops.mjs --join ${address}`);
}

/** The second laptop. @param {string} address */
async function takePart(address) {
  const token = process.env["STELLIUM_TOKEN"] ?? "";
  await join({ address, token, signal: stop.signal, onState: ({ state }) => console.error(state) });
}

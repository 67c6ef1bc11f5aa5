// Continues a text, on this device alone:
//   node examples/story.mjs MODEL "Once upon a time"
// MODEL is a path, an URL, or a name such as Qwen/Qwen3-4B-GGUF:Q4_K_M, which is fetched.
import { generate, StelliumError } from "stellium";

const [model = "models/stellium-shakespeare-5m-q8_0.gguf", prompt = "ROMEO:"] = process.argv.slice(2);
const stop = new AbortController();
process.once("SIGINT", () => stop.abort("Ctrl-C"));

const story = generate({ model, prompt, maxTokens: 200, signal: stop.signal });
try {
  process.stdout.write(prompt);
  for await (const piece of story) process.stdout.write(piece);
  const { predicted_n = 0, predicted_per_second = 0 } = story.result?.timings ?? {};
  console.error(`\n\n${predicted_n} tokens, ${predicted_per_second.toFixed(1)} a second`);
} catch (error) {
  if (!(error instanceof StelliumError)) throw error;
  console.error(`\n${error.code}: ${error.message}. ${error.hint}`);
  process.exitCode = 1;
}

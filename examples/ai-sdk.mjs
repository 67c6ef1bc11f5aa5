// A chat with the Vercel AI SDK, against a server in this process:
//   npm install ai @ai-sdk/openai-compatible
//   node examples/ai-sdk.mjs MODEL "Why is the sky blue?"
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { streamText } from "ai";
import { serve } from "stellium";

const [model = "models/stellium-shakespeare-5m-q8_0.gguf", prompt = "Speak."] = process.argv.slice(2);

const server = await serve({ model, port: 0 });
const provider = createOpenAICompatible({ name: "stellium", baseURL: server.baseUrl });
try {
  const { textStream } = streamText({ model: provider("any"), prompt, maxOutputTokens: 100 });
  for await (const piece of textStream) process.stdout.write(piece);
  process.stdout.write("\n");
} finally {
  await server.close();
}

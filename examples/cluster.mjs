// Several texts at a time, by a model that three processes on this machine share:
//   node examples/cluster.mjs MODEL
// For other machines, leave `local` out, and run there what `onJoin` tells.
import { loadModel, plan } from "stellium";

const [model = "models/stellium-shakespeare-5m-q8_0.gguf"] = process.argv.slice(2);

const { devices, fits } = await plan({ model, devices: 3, memory: [2e9], compute: [20e9], disk: [1e9] });
for (const { rank, weight_bytes } of devices)
  console.log(`device ${rank}: ${(weight_bytes / 1e6).toFixed(1)} MB of weights`);
console.log(fits ? "2 GB on each will do" : "2 GB on each will not do");

const loaded = await loadModel(model, {
  parallel: 2,
  threads: 1,
  cluster: {
    workers: 2,
    local: true,
    onJoin: ({ address, token, joined, wanted }) => {
      if (joined < wanted) console.log(`waiting for ${wanted - joined} at ${address}, with the token ${token}`);
    },
  },
});
const prompts = ["ROMEO:", "JULIET:", "First Citizen:"];
try {
  const texts = await Promise.all(prompts.map((prompt) => loaded.generate(prompt, { maxTokens: 40, seed: 7 }).text()));
  for (const [i, text] of texts.entries()) console.log(`\n${prompts[i]}${text}`);
} finally {
  await loaded.close();
}

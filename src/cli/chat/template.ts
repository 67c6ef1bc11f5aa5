import { type ModelTemplate, modelTemplate } from "../../serving/modelTemplate.ts";
import type { TextModel } from "../../serving/textModel.ts";
import { readText } from "../textInput.ts";

/** The template from `file`, else the model's own, else ChatML, which is said on stderr. Throws `TEMPLATE_FAILED`. */
export async function chooseTemplate(textModel: TextModel, file: string | undefined): Promise<ModelTemplate> {
  const given = file === undefined ? undefined : { source: await readText(file), name: `the chat template in ${file}` };
  const chosen = await modelTemplate(textModel, given);
  if (chosen.fallback) {
    process.stderr.write("The model has no chat template of its own; ChatML is used, which it may not understand.\n");
  }
  return chosen;
}

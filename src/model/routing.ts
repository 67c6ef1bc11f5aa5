import type { RoutingFacts } from "../trace/routing.ts";
import { unsupportedModel } from "../weights/gguf/metadata.ts";
import type { GgufModel } from "../weights/gguf/model.ts";
import type { Architecture, Gating } from "./architecture.ts";
import { type Keys, scaleOf } from "./keys.ts";

/** How a mixture of experts chooses, and weights what it has chosen. */
export interface Routing {
  /** Experts of a layer, and those that each token gets. */
  readonly count: number;
  readonly used: number;
  readonly gating: Gating;
  /** True if the weights of the chosen ones are divided by their sum. */
  readonly normalized: boolean;
  /** Factor on the weights. */
  readonly scale: number;
  /** Groups that experts are in, and those that a token chooses from; 1: there are none. */
  readonly groups: number;
  readonly groupsUsed: number;
}

/** Header of the model's routing records; undefined if it has no experts. */
export function routingFacts({ hyperparameters, blocks }: RoutedModel): RoutingFacts | undefined {
  const { routing } = hyperparameters;
  if (routing === undefined) return undefined;
  const layers = blocks.filter(({ kind }) => kind === "experts").map(({ layer }) => layer);
  return { layers, experts: routing.count, used: routing.used };
}

interface RoutedModel {
  readonly hyperparameters: { readonly routing?: Routing | undefined };
  readonly blocks: readonly { readonly kind: string; readonly layer: number }[];
}

/** As many as llama.cpp takes. */
const mostExperts = 1024;

/** Gatings as llama.cpp numbers them. */
const gatings: readonly (Gating | undefined)[] = [undefined, "softmax", "sigmoid", "softmaxOfChosen"];

/** Reads and checks it; undefined if the model is no mixture of experts. Throws `MODEL_UNSUPPORTED`. */
export function routingOf(
  model: GgufModel,
  keys: Keys,
  { name, experts: facts }: Architecture,
  vocabularySize: number,
): Routing | undefined {
  const count = keys.optionalNumber("expert_count") ?? 0;
  if (count === 0) return undefined;
  if (facts === undefined)
    throw unsupportedModel(model, `it is a mixture of ${count} experts, which do not run in the architecture ${name}`);
  const { gating = "softmax", normalized = false, sigmoidAt } = facts;
  const usesSigmoid = sigmoidAt?.layers.includes(keys.count("block_count")) && sigmoidAt.vocabulary === vocabularySize;
  const number = facts.gatingByKey ? (keys.optionalNumber("expert_gating_func") ?? 0) : 0;
  const routing = {
    count: keys.count("expert_count"),
    used: keys.uniform("expert_used_count"),
    gating: number === 0 ? (usesSigmoid ? "sigmoid" : gating) : gatings[number],
    normalized: normalized === "key" ? keys.isTrue("expert_weights_norm") : normalized,
    scale: scaleOf(keys, facts.scaled, "expert_weights_scale"),
    groups: keys.optionalNumber("expert_group_count") || 1,
    groupsUsed: keys.optionalNumber("expert_group_used_count") || 1,
  };
  if (routing.gating === undefined)
    throw unsupportedModel(model, `its expert_gating_func is ${number}, which is not known`);
  checkRouting(model, routing);
  return { ...routing, gating: routing.gating };
}

function checkRouting(model: GgufModel, { count, used, groups, groupsUsed }: Omit<Routing, "gating">): void {
  const demand = (fits: boolean, reason: string) => {
    if (!fits) throw unsupportedModel(model, reason);
  };
  demand(count > 1 && count <= mostExperts, `it has ${count} experts, where there may be 2 to ${mostExperts}`);
  demand(used <= count, `${used} of its ${count} experts are to be used`);
  if (groups === 1) return;
  const [least, whole] = [count / groups >= 2, Number.isInteger(groups) && groups > 0 && count % groups === 0];
  demand(whole && least, `its ${count} experts do not divide into ${groups} groups of two or more`);
  const some = Number.isInteger(groupsUsed) && groupsUsed > 0 && groupsUsed < groups;
  demand(some, `${groupsUsed} of its ${groups} groups of experts are to be used`);
  demand((count / groups) * groupsUsed >= used, `its groups leave fewer than ${used} experts to choose from`);
}

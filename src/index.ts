export { type ErrorCode, errorTable, StelliumError } from "./errors.ts";
export { type GenerateOptions, generate } from "./library/generate.ts";
export { type JoinedState, type JoinOptions, join } from "./library/join.ts";
export { type LoadOptions, loadModel, type Message, type Model } from "./library/model.ts";
export type { ClusterSetup, JoinInvitation, LoadProgress, ModelOptions } from "./library/modelOptions.ts";
export { type PullOptions, pull } from "./library/pull.ts";
export type { Writing, WritingOptions, WritingResult } from "./library/writing.ts";
export type { PullProgress } from "./models/pull.ts";
export type { SamplingParameters } from "./serving/samplingParameters.ts";

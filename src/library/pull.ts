import { z } from "zod";
import type { PullProgress } from "../models/pull.ts";
import { pullModel } from "../models/resolveModel.ts";
import { checkOptions, fields } from "./checkOptions.ts";

/** How a model is fetched. */
export interface PullOptions {
  /** Told how much is there, several times a second. */
  readonly onProgress?: ((progress: PullProgress) => void) | undefined;
  /** Stops it. What has come is kept, and gone on with the next time. */
  readonly signal?: AbortSignal | undefined;
}

const schema = z.strictObject({ onProgress: fields.action, signal: fields.signal });

/**
 * Fetches a model to this device, as far as it is not there: `user/repo:Q4_K_M`, `hf.co/user/repo`, or an URL. Returns the
 * paths of its files. `HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT` and the like are taken from the environment.
 *
 * Throws `StelliumError`s: `MODEL_NOT_FOUND`, `MODEL_GATED`, `QUANTIZATION_NOT_FOUND`, `MODEL_DISK_FULL`,
 * `DOWNLOAD_INVALID` where hash or length are wrong, `HUB_UNREACHABLE`, `BAD_USAGE`, `ABORTED`, and some more.
 */
export async function pull(model: string, options: PullOptions = {}): Promise<readonly string[]> {
  checkOptions("model", z.string().min(1).max(10_000), model);
  checkOptions("options", schema, options);
  return await pullModel(model, options);
}

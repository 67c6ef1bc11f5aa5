import { homedir } from "node:os";
import { StelliumError } from "./errors.ts";

/**
 * The user's home directory. Users that a service manager or a container makes up may have none: throws `HOME_UNKNOWN`.
 *
 * @param read - asks the system
 */
export function homeDirectory(read: () => string = homedir): string {
  try {
    return read();
  } catch (error) {
    throw new StelliumError("HOME_UNKNOWN", {}, { cause: error });
  }
}

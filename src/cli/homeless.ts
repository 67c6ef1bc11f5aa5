import type { FolderVariable } from "../system/homeDirectory.ts";
import { userName } from "../system/user.ts";

/** Explains an empty list to a user who has no home directory. */
export function homelessText(variable: FolderVariable): string {
  return `(${userName()} has no home directory; set ${variable} to name a folder)`;
}

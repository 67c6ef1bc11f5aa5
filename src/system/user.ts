import { userInfo } from "node:os";

/** The name of the user that this process runs as; `uid 54321` if the system has no entry for it. */
export function userName(read: () => { readonly username: string } = userInfo): string {
  try {
    return read().username || uid();
  } catch {
    return uid();
  }
}

function uid(): string {
  const number = process.getuid?.();
  return number === undefined ? "this user" : `uid ${number}`;
}

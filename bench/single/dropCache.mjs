import { open } from "node:fs/promises";
import koffi from "koffi";

const adviceDontNeed = 4;

/**
 * Has the system forget what it holds of a file, so that the next reader gets it from the disk.
 * @param {string} path
 * @returns {Promise<boolean>} false where there is no such call
 */
export async function dropCache(path) {
  if (process.platform !== "linux") return false;
  const advise = koffi.load(null).func("int posix_fadvise(int, int64_t, int64_t, int)");
  const file = await open(path, "r+");
  try {
    // Pages that were not written yet would stay.
    await file.sync();
    return advise(file.fd, 0, 0, adviceDontNeed) === 0;
  } finally {
    await file.close();
  }
}

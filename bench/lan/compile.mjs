import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./shell.mjs";

const programs = { linkem: ["linkem.c", "model.c", "ports.c", "linkem.h"], probe: ["probe.c"] };

/**
 * The path of a program, compiled the first time that its sources are as they are.
 * @param {keyof typeof programs} name
 */
export function compiled(name) {
  const sources = programs[name].map((file) => join(import.meta.dirname, file));
  const hash = createHash("sha256");
  for (const source of sources) hash.update(readFileSync(source));
  const program = join(privateDirectory(), `${name}-${hash.digest("hex").slice(0, 16)}`);
  if (!existsSync(program)) compile(sources, program);
  return program;
}

/** @param {string[]} sources @param {string} program */
function compile(sources, program) {
  const made = `${program}.${process.pid}`;
  const files = sources.filter((file) => file.endsWith(".c"));
  run("cc", ["-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", made, ...files]);
  renameSync(made, program);
}

/** Only this user may have written what root runs from a folder that anyone can write to. */
function privateDirectory() {
  const uid = process.getuid?.() ?? 0;
  const path = join(tmpdir(), `stellium-lan-${uid}`);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const { uid: owner, mode } = statSync(path);
  if (owner !== uid || mode & 0o022) throw new Error(`${path} may have been written by another user`);
  return path;
}

import { homedir } from "node:os";
import { expect, it } from "vitest";
import { homeDirectory } from "#stellium/homeDirectory";
import { hubDirectory } from "#stellium/models/hub";

it("is the user's home directory", () => {
  expect(homeDirectory()).toBe(homedir());
});

it("is an error that says what to set, for a user who has none", () => {
  const none = () => {
    throw new Error("uv_os_homedir returned ENOENT");
  };
  expect(() => homeDirectory(none)).toThrow(
    expect.objectContaining({ code: "HOME_UNKNOWN", hint: expect.stringContaining("STELLIUM_CACHE_DIR") }),
  );
});

it("stands for the tilde that a setting begins with, and for no other", () => {
  expect(hubDirectory({ HF_HUB_CACHE: "~/models" })).toBe(`${homedir()}/models`);
  expect(hubDirectory({ HF_HUB_CACHE: "/data/~models" })).toBe("/data/~models");
});

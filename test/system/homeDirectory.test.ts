import { homedir, userInfo } from "node:os";
import { describe, expect, it } from "vitest";
import { hubDirectory, hubFromEnvironment } from "#stellium/models/hub";
import { homeDirectory, unlessHomeless } from "#stellium/system/homeDirectory";
import { cacheDirectory } from "#stellium/weights/sliceDirectory";

function refuse(): never {
  throw new Error("uv_os_homedir returned ENOENT");
}

describe("homeDirectory", () => {
  it("is the user's home directory", () => {
    expect(homeDirectory()).toBe(homedir());
  });

  it.each(["", "rel", "./rel"])("takes the system's entry for the user if HOME is %j", (home) => {
    const readers = [() => home, () => "/home/entry"];
    expect(homeDirectory("STELLIUM_CACHE_DIR", readers)).toBe("/home/entry");
  });

  it("names the user and what to set, for a user who has none", () => {
    expect(() => homeDirectory("HF_HOME", [() => "", refuse])).toThrow(
      expect.objectContaining({
        code: "HOME_UNKNOWN",
        message: `${userInfo().username} has no home directory`,
        hint: "Set HF_HOME to a folder that this user can write.",
      }),
    );
  });

  it("is no error where a path is wanted only if there is one", () => {
    expect(unlessHomeless(() => homeDirectory("HF_HOME", [refuse]))).toBeUndefined();
    expect(unlessHomeless(() => homeDirectory("HF_HOME", [() => "/home/a"]))).toBe("/home/a");
    expect(() => unlessHomeless(refuse)).toThrow("uv_os_homedir");
  });
});

describe("folders that variables name", () => {
  it("takes a tilde at the beginning for the home, and no other", () => {
    expect(hubDirectory({ HF_HUB_CACHE: "~/models" })).toBe(`${homedir()}/models`);
    expect(hubDirectory({ HF_HUB_CACHE: "/data/~models" })).toBe("/data/~models");
  });

  it.each(["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"])(
    "%s starts at the working directory if relative",
    (name) => {
      expect(hubDirectory({ [name]: "rel" })).toMatch(new RegExp(`^${process.cwd()}/rel(/hub)?$`));
      expect(hubDirectory({ [name]: "", XDG_CACHE_HOME: "/xdg" })).toBe("/xdg/huggingface/hub");
    },
  );

  it("STELLIUM_CACHE_DIR starts at the working directory if relative, and is ignored if empty", () => {
    expect(cacheDirectory({ STELLIUM_CACHE_DIR: "rel" })).toBe(`${process.cwd()}/rel`);
    expect(cacheDirectory({ STELLIUM_CACHE_DIR: "", XDG_CACHE_HOME: "/xdg" }, "linux")).toBe("/xdg/stellium");
  });

  it.each(["", "rel"])("ignores XDG_CACHE_HOME and LOCALAPPDATA if they are %j", (value) => {
    expect(cacheDirectory({ XDG_CACHE_HOME: value }, "linux")).toBe(`${homedir()}/.cache/stellium`);
    expect(hubDirectory({ XDG_CACHE_HOME: value })).toBe(`${homedir()}/.cache/huggingface/hub`);
    expect(cacheDirectory({ LOCALAPPDATA: value }, "win32")).toBe(`${homedir()}/AppData/Local/stellium`);
  });

  it("asks for no folder of the hub before it is needed", async () => {
    const hub = await hubFromEnvironment({ HF_TOKEN: "hf_a", HF_HUB_CACHE: "/data/hub" });
    expect(Object.getOwnPropertyDescriptor(hub, "directory")?.get).toBeTypeOf("function");
    expect(hub).toMatchObject({ directory: "/data/hub", token: "hf_a" });
  });
});

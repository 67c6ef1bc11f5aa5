import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { below, isSafePath } from "#stellium/models/fileNames";
import { authorization, hubDirectory, hubFromEnvironment } from "#stellium/models/hub";
import { hubNameText, isRepository, modelId, parseModelName } from "#stellium/models/modelName";

const endpoint = "https://hub.example/mirror";
const parse = (name: string, there: readonly string[] = []) =>
  parseModelName(name, endpoint, (path) => there.includes(path));
const hub = (repo: string, choice?: string, revision = "main") => ({ kind: "hub", hub: { repo, revision, choice } });

describe("a name of a model", () => {
  it.each([
    ["hf.co/user/repo", hub("user/repo")],
    ["hf.co/user/repo:Q4_K_M", hub("user/repo", "Q4_K_M")],
    ["HF.co/user/repo:q8_0", hub("user/repo", "q8_0")],
    ["huggingface.co/user/repo:Q4_K_M", hub("user/repo", "Q4_K_M")],
    ["hf.co/user/repo:latest", hub("user/repo")],
    ["hf:user/repo:Q4_K_M", hub("user/repo", "Q4_K_M")],
    ["hf://user/repo", hub("user/repo")],
    ["user/repo", hub("user/repo")],
    ["user/repo:Q4_K_M", hub("user/repo", "Q4_K_M")],
    ["user/repo:sub-Q8_0.gguf", hub("user/repo", "sub-Q8_0.gguf")],
    ["user/repo@v1.0:Q8_0", hub("user/repo", "Q8_0", "v1.0")],
    ["hf.co/user/repo/sub/m.gguf", hub("user/repo", "sub/m.gguf")],
    ["hf.co/user/repo/blob/main/sub/m.gguf", hub("user/repo", "sub/m.gguf")],
    ["https://huggingface.co/user/repo", hub("user/repo")],
    ["https://huggingface.co/user/repo/tree/v2", hub("user/repo", undefined, "v2")],
    ["https://hub.example/mirror/user/repo/", hub("user/repo")],
    ["bartowski/Llama-3.2-3B-Instruct-GGUF", hub("bartowski/Llama-3.2-3B-Instruct-GGUF")],
  ])("%s is a hub's", (name, expected) => {
    expect(parse(name)).toEqual(expected);
  });

  it.each([
    "model.gguf",
    "./user/repo",
    "../m",
    "/models/m.gguf",
    "~/m.gguf",
    "models/m.gguf",
    "a/b/c",
    "C:\\models\\m.gguf",
    "C:/models/m",
    "models\\m",
    "nowhere",
  ])("%s is a path", (name) => {
    expect(parse(name)).toEqual({ kind: "file", path: name });
  });

  it("is a path where there is such a file", () => {
    expect(parse("user/repo", ["user/repo"])).toEqual({ kind: "file", path: "user/repo" });
    expect(parse("user/repo:Q4", ["user/repo:Q4"])).toEqual({ kind: "file", path: "user/repo:Q4" });
  });

  it.each([
    ["https://example.org/m.gguf", undefined],
    ["http://127.0.0.1:80/user/repo/resolve/main/m.gguf", undefined],
    ["https://hub.example/mirrors/user/repo", undefined],
    ["https://huggingface.co/datasets/user/repo", undefined],
    ["https://huggingface.co/", undefined],
    ["https://huggingface.co/user/repo/discussions/1", undefined],
    ["https://huggingface.co/user/repo/resolve/main/a%20b.gguf", hub("user/repo", "a b.gguf").hub],
    ["https://hub.example/mirror/user/repo/resolve/v1/m.gguf?download=true", hub("user/repo", "m.gguf", "v1").hub],
  ])("%s is an URL", (url, of) => {
    expect(parse(url)).toEqual({ kind: "url", url, ...(of && { hub: of }) });
  });

  it("of a page that shows a file is the URL of the file", () => {
    expect(parse("https://huggingface.co/user/repo/blob/main/m.gguf")).toMatchObject({
      url: "https://huggingface.co/user/repo/resolve/main/m.gguf",
    });
  });

  it.each([
    "hf.co/user",
    "hf.co/user/..",
    "hf.co/user/re--po",
    "hf.co/user/repo:",
    "hf:../../etc",
    "hf.co/user/repo@..:Q4",
    "user/repo@nul:Q4",
    "user/repo@a.:Q4",
  ])("%s is refused", (name) => {
    expect(() => parse(name)).toThrow(expect.objectContaining({ code: "BAD_USAGE" }));
  });

  it("is read or refused, whatever it is, and what is read can be written", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(hf\.co\/)?[a-z.:@/-]{1,30}$/)), (name) => {
        try {
          const parsed = parse(name);
          if (parsed.kind !== "hub") return;
          expect(isRepository(parsed.hub.repo)).toBe(true);
          expect(parse(`hf.co/${hubNameText(parsed.hub)}`)).toEqual(parsed);
        } catch (error) {
          expect(error).toMatchObject({ code: "BAD_USAGE" });
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a file's name from outside", () => {
  it.each(["m.gguf", "a/b/m.gguf", "a b.gguf", "ä.gguf", ".hidden.gguf", "con-fusion.gguf"])("%j is safe", (path) => {
    expect(isSafePath(path)).toBe(true);
  });

  it.each([
    "",
    "/m",
    "a//b",
    "a/",
    "../m",
    "a/../m",
    "a/./m",
    "a\\m",
    "C:m",
    "nul",
    "NUL.gguf",
    "a/com1.gguf",
    "m.gguf.",
    "m ",
    "a\0b",
    "a\nb",
    "a".repeat(256),
    "a/".repeat(9),
  ])("%j is not", (path) => {
    expect(isSafePath(path)).toBe(false);
    expect(() => below("/cache", path)).toThrow(RangeError);
  });
});

describe("the environment", () => {
  it.each([
    [{ HF_HUB_CACHE: "/a", HUGGINGFACE_HUB_CACHE: "/b", HF_HOME: "/c" }, /^[\\/]a$/],
    [{ HUGGINGFACE_HUB_CACHE: "/b", HF_HOME: "/c" }, /^[\\/]b$/],
    [{ HF_HOME: "/c", XDG_CACHE_HOME: "/d" }, /^[\\/]c[\\/]hub$/],
    [{ XDG_CACHE_HOME: "/d" }, /^[\\/]d[\\/]huggingface[\\/]hub$/],
    [{ XDG_CACHE_HOME: "relative" }, /[\\/]\.cache[\\/]huggingface[\\/]hub$/],
    [{}, /[\\/]\.cache[\\/]huggingface[\\/]hub$/],
    [{ HF_HOME: "~/c" }, /[\\/]c[\\/]hub$/],
  ])("%j says where models are", (environment, path) => {
    expect(hubDirectory(environment)).toMatch(path);
    expect(hubDirectory(environment)).not.toContain("~");
  });

  it.each([
    [{ HF_ENDPOINT: "https://mirror.example/" }, "https://mirror.example"],
    [{ HF_ENDPOINT: "http://192.168.1.5:8080/hf" }, "http://192.168.1.5:8080/hf"],
    [{}, "https://huggingface.co"],
  ])("%j says where the hub is", async (environment, endpoint) => {
    expect((await hubFromEnvironment({ HF_HOME: "/nowhere", ...environment })).endpoint).toBe(endpoint);
  });

  it.each([{ HF_ENDPOINT: "mirror" }, { HF_ENDPOINT: "http://mirror.example" }, { HF_TOKEN: "a\u0007b" }])(
    "%j is refused",
    async (environment) => {
      await expect(hubFromEnvironment({ HF_HOME: "/nowhere", ...environment })).rejects.toMatchObject({
        code: "BAD_USAGE",
      });
    },
  );

  it("has a token for the hub's origin alone", () => {
    const sent = (address: string) => authorization({ endpoint, token: "t" }, address);
    expect(sent("https://hub.example/api/x")).toEqual({ authorization: "Bearer t" });
    for (const address of [
      "http://hub.example/",
      "https://hub.example:444/",
      "https://cdn.hub.example/",
      "https://x/",
    ]) {
      expect(sent(address)).toEqual({});
    }
  });
});

describe("the id of a served model", () => {
  it.each([
    ["Qwen/Qwen3-4B-GGUF:Q4_K_M", "Qwen/Qwen3-4B-GGUF:Q4_K_M"],
    ["hf.co/Qwen/Qwen3-4B-GGUF", "hf.co/Qwen/Qwen3-4B-GGUF"],
    ["/home/me/models/qwen3-4b-q4_k_m.gguf", "qwen3-4b-q4_k_m"],
    ["models/Tiny.GGUF", "Tiny"],
    ["https://example.com/a/tiny-Q4_0.gguf?download=true", "tiny-Q4_0"],
    ["/home/me/models/blob", "blob"],
  ])("of %s is %s, for the command line and the library", (name, id) => {
    expect(modelId(name)).toBe(id);
  });
});

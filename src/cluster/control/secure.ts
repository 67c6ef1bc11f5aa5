import { createServer as createNetServer, type Server, type Socket } from "node:net";
import { type ConnectionOptions, createSecureContext, connect as secureConnect, TLSSocket } from "node:tls";
import type { JoinToken } from "../token.ts";
import type { Address } from "./address.ts";

const identity = "stellium";
const protocol = {
  // ChaCha20 first, for processors without AES instructions. A key of SHA-256 rules out AES-256-GCM-SHA384.
  ciphers: "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
  minVersion: "TLSv1.3",
} as const;

/** Wraps accepted connections. A peer without the token's key fails in the handshake; there is no certificate. */
export function secureAcceptor(token: JoinToken): (socket: Socket) => TLSSocket {
  const key = token.key("control");
  const secureContext = createSecureContext(protocol);
  const pskCallback = (_: unknown, name: string) => (name === identity ? key : null);
  // `pskCallback` is missing in the types of what TLSSocket takes, and it is what TLS servers pass to it.
  const options = { isServer: true, secureContext, pskCallback };
  return (socket) => new TLSSocket(socket, options);
}

/** A server whose sockets send at once and notice a dead peer. */
export function createServer(accept: (socket: Socket) => void): Server {
  return createNetServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 10_000 }, accept);
}

/** Starts to connect; `secureConnect` is emitted when the coordinator has proved that it knows the token. */
export function connectSecurely(address: Address, token: JoinToken): TLSSocket {
  const key = token.key("control");
  const options: ConnectionOptions = {
    ...protocol,
    ...address,
    pskCallback: () => ({ psk: key, identity }),
    // Whoever shows a certificate instead of the key is not the coordinator, whatever authority signed it.
    ca: [],
    checkServerIdentity: () => new Error("it shows a certificate in place of the join token"),
  };
  return secureConnect(options);
}

/** What a failed connection says about the other end. */
export type Refusal = "token" | "stranger" | "unreachable";

/** Tells a wrong token from something that is no coordinator, and both from what may pass. */
export function refusalOf(error: Error & { code?: string }): Refusal {
  const code = error.code ?? "";
  if (/ALERT_(ILLEGAL_PARAMETER|HANDSHAKE_FAILURE|DECRYPT_ERROR|UNKNOWN_PSK_IDENTITY)|BINDER/.test(code))
    return "token";
  return /^ERR_SSL_|^ERR_TLS_|CERT|UNABLE_TO_/.test(code) || /certificate/.test(error.message)
    ? "stranger"
    : "unreachable";
}

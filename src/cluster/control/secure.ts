import { constants } from "node:crypto";
import { createServer as createNetServer, type Server, type Socket } from "node:net";
import { type ConnectionOptions, createSecureContext, connect as secureConnect, TLSSocket } from "node:tls";
import type { Credential } from "../identity/credential.ts";
import type { Address } from "./address.ts";

const protocol = {
  // ChaCha20 first, for processors without AES instructions. A key of SHA-256 rules out AES-256-GCM-SHA384.
  ciphers: "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
  minVersion: "TLSv1.3",
} as const;

/** An accepted connection. */
export interface AcceptedSocket {
  readonly secure: TLSSocket;
  /** What the peer has proved to be, once the handshake is done; undefined for a session resumed by other means. */
  readonly identity: () => string | undefined;
}

/**
 * Wraps accepted connections. A peer without the key that `keyFor` has for its identity fails in the handshake; there is
 * no certificate.
 */
export function secureAcceptor(keyFor: (identity: string) => Buffer): (socket: Socket) => AcceptedSocket {
  // A session ticket would let its holder in without a key, even after the key was taken back.
  const secureContext = createSecureContext({ ...protocol, secureOptions: constants.SSL_OP_NO_TICKET });
  return (socket) => {
    let identity: string | undefined;
    const pskCallback = (_: unknown, name: string) => {
      identity = name;
      return keyFor(name);
    };
    // `pskCallback` is missing in the types of what TLSSocket takes, and it is what TLS servers pass to it.
    const options = { isServer: true, secureContext, pskCallback };
    return { secure: new TLSSocket(socket, options), identity: () => identity };
  };
}

/** A server whose sockets send at once and notice a dead peer. */
export function createServer(accept: (socket: Socket) => void): Server {
  return createNetServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 10_000 }, accept);
}

/** Starts to connect; `secureConnect` is emitted when the coordinator has proved that it has the key, too. */
export function connectSecurely({ host, port }: Address, { identity, key }: Credential): TLSSocket {
  const options: ConnectionOptions = {
    ...protocol,
    host,
    port,
    pskCallback: () => ({ psk: key, identity }),
    // A program with a certificate instead of the key is not the coordinator, whatever authority signed it.
    ca: [],
    checkServerIdentity: () => new Error("it shows a certificate in place of the key"),
  };
  return secureConnect(options);
}

/** What a failed connection says about the other end. */
export type Refusal = "key" | "stranger" | "unreachable";

/** Distinguishes a key that is not accepted, a program that is no coordinator, and what may pass. */
export function refusalOf(error: Error & { code?: string }): Refusal {
  const code = error.code ?? "";
  if (/ALERT_(ILLEGAL_PARAMETER|HANDSHAKE_FAILURE|DECRYPT_ERROR|UNKNOWN_PSK_IDENTITY)|BINDER/.test(code)) return "key";
  return /^ERR_SSL_|^ERR_TLS_|CERT|UNABLE_TO_/.test(code) || /certificate/.test(error.message)
    ? "stranger"
    : "unreachable";
}

/** What one end of a control channel proves in the handshake: it says the identity and proves that it has the key. */
export interface Credential {
  readonly identity: string;
  /** 32 bytes. */
  readonly key: Buffer;
}

/** The identity of a device that knows the join token and has no key of its own yet. */
export const tokenIdentity = "stellium";

/** A device's id: 16 random bytes in hex. */
export const deviceIdPattern = /^[0-9a-f]{32}$/;

/** The identity of a device that was admitted. */
export function deviceIdentity(device: string): string {
  return `device:${device}`;
}

/** The id of a device by its identity; undefined for anything else. */
export function deviceOf(identity: string): string | undefined {
  return /^device:([0-9a-f]{32})$/.exec(identity)?.[1];
}

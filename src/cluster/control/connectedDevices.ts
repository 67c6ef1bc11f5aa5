import type { DeviceRegister } from "../identity/deviceRegister.ts";
import { defaultHeartbeat, type HeartbeatTimes } from "./heartbeat.ts";
import type { WorkerConnection } from "./server.ts";

/** How often removed devices are looked for, besides at handshakes. */
const lookEveryMs = 1000;

/** What decides over connections of devices that have keys. */
export interface DeviceRules {
  readonly register: DeviceRegister;
  readonly heartbeat?: HeartbeatTimes | undefined;
  /** Told the ids of the connected devices, each time that changes. */
  readonly onDevices?: ((ids: readonly string[]) => void) | undefined;
}

/** The devices with keys of their own that are connected: one connection each, until the device is removed. */
export class ConnectedDevices implements Disposable {
  readonly #rules: DeviceRules;
  readonly #connections = new Map<string, WorkerConnection>();
  /** Devices of which a second connection waits for the end of the first. */
  readonly #waiting = new Set<string>();
  readonly #looking: NodeJS.Timeout;

  constructor(rules: DeviceRules) {
    this.#rules = rules;
    this.#looking = setInterval(() => this.#closeRemoved(), lookEveryMs).unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#looking);
  }

  /** The connection that a device has. */
  get(device: string): WorkerConnection | undefined {
    return this.#connections.get(device);
  }

  /**
   * Waits for the end of a device's earlier connection, for as long as it takes to notice that one was cut off. Of further
   * connections of the same device only one waits.
   */
  async endOfEarlier(device: string): Promise<void> {
    const other = this.#connections.get(device);
    if (other === undefined || this.#waiting.has(device)) return;
    const { intervalMs, lostAfterMs } = this.#rules.heartbeat ?? defaultHeartbeat;
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, lostAfterMs + intervalMs);
    });
    this.#waiting.add(device);
    await Promise.race([patience, other.channel.ended]);
    this.#waiting.delete(device);
    clearTimeout(timer);
  }

  /** Counts a device as connected until its channel ends. */
  add(device: string, connection: WorkerConnection): void {
    this.#connections.set(device, connection);
    this.#changed(device, connection);
    void connection.channel.ended.then(() => {
      this.#connections.delete(device);
      this.#changed(device, connection);
    });
  }

  #changed(device: string, { hello, remoteAddress }: WorkerConnection): void {
    void this.#rules.register.saw(device, { name: hello.name, address: remoteAddress });
    this.#rules.onDevices?.([...this.#connections.keys()]);
  }

  #closeRemoved(): void {
    const { register } = this.#rules;
    register.refresh();
    for (const [device, { channel }] of this.#connections) {
      if (register.isMember(device)) continue;
      const removed = register.isRemoved(device);
      void channel.close(removed ? "it was removed" : "its key is no longer kept", removed);
    }
  }
}

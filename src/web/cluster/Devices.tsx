import type { JSX } from "preact";
import type { ClusterStatus, DeviceStatus } from "../../cluster/status/schema.ts";
import { bytesText, durationText } from "../words.ts";
import { type Part, StackedBar } from "./StackedBar.tsx";
import { limitText } from "./words.ts";

type Model = NonNullable<ClusterStatus["model"]>;

/** Every device: its part of the model, its memory, what holds it back. */
export function Devices({ status }: { status: ClusterStatus }): JSX.Element {
  return (
    <section class="devices" aria-labelledby="devices">
      <h2 id="devices">Devices</h2>
      <ul>
        {status.devices.map((device) => (
          <li key={device.rank} class={`device ${device.state}`}>
            <Device device={device} model={status.model!} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Device({ device, model }: { device: DeviceStatus; model: Model }): JSX.Element {
  return (
    <>
      <header>
        <svg class="body-mark" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
          <circle cx="10" cy="10" r="8" class={`disc body-${device.rank % 8}`} />
        </svg>
        <h3>{device.name ?? `Place ${device.rank}`}</h3>
        <span class={`badge ${device.state === "ready" ? device.limit : device.state}`}>{limitText(device)}</span>
        <p class="note">{identity(device)}</p>
      </header>
      {device.transfer && <Transfer transfer={device.transfer} />}
      <div class="facts">
        <Share device={device} model={model} />
        <Memory memory={device.memory} />
        {device.experts && <Experts experts={device.experts} />}
        <LastSteps step={device.step} />
        <Traffic device={device} />
      </div>
    </>
  );
}

function identity({ rank, host, name, threads }: DeviceStatus): string {
  const role = rank === 0 ? "coordinator" : `worker, rank ${rank}`;
  const at = host === null || host === name ? "" : ` on ${host}`;
  return `${role}${at}${threads === null ? "" : `, ${threads} ${threads === 1 ? "thread" : "threads"}`}`;
}

function Transfer({ transfer }: { transfer: NonNullable<DeviceStatus["transfer"]> }): JSX.Element {
  const { bytes, total } = transfer;
  return (
    <div class="transfer">
      <progress value={bytes} max={total} aria-label="Its part of the model" />
      <span>
        {bytesText(bytes)} of {bytesText(total)}
      </span>
    </div>
  );
}

function Share({ device, model }: { device: DeviceStatus; model: Model }): JSX.Element {
  const { heads, ffnColumns, weightBytes, weightFraction } = device.share;
  const percent = `${(weightFraction * 100).toFixed(weightFraction < 0.1 ? 1 : 0)} %`;
  return (
    <div class="fact">
      <h4>
        Share <span class="value">{percent} of the weights</span>
      </h4>
      <StackedBar
        total={model.weightBytes}
        parts={[{ kind: `body-${device.rank % 8}`, name: "its part", value: weightBytes }]}
      />
      <p class="note">
        {heads} of {model.heads} heads, {ffnColumns.toLocaleString("en")} of {model.ffnColumns.toLocaleString("en")} FFN
        columns, {bytesText(weightBytes)}
      </p>
    </div>
  );
}

function Memory({ memory }: { memory: DeviceStatus["memory"] }): JSX.Element {
  const { capBytes, rssBytes = 0, pinnedBytes = 0, windowBytes = 0, kvBytes = 0 } = memory;
  const parts = [
    { kind: "pinned", name: "pinned weights", value: pinnedBytes },
    { kind: "window", name: "window", value: windowBytes },
    { kind: "kv", name: "KV cache", value: kvBytes },
    { kind: "rest", name: "the rest", value: Math.max(0, rssBytes - pinnedBytes - windowBytes - kvBytes) },
  ];
  const known = memory.rssBytes !== undefined;
  const cap = capBytes === undefined ? "" : ` of ${bytesText(capBytes)}`;
  return (
    <div class="fact">
      <h4>
        Memory <span class="value">{known ? `${bytesText(rssBytes)}${cap}` : "–"}</span>
      </h4>
      <StackedBar total={Math.max(capBytes ?? 0, rssBytes)} parts={known ? parts : []} />
      <Legend parts={known ? parts : []} text={bytesText} />
    </div>
  );
}

function Experts({ experts }: { experts: NonNullable<DeviceStatus["experts"]> }): JSX.Element {
  const { count, slots, hitRate, bytesPerToken } = experts;
  const found = hitRate === null ? "–" : `${Math.round(hitRate * 100)} % found in memory`;
  const read = bytesPerToken === null ? "" : `; ${bytesText(bytesPerToken)} read per token`;
  return (
    <div class="fact">
      <h4>
        Experts <span class="value">{found}</span>
      </h4>
      <StackedBar total={count} parts={[{ kind: "pinned", name: "in memory", value: slots }]} />
      <p class="note">
        room for {slots.toLocaleString("en")} of {count.toLocaleString("en")}
        {read}
      </p>
    </div>
  );
}

function LastSteps({ step }: { step: DeviceStatus["step"] }): JSX.Element {
  const parts: Part[] = [
    { kind: "compute", name: "compute", value: step?.computeMs ?? 0 },
    { kind: "disk", name: "disk", value: step?.diskMs ?? 0 },
    { kind: "wire", name: "network", value: (step?.networkMs ?? 0) - (step?.cipherMs ?? 0) },
    { kind: "cipher", name: "cipher", value: step?.cipherMs ?? 0 },
    { kind: "wait", name: "waiting", value: step?.waitMs ?? 0 },
  ];
  const total = parts.reduce((sum, { value }) => sum + value, 0);
  return (
    <div class="fact">
      <h4>
        A step <span class="value">{step === undefined ? "–" : durationText(total)}</span>
      </h4>
      <StackedBar total={total} parts={parts} />
      <Legend parts={step === undefined ? [] : parts} text={durationText} />
    </div>
  );
}

function Traffic({ device }: { device: DeviceStatus }): JSX.Element {
  const { bytesSentPerSecond, bytesReceivedPerSecond, diskBytesPerSecond } = device;
  const rows = [
    ["sends", bytesSentPerSecond],
    ["receives", bytesReceivedPerSecond],
    ["from disk", diskBytesPerSecond],
  ] as const;
  return (
    <div class="fact traffic">
      <h4>Traffic</h4>
      <dl>
        {rows.map(([name, rate]) => (
          <div key={name} class="traffic-rate">
            <dt>{name}</dt>
            <dd>{bytesText(rate)}/s</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}

/** What takes nothing is left out. */
function Legend({ parts, text }: { parts: readonly Part[]; text: (value: number) => string }): JSX.Element {
  return (
    <ul class="legend">
      {parts
        .filter(({ value }) => value > 0)
        .map(({ kind, name, value }) => (
          <li key={kind}>
            <span class={`swatch ${kind}`} aria-hidden="true" />
            {name} {text(value)}
          </li>
        ))}
    </ul>
  );
}

import type { JSX } from "preact";
import type { ClusterStatus, DeviceStatus } from "../../cluster/status/schema.ts";
import { durationText } from "../words.ts";

type Timeline = NonNullable<DeviceStatus["timeline"]>;

/** As the rows of a timeline have them. */
const kinds = ["compute", "disk", "wire", "cipher", "wait"] as const;
const names = ["compute", "disk", "network", "cipher", "waiting"] as const;
const [width, height] = [1000, 26];

/** One of the last steps, as every device spent it. */
export function StepTimeline({ status }: { status: ClusterStatus }): JSX.Element | null {
  const devices = status.devices.filter(({ timeline }) => timeline !== undefined);
  if (devices.length === 0) return null;
  const longest = Math.max(...devices.map(({ timeline }) => sum(timeline!.rows.flat())));
  const { blocks, rows } = devices[0]!.timeline!;
  return (
    <section class="timeline" aria-labelledby="timeline">
      <h2 id="timeline">One step</h2>
      <p class="note">
        {durationText(longest)}, {rows.length > 1 ? `${rows.length * blocks} blocks, from left to right` : "one graph"}.
        A device computes its part of a block; then all sums are added up, before anybody goes on.
      </p>
      <ul class="legend" aria-label="Colours">
        {kinds.map((kind, i) => (
          <li key={kind}>
            <span class={`swatch ${kind}`} aria-hidden="true" />
            {names[i]}
          </li>
        ))}
      </ul>
      <div class="lanes">
        {devices.map((device) => (
          <Lane key={device.rank} device={device} timeline={device.timeline!} longest={longest} />
        ))}
        <Axis longest={longest} />
      </div>
    </section>
  );
}

interface LaneProps {
  readonly device: DeviceStatus;
  readonly timeline: Timeline;
  readonly longest: number;
}

function Lane({ device, timeline, longest }: LaneProps): JSX.Element {
  const paths = pathsOf(timeline, width / Math.max(longest, 1e-6));
  const totals = kinds.map((_, part) => sum(timeline.rows.map((row) => row[part] ?? 0)));
  const said = totals.map((ms, part) => `${names[part]} ${durationText(ms)}`).join(", ");
  return (
    <div class="lane">
      <span class="name">{device.name ?? `rank ${device.rank}`}</span>
      <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img">
        <title>{`${device.name}: ${said}`}</title>
        {kinds.map((kind, part) => (
          <path key={kind} class={`part ${kind}`} d={paths[part]} />
        ))}
      </svg>
    </div>
  );
}

/** One path for each kind: rectangles of what follows on each other. */
function pathsOf({ rows }: Timeline, scale: number): string[] {
  const paths = kinds.map(() => "");
  let x = 0;
  for (const row of rows) {
    for (const [part, ms] of row.entries()) {
      const next = x + ms * scale;
      if (next - x > 0.01) paths[part] += `M${x.toFixed(2)} 0H${next.toFixed(2)}V${height}H${x.toFixed(2)}Z`;
      x = next;
    }
  }
  return paths;
}

function Axis({ longest }: { longest: number }): JSX.Element {
  return (
    <div class="axis" aria-hidden="true">
      {[0, 0.25, 0.5, 0.75, 1].map((part) => (
        <span key={part}>{part === 0 ? "0" : durationText(longest * part)}</span>
      ))}
    </div>
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

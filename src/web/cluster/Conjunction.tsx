import type { JSX } from "preact";
import type { ClusterStatus, DeviceStatus } from "../../cluster/status/schema.ts";
import { isBusy } from "./words.ts";

const [width, height] = [320, 200];
/** What all discs together may cover of the picture. */
const coverage = 0.34;
const smallest = 7;
/** Bodies stand so close that they overlap a little. */
const overlap = 0.16;

interface Body {
  readonly device: DeviceStatus;
  readonly x: number;
  readonly y: number;
  readonly radius: number;
}

/** The devices as bodies that stand close together: each as large as its part of the model. */
export function Conjunction({ status }: { status: ClusterStatus }): JSX.Element {
  const bodies = placed(status.devices);
  const label = status.devices
    .map(({ name, rank, share }) => `${name ?? `place ${rank}`} ${percent(share)}`)
    .join(", ");
  return (
    <svg class={isBusy(status) ? "conjunction busy" : "conjunction"} viewBox={`0 0 ${width} ${height}`} role="img">
      <title>{`Parts of the model: ${label}`}</title>
      <path class="ecliptic" d={`M0 ${height * 0.62}Q${width / 2} ${height * 0.3} ${width} ${height * 0.5}`} />
      {bodies.map(({ device, x, y, radius }) => (
        <g key={device.rank} class={`body ${device.state}`}>
          <circle cx={x} cy={y} r={radius} class={`disc body-${device.rank % 8}`} />
          {radius > 17 && (
            <text x={x} y={y} dy="0.35em">
              {percent(device.share)}
            </text>
          )}
        </g>
      ))}
    </svg>
  );
}

function percent({ weightFraction }: DeviceStatus["share"]): string {
  return `${Math.round(weightFraction * 100)} %`;
}

/** In a row along the middle, above and below it in turn. */
function placed(devices: readonly DeviceStatus[]): Body[] {
  const area = width * height * coverage;
  const radii = devices.map(({ share }) => Math.max(smallest, Math.sqrt((area * share.weightFraction) / Math.PI)));
  const natural = radii.reduce((sum, radius) => sum + radius * 2 * (1 - overlap), 0);
  const scale = Math.min(1, (width - 24) / natural, (height - 24) / (2 * Math.max(1, ...radii)));
  let x = (width - natural * scale) / 2;
  return devices.map((device, i) => {
    const radius = radii[i]! * scale;
    x += radius * (1 - overlap);
    const body = { device, x, y: height / 2 + (i % 2 === 0 ? -1 : 1) * radius * 0.22, radius };
    x += radius * (1 - overlap);
    return body;
  });
}

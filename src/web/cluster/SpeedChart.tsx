import type { JSX } from "preact";
import { chartMs, type SpeedPoint } from "../net/status.ts";
import { figure } from "../words.ts";

const [width, height] = [1000, 120];

/** Tokens per second over the last minutes. */
export function SpeedChart({ history }: { history: readonly SpeedPoint[] }): JSX.Element {
  const most = niceMost(Math.max(1, ...history.map(({ tokensPerSecond }) => tokensPerSecond)));
  const last = history.at(-1);
  const line = last === undefined ? "" : lineOf(history, last.at, most);
  const first = history[0];
  const area = first === undefined || last === undefined ? "" : `${line}V${height}H${xOf(first.at, last.at)}Z`;
  return (
    <figure class="speed">
      <figcaption>
        <h2>Tokens a second</h2>
        <span class="unit">the last 5 minutes, since this page was opened</span>
      </figcaption>
      <div class="plot">
        <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img">
          <title>{`${figure(last?.tokensPerSecond ?? 0)} tokens a second now, at most ${figure(most)} on the scale`}</title>
          <path class="grid" d={`M0 .5H${width}M0 ${height / 2}H${width}M0 ${height - 0.5}H${width}`} />
          <path class="area" d={area} />
          <path class="line" d={line} />
        </svg>
        <span class="tick most">{figure(most)}</span>
        <span class="tick half">{figure(most / 2)}</span>
      </div>
    </figure>
  );
}

function lineOf(history: readonly SpeedPoint[], now: number, most: number): string {
  const points = history.map(({ at, tokensPerSecond }) => {
    const y = height - (Math.min(most, tokensPerSecond) / most) * (height - 4);
    return `${xOf(at, now)} ${y.toFixed(1)}`;
  });
  return `M${points.join("L")}`;
}

function xOf(at: number, now: number): string {
  return (width * (1 - (now - at) / chartMs)).toFixed(1);
}

/** The next round number. */
function niceMost(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value)!;
}

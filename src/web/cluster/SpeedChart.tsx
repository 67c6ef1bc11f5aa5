import type { JSX } from "preact";
import { chartMs, type SpeedPoint } from "../net/status.ts";
import { figure } from "../words.ts";

const [width, height] = [1000, 120];
/** What the chart may show, in milliseconds. */
const steps = [1, 2, 3, 4].map((minutes) => minutes * 60_000);

/** Tokens per second over the last minutes. */
export function SpeedChart({ history }: { history: readonly SpeedPoint[] }): JSX.Element {
  const most = niceMost(Math.max(1, ...history.map(({ tokensPerSecond }) => tokensPerSecond)));
  const last = history.at(-1);
  const shownMs = shownOf(history);
  const x = (at: number) => (width * (1 - ((last?.at ?? 0) - at) / shownMs)).toFixed(1);
  const line = lineOf(history, most, x);
  const area = history[0] === undefined ? "" : `${line}V${height}H${x(history[0].at)}Z`;
  return (
    <figure class="speed">
      <figcaption>
        <h2>Tokens a second</h2>
        <span class="unit">the last {shownMs <= 60_000 ? "minute" : `${Math.round(shownMs / 60_000)} minutes`}</span>
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

/** All that there is, but at least one minute. */
function shownOf(history: readonly SpeedPoint[]): number {
  const all = (history.at(-1)?.at ?? 0) - (history[0]?.at ?? 0);
  return steps.find((step) => step >= all) ?? chartMs;
}

function lineOf(history: readonly SpeedPoint[], most: number, x: (at: number) => string): string {
  const points = history.map(({ at, tokensPerSecond }) => {
    const y = height - (Math.min(most, tokensPerSecond) / most) * (height - 4);
    return `${x(at)} ${y.toFixed(1)}`;
  });
  return points.length === 0 ? "" : `M${points.join("L")}`;
}

/** The next round number. */
function niceMost(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value)!;
}

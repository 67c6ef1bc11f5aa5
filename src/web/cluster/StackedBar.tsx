import type { JSX } from "preact";

/** One part of a bar. */
export interface Part {
  /** The class that colours it. */
  readonly kind: string;
  readonly name: string;
  readonly value: number;
}

const [width, height] = [100, 6];

/** Parts of a whole, side by side. What they are is said beside it in words: a screen reader passes over it. */
export function StackedBar({ total, parts }: { total: number; parts: readonly Part[] }): JSX.Element {
  let x = 0;
  return (
    <svg class="bar" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <rect class="track" width={width} height={height} />
      {parts.map(({ kind, value }) => {
        const part = total > 0 ? (value / total) * width : 0;
        const left = x;
        x += part;
        return <rect key={kind} class={`part ${kind}`} x={left} width={part} height={height} />;
      })}
    </svg>
  );
}

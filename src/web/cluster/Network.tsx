import type { JSX } from "preact";
import type { ClusterStatus, DeviceStatus, NetworkStatus } from "../../cluster/status/schema.ts";
import { bytesText, durationText, figure } from "../words.ts";

/** How sums travel, why so, and what the links are like. */
export function Network({ status }: { status: ClusterStatus }): JSX.Element {
  const { network, devices } = status;
  return (
    <section class="network" aria-labelledby="network">
      <h2 id="network">Network</h2>
      {network === null ? (
        <p>This device does it alone.</p>
      ) : (
        <>
          <Collective network={network} />
          {network.latencyMs && <Latencies network={network} devices={devices} />}
        </>
      )}
    </section>
  );
}

function Collective({ network }: { network: NetworkStatus }): JSX.Element {
  const { collective, asked, wire, cipher, predictions, payloadBytes } = network;
  const longest = Math.max(...(predictions ?? []).map(({ ms }) => ms));
  return (
    <>
      <p>
        Sums are added up by <strong>{collective}</strong>
        {asked === "auto" ? ", chosen for these links" : ", as it was asked for"}. They travel as {wire}
        {cipher === "none" ? ", open to everybody on this network" : `, sealed with ${cipher}`}.
      </p>
      {predictions && (
        <>
          <p class="note">Predicted for a token&rsquo;s {bytesText(payloadBytes ?? 0)}, by what was measured:</p>
          <ul class="predictions">
            {predictions.map(({ name, ms }) => (
              <li key={name} class={name === collective ? "chosen" : ""}>
                <span class="name">{name}</span>
                <svg class="bar" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" focusable="false">
                  <rect class="part" width={(ms / longest) * 100} height="6" />
                </svg>
                <span class="value">{durationText(ms)}</span>
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}

/** Beyond this, a table says less than its extremes. */
const mostInTable = 8;

function Latencies({ network, devices }: { network: NetworkStatus; devices: readonly DeviceStatus[] }): JSX.Element {
  const [latency, rates] = [network.latencyMs!, network.megabitsPerSecond!];
  const between = (table: readonly (readonly number[])[]) => table.flatMap((row, i) => row.filter((_, j) => i !== j));
  if (latency.length > mostInTable) {
    return (
      <p>
        One way takes {durationText(Math.min(...between(latency)))} to {durationText(Math.max(...between(latency)))}; a
        pair moves {figure(Math.min(...between(rates)))} to {figure(Math.max(...between(rates)))} Mbit/s.
      </p>
    );
  }
  const names = latency.map((_, rank) => devices[rank]?.name ?? `rank ${rank}`);
  return (
    <div class="scroll">
      <p class="note" id="links">
        Measured between devices: latency one way, and rate
      </p>
      <table class="links" aria-labelledby="links">
        <thead>
          <tr>
            <th scope="col">from</th>
            {names.map((name, i) => (
              <th key={`${i}`} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {latency.map((row, from) => (
            <tr key={`${from}`}>
              <th scope="row">{names[from]}</th>
              {row.map((ms, to) => (
                <td key={`${to}`}>{from === to ? "·" : <Pair ms={ms} megabits={rates[from]![to]!} />}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Pair({ ms, megabits }: { ms: number; megabits: number }): JSX.Element {
  return (
    <>
      {durationText(ms)}
      <span class="unit">{megabits >= 995 ? `${figure(megabits / 1000)} Gbit/s` : `${figure(megabits)} Mbit/s`}</span>
    </>
  );
}

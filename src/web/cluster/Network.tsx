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
          {network.latencyMs && <Links network={network} devices={devices} />}
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

/** More devices than this are numbered, and their rates left out; of even more, a table says less than its extremes. */
const [mostNamed, mostInTable] = [4, 16];

type Table = readonly (readonly number[])[];

function Links({ network, devices }: { network: NetworkStatus; devices: readonly DeviceStatus[] }): JSX.Element {
  const [latency, rates] = [network.latencyMs!, network.megabitsPerSecond!];
  const named = latency.length <= mostNamed;
  return (
    <>
      <p class="note" id="links">
        Measured between devices: one way takes {span(latency, durationText)}, and a pair moves {span(rates, rateText)}.
      </p>
      {latency.length <= mostInTable && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by the keyboard
        <section class="scroll" aria-labelledby="links" tabIndex={0}>
          <LinkTable latency={latency} rates={named ? rates : undefined} names={namesOf(devices, named)} />
        </section>
      )}
    </>
  );
}

function namesOf(devices: readonly DeviceStatus[], named: boolean): string[] {
  return devices.map(({ name, rank }) => (named ? (name ?? `rank ${rank}`) : `${rank}`));
}

/** From the least to the most of a table, but for its diagonal. */
function span(table: Table, text: (value: number) => string): string {
  const values = table.flatMap((row, i) => row.filter((_, j) => i !== j));
  const [least, most] = [text(Math.min(...values)), text(Math.max(...values))];
  return least === most ? least : `${least} to ${most}`;
}

interface LinkTableProps {
  readonly latency: Table;
  readonly rates: Table | undefined;
  readonly names: readonly string[];
}

function LinkTable({ latency, rates, names }: LinkTableProps): JSX.Element {
  return (
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
              <td key={`${to}`}>{from === to ? "·" : <Pair ms={ms} megabits={rates?.[from]?.[to]} />}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Pair({ ms, megabits }: { ms: number; megabits: number | undefined }): JSX.Element {
  return (
    <>
      {durationText(ms)}
      {megabits !== undefined && <span class="unit">{rateText(megabits)}</span>}
    </>
  );
}

function rateText(megabits: number): string {
  return megabits >= 995 ? `${figure(megabits / 1000)} Gbit/s` : `${figure(megabits)} Mbit/s`;
}

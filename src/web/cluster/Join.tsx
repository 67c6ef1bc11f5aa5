import type { JSX } from "preact";
import type { ClusterStatus } from "../../cluster/status/schema.ts";
import { CopyButton } from "../parts/CopyButton.tsx";

/** How a device joins. */
export function Join({ join }: { join: ClusterStatus["join"] }): JSX.Element {
  return (
    <section class="join" aria-labelledby="join">
      <h2 id="join">Add a device</h2>
      {join === null ? <Alone /> : <Line join={join} />}
    </section>
  );
}

function Alone(): JSX.Element {
  return (
    <p>
      This server was started for one device. With <code>stellium serve MODEL --workers 2</code>, two others can join.
    </p>
  );
}

function Line({ join }: { join: NonNullable<ClusterStatus["join"]> }): JSX.Element {
  const { joined, wanted, local, command } = join;
  const count = `${joined} of ${wanted} have joined.`;
  // Only a client with the API key gets the token of processes that are on one machine.
  if (local && command === null) return <p>{count} They are processes of one machine.</p>;
  return (
    <>
      <p>
        {count} {joined < wanted ? "Run this line there:" : "One more waits, and takes the place of one that is lost:"}
      </p>
      {command === null ? <WithoutToken join={join} /> : <Command text={command} />}
      {local && <p class="note">These devices are processes of one machine: the line works there.</p>}
    </>
  );
}

function WithoutToken({ join: { address } }: { join: NonNullable<ClusterStatus["join"]> }): JSX.Element {
  return (
    <>
      <Command text={`stellium join ${address} --token TOKEN`} />
      <p class="note">
        TOKEN is a secret. <code>stellium token</code> prints it on the coordinator, for the user who started it. A
        server with an API key shows the whole line here.
      </p>
    </>
  );
}

function Command({ text }: { text: string }): JSX.Element {
  return (
    <div class="command">
      <code>{text}</code>
      <CopyButton text={text} label="Copy the join line" words />
    </div>
  );
}

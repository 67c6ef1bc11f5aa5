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
  return (
    <>
      <p>
        {joined} of {wanted} have joined.{" "}
        {joined < wanted ? "Run this line there:" : "One more waits, and takes the place of one that is lost:"}
      </p>
      {command === null ? (
        <p class="note">The line holds a secret. It is shown on the coordinator itself, and to who has the API key.</p>
      ) : (
        <div class="command">
          <code>{command}</code>
          <CopyButton text={command} label="Copy the join line" words />
        </div>
      )}
      {local && <p class="note">These devices are processes of one machine: the line works there.</p>}
    </>
  );
}

import type { JSX } from "preact";
import type { ClusterStatus } from "../../cluster/status/schema.ts";
import { watched } from "../net/status.ts";
import { useStore } from "../store.ts";
import { durationText, figure } from "../words.ts";
import { Conjunction } from "./Conjunction.tsx";
import { Devices } from "./Devices.tsx";
import { Events } from "./Events.tsx";
import { Join } from "./Join.tsx";
import { Network } from "./Network.tsx";
import { SpeedChart } from "./SpeedChart.tsx";
import { StepTimeline } from "./StepTimeline.tsx";
import { diagnosis, headline } from "./words.ts";

/** What the devices are and do. */
export function ClusterView(): JSX.Element {
  const { status, connected, history } = useStore(watched);
  if (status === undefined) return <h1 class="display">{connected ? "Connecting" : "The server does not answer."}</h1>;
  return (
    <>
      {!connected && (
        <p class="banner" role="alert">
          The server does not answer. What you see is how it was.
        </p>
      )}
      <Lost status={status} />
      <section class="now" aria-label="Now">
        <div>
          <h1 class="display">{headline(status)}</h1>
          <p class="lead">{diagnosis(status)}</p>
          <Figures status={status} />
        </div>
        <Conjunction status={status} />
      </section>
      <SpeedChart history={history} />
      <Devices status={status} />
      <StepTimeline status={status} />
      <div class="pair">
        <Network status={status} />
        <div class="pair-side">
          <Join join={status.join} />
          <Events events={status.events} />
        </div>
      </div>
    </>
  );
}

/** Says it where a device is gone; a screen reader hears of it. */
function Lost({ status }: { status: ClusterStatus }): JSX.Element {
  const lost = status.devices.filter(({ state }) => state === "lost");
  const last = status.events.findLast(({ kind }) => kind === "lost");
  return (
    <div role="alert">
      {lost.length > 0 && (
        <p class="banner">
          <strong>{last?.text ?? `${lost[0]!.name} was lost`}.</strong> Run the join line below on that device, or on
          another one: it takes the place, and nothing else has to be done.
        </p>
      )}
    </div>
  );
}

function Figures({ status }: { status: ClusterStatus }): JSX.Element {
  const { speed, slots, queued, model } = status;
  const busy = slots.filter(({ state }) => state !== "idle").length;
  return (
    <dl class="figures">
      <Figure name="Written" value={figure(speed.tokensPerSecond)} unit="tokens/s" />
      <Figure name="Read" value={figure(speed.promptTokensPerSecond)} unit="tokens/s" />
      <Figure name="A step" value={speed.stepMs === null ? "–" : durationText(speed.stepMs)} />
      <Figure name="Answers" value={`${busy} of ${slots.length}`} unit={queued > 0 ? `${queued} waiting` : undefined} />
      <Figure name="Model" value={model?.name || "–"} unit={model ? `${model.layers} layers` : undefined} />
    </dl>
  );
}

function Figure({ name, value, unit }: { name: string; value: string; unit?: string | undefined }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {value} {unit !== undefined && <span class="unit">{unit}</span>}
      </dd>
    </div>
  );
}

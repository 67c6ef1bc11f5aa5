import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Dialog } from "../parts/Dialog.tsx";
import { useStore } from "../store.ts";
import type { ChatSettings } from "./conversation.ts";
import { settings } from "./history.ts";

type NumberName = Exclude<keyof ChatSettings, "system">;

interface NumberSetting {
  readonly name: NumberName;
  readonly label: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly note: string;
}

const numbers: readonly NumberSetting[] = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, note: "0 is always the likeliest token" },
  { name: "top_p", label: "Top P", min: 0, max: 1, step: 0.01, note: "of all probability" },
  { name: "top_k", label: "Top K", min: 0, max: 1000, step: 1, note: "likeliest tokens; 0 is all" },
  { name: "min_p", label: "Min P", min: 0, max: 1, step: 0.01, note: "of the likeliest token's" },
  { name: "repeat_penalty", label: "Repeat penalty", min: 0, max: 2, step: 0.01, note: "1 is none" },
  { name: "max_tokens", label: "Longest answer", min: 1, max: 1_000_000, step: 1, note: "tokens" },
  { name: "seed", label: "Seed", min: 0, max: 4_294_967_295, step: 1, note: "the same one, the same answer" },
];

/** What the model is told, and how it chooses tokens. */
export function SettingsDialog({ open, onClose }: { open: boolean; onClose: () => void }): JSX.Element {
  const values = useStore(settings);
  const [resets, setResets] = useState(0);
  const reset = () => {
    settings.set({ system: "" });
    setResets(resets + 1);
  };
  return (
    <Dialog title="Settings" open={open} onClose={onClose}>
      <label class="field">
        System prompt
        <textarea
          rows={4}
          value={values.system}
          placeholder="What the model is told before every conversation"
          onInput={({ currentTarget }) => settings.set({ ...settings.value, system: currentTarget.value })}
        />
      </label>
      <p class="note">What is left empty is as the server was started.</p>
      <div class="fields">
        {numbers.map((setting) => (
          <NumberField key={`${setting.name} ${resets}`} setting={setting} value={values[setting.name]} />
        ))}
      </div>
      <div class="buttons">
        <button type="button" onClick={reset}>
          Reset
        </button>
        <button type="button" class="strong" onClick={onClose}>
          Done
        </button>
      </div>
    </Dialog>
  );
}

function NumberField({ setting, value }: { setting: NumberSetting; value: number | undefined }): JSX.Element {
  const { name, label, min, max, step, note } = setting;
  const onInput = ({ currentTarget }: { currentTarget: HTMLInputElement }) => {
    const given = currentTarget.valueAsNumber;
    const valid = currentTarget.validity.valid && Number.isFinite(given);
    settings.update(({ [name]: _, ...others }) => (valid ? { ...others, [name]: given } : others));
  };
  return (
    <label class="field">
      {label}
      <input
        type="number"
        min={min}
        max={max}
        step={step}
        defaultValue={value === undefined ? "" : `${value}`}
        onInput={onInput}
      />
      <span class="note">{note}</span>
    </label>
  );
}

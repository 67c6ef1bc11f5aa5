import { number, type Option, text, toggle } from "./arguments/option.ts";
import { parseSize } from "./format.ts";

/** How much memory a device may take, and what it does where a model does not fit. */
export const memoryOptions = {
  memory: memoryOption(),
  window: number({
    flag: "window",
    value: "N",
    summary: "blocks that the window holds where weights are streamed (default: what the plan says)",
    min: 1,
    max: 1024,
    whole: true,
  }),
};

/** Whether a model that does not fit memory is first written to disk as this device computes from it. */
export const noSliceOption = toggle({
  flag: "no-slice",
  summary: "stream from the model's own file, without a slice on the disk: computing is slower",
});

function memoryOption(): Option<number | undefined> {
  const option = text({
    flag: "memory",
    value: "SIZE",
    summary: "most memory the process takes, such as 3GB (default: what is free, less a margin)",
  });
  const read = (given: readonly string[]) => {
    const size = option.read(given);
    return size === undefined ? undefined : parseSize(size);
  };
  return { ...option, read };
}

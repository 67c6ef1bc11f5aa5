import { type Entrance, joinCommand, shellWord } from "../cluster/clusterOptions.ts";
import { tellOfThisProcess } from "./processes/registry.ts";

/** Says on stderr how devices join, and then how many have. */
export function tellOfJoining(entrance: Entrance): void {
  const { token, joined, wanted } = entrance;
  tellOfThisProcess({ token: token.origin });
  if (joined === wanted) return void process.stderr.write("all devices have joined\n");
  if (joined > 0) return void process.stderr.write(`${joined} of ${wanted} devices have joined\n`);
  const devices = wanted === 1 ? "device" : "devices";
  process.stderr.write(`waiting for ${wanted} ${devices}; run there:\n\n${joinLine(entrance)}\n`);
}

/** Lists which devices are connected, for `stellium devices`. */
export function tellOfDevices(connected: readonly string[]): void {
  tellOfThisProcess({ connected: [...connected] });
}

/**
 * The line to run on another device. A token that is kept somewhere is not printed: logs have more readers than the file.
 * A new one is, once, and on a terminal this device's own one is at each start.
 */
function joinLine(entrance: Entrance): string {
  const { address, token } = entrance;
  const { origin } = token;
  const hidden = (argument: string, where: string) => `  stellium join ${address} ${argument}\n\n${where}\n`;
  switch (origin.from) {
    case "variable":
      return hidden("--token TOKEN", "TOKEN is what STELLIUM_TOKEN is here");
    case "file":
      return hidden(
        `--token-file ${shellWord(origin.path)}`,
        `the file there has to hold the token of ${origin.path} here`,
      );
    case "kept":
      if (origin.isNew || process.stderr.isTTY) break;
      return hidden("--token TOKEN", `TOKEN is in ${origin.path}; \`stellium token\` prints it`);
  }
  return `  ${joinCommand(entrance)}\n`;
}

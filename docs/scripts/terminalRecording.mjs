// node docs/scripts/terminalRecording.mjs PICTURE.svg COMMAND [ARGUMENT...]: runs a program and draws what it writes, as it
// comes, into an animated SVG: once, at the speed it was seen at, with the last lines on the screen.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";

/** @typedef {{ seconds: number, text: string }} Piece Written at once, without a line's end. */

const [columns, rows] = [112, 24];
const [charWidth, lineHeight, margin] = [7.23, 17, 16];
/** Time to read the command before it runs. */
const pause = 1;

const [target = "", command = "", ...args] = process.argv.slice(2);
if (!command) throw new Error("node docs/scripts/terminalRecording.mjs PICTURE.svg COMMAND [ARGUMENT...]");
writeFileSync(target, picture([[{ seconds: 0, text: `$ ${[command, ...args].join(" ")}` }], ...(await recorded())]));

/** What the program writes, by lines. @returns {Promise<Piece[][]>} */
async function recorded() {
  const started = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
  /** @type {Piece[][]} */
  const lines = [[]];
  const take = (/** @type {string} */ written) => {
    const seconds = pause + (performance.now() - started) / 1000;
    for (const [i, text] of written.split("\n").entries()) {
      if (i > 0) lines.push([]);
      if (text) lines.at(-1)?.push({ seconds, text });
    }
  };
  child.stdout.setEncoding("utf8").on("data", take);
  child.stderr.setEncoding("utf8").on("data", take);
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  if (code !== 0) throw new Error(`${command} ended with ${code}`);
  return lines.at(-1)?.length ? lines : lines.slice(0, -1);
}

/** @param {Piece[][]} lines */
function picture(lines) {
  const tooLong = lines.find((line) => lengthOf(line) > columns);
  if (tooLong) throw new Error(`longer than ${columns} columns: ${tooLong.map(({ text }) => text).join("")}`);
  const [width, height] = [Math.ceil(columns * charWidth) + 2 * margin, rows * lineHeight + 2 * margin];
  const end = Math.max(...lines.flat().map(({ seconds }) => seconds)) + 0.1;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">
<style>
text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #e6e1d6; white-space: pre }
tspan { visibility: hidden; animation: come 0s forwards }
@keyframes come { to { visibility: visible } }
.lines { animation: scroll ${end.toFixed(2)}s step-end forwards }
@keyframes scroll { ${scrolling(lines, end)} }
@media (prefers-reduced-motion) { tspan { visibility: visible; animation: none } .lines { animation-duration: 0s } }
</style>
<rect width="100%" height="100%" rx="8" fill="#1d1b18"/>
<svg x="${margin}" y="${margin}" width="${width - 2 * margin}" height="${rows * lineHeight}">
<g class="lines">
${lines.map(drawn).join("\n")}
</g>
</svg>
</svg>
`;
}

/** Moments at which the screen moves up, once it is full. @param {Piece[][]} lines @param {number} end */
function scrolling(lines, end) {
  const frames = lines.flatMap((line, i) => {
    const [up, first] = [i + 1 - rows, line[0]];
    return up > 0 && first ? [`${((first.seconds / end) * 100).toFixed(2)}% ${moved(up)}`] : [];
  });
  return ["0% { transform: translateY(0) }", ...frames, `100% ${moved(Math.max(0, lines.length - rows))}`].join(" ");
}

/** @param {number} up */
function moved(up) {
  return `{ transform: translateY(${-up * lineHeight}px) }`;
}

/** @param {Piece[]} line @param {number} at */
function drawn(line, at) {
  const pieces = line.map(
    ({ seconds, text }) => `<tspan style="animation-delay:${seconds.toFixed(2)}s">${escaped(text)}</tspan>`,
  );
  return `<text y="${at * lineHeight + 12}">${pieces.join("")}</text>`;
}

/** @param {Piece[]} line */
function lengthOf(line) {
  return line.reduce((sum, { text }) => sum + text.length, 0);
}

/** @param {string} text */
function escaped(text) {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

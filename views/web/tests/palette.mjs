// Holds the colours of the pictures against how people with each kind of colour blindness see them: those that stand for different things in
// one picture must differ for all. Simulated after Machado, Oliveira and Fernandes (2009), at full strength; differences are CIE76.
import { readFileSync } from "node:fs";
import ts from "typescript";

const source = readFileSync(new URL("../src/palette.ts", import.meta.url), "utf8");
const script = ts.transpileModule(source, { compilerOptions: { module: "ESNext", target: "ES2022" } }).outputText;
const palette = await import(`data:text/javascript;base64,${Buffer.from(script).toString("base64")}`);

const VISION = {
  usual: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
const APART = 8;

const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const times = (matrix, vector) => matrix.map((row) => row.reduce((all, it, place) => all + it * vector[place], 0));

/** CIE L*a*b* of a colour as it is seen. */
function lab(colour, vision) {
  const rgb = [1, 3, 5].map((at) => linear(Number.parseInt(colour.slice(at, at + 2), 16) / 255));
  const seen = times(vision, rgb).map((value) => Math.min(Math.max(value, 0), 1));
  const xyz = times([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], seen);
  const [x, y, z] = xyz.map((value, place) => value / [0.9505, 1, 1.089][place]).map((value) => (value > 0.008856 ? Math.cbrt(value) : 7.787 * value + 16 / 116));
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const distance = (a, b) => Math.hypot(...a.map((value, place) => value - b[place]));
const problems = [];
let least = Infinity;

function apart(picture, colours) {
  for (const [kind, vision] of Object.entries(VISION)) {
    const seen = Object.entries(colours).map(([name, colour]) => [name, lab(colour, vision)]);
    seen.forEach(([name, one], place) => seen.slice(0, place).forEach(([other, two]) => {
      const far = distance(one, two);
      least = Math.min(least, far);
      if (far < APART) problems.push(`${picture}, ${kind}: ${name} and ${other} differ by ${far.toFixed(1)}`);
    }));
  }
}

for (const dark of [false, true]) {
  globalThis.document = { documentElement: { dataset: { theme: dark ? "dark" : "light" } } };
  const paper = dark ? "#1d2125" : "#ffffff";
  const on = dark ? "dark" : "light";
  // "In use" is of traces without objects, "allocator" of those with sampled ones: in the place of dense, sparse, retained and metadata.
  const states = Object.keys(palette.PAGE_COLOURS).filter((name) => !["unmapped", "in_use", "allocator"].includes(name));
  apart(`states on ${on}`, { paper, ...Object.fromEntries(states.map((name) => [name, palette.pageColour(name)])) });
  const { ages, notWritten, unknownWriter, sharing, nothingKnown } = palette.writePalette();
  apart(`ages on ${on}`, { paper, notWritten, nothingKnown, ...ages });
  apart(`threads that write on ${on}`, { paper, nothingKnown, ...sharing });
  apart(`writers on ${on}`, { paper, notWritten, unknownWriter, nothingKnown, ...Array.from({ length: 8 }, (_, place) => palette.category(place)) });
  apart(`live share on ${on}`, { paper, ...[0, 0.25, 0.5, 0.75, 1].map(palette.ramp) });
}
const { allocator_rest, ...classes } = palette.CLASS_COLOURS;
apart("classes", classes);
const { slack, pinned, retained, metadata, ...sampled } = palette.CLASS_COLOURS;
apart("classes of sampled objects", sampled);
console.log(JSON.stringify({ least: Number(least.toFixed(1)), problems }, null, 1));
if (problems.length > 0) process.exitCode = 1;

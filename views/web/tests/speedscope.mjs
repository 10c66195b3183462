// Checks a file against the schema that comes with speedscope, and tells the sums of its profiles.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const Ajv = require("ajv");
const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const schema = read(require.resolve("speedscope/package.json").replace("package.json", "dist/release/file-format-schema.json"));
const file = read(process.argv[2]);
const validate = new Ajv({ strict: false }).compile(schema);
if (!validate(file)) throw new Error(JSON.stringify(validate.errors));
const sums = {};
for (const profile of file.profiles) {
  const frames = file.shared.frames.length;
  if (!profile.samples.flat().every((frame) => frame < frames)) throw new Error(`${profile.name}: a frame that is not there`);
  sums[profile.name] = profile.weights.reduce((all, weight) => all + weight, 0);
  if (sums[profile.name] !== profile.endValue) throw new Error(`${profile.name}: the end is not the sum`);
}
console.log(JSON.stringify(sums));

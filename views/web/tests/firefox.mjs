// Reads a file with the Firefox Profiler's own code, as its command-line tool has it: what it makes of threads, functions and counters.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [file, strategy] = process.argv.slice(2);
const tool = createRequire(import.meta.url).resolve("@firefox-devtools/profiler-cli");
const directory = mkdtempSync(join(tmpdir(), "firefox-"));
const env = { ...process.env, HOME: directory, PROFILER_CLI_SESSION_DIR: directory, PROFILER_CLI_NO_SYMBOLICATE: "1" };
// Its tool leaves a server behind and gives it half a second to begin: here it is a child that is waited for and ended.
const server = spawn(process.execPath, [tool, "--daemon", file, "--session", "s"], { env, stdio: "ignore" });
const ask = (...words) => JSON.parse(execFileSync(process.execPath, [tool, ...words, "--session", "s", "--json"], { env, stdio: ["ignore", "pipe", "pipe"], maxBuffer: 1 << 26 }));
try {
  // One that is asked for before it listens is cleared away by the tool that asks.
  const until = Date.now() + 60_000;
  while (!["s.json", "s.sock"].every((name) => existsSync(join(directory, name)))) {
    if (Date.now() > until || server.exitCode !== null) throw new Error(`no server: ${server.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  let profile = null;
  while (profile === null) {
    try {
      profile = ask("profile", "info", "--all");
    } catch (error) {
      if (Date.now() > until || server.exitCode !== null) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  const functions = (name) => ask("thread", "functions", "--thread", "t-0", ...(name ? ["--strategy", name] : [])).functions;
  const counters = ask("counter", "list").counters;
  console.log(JSON.stringify({ profile, functions: functions(strategy), counters }));
} finally {
  server.kill();
  rmSync(directory, { recursive: true, force: true });
}

// How long the page of `pagetrace view` takes: from the start of the command to a picture, and for tiles while zooming and dragging.
import { spawn } from "node:child_process";
import { chromium } from "playwright-core";

const [pagetrace, trace] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
const began = performance.now();
const server = spawn(pagetrace, ["view", "--no-open", trace], { stdio: ["ignore", "pipe", "inherit"] });
try {
  const address = await new Promise((resolve) => server.stdout.once("data", (line) => resolve(String(line).trim())));
  let preview = null;
  await page.goto(address);
  page.waitForSelector("#preview").then(() => (preview = performance.now() - began), () => {});
  await page.waitForSelector("html[data-ready]", { timeout: 120_000 });
  await page.waitForFunction(() => document.querySelector("[data-tile-ms]"));
  const whole = performance.now() - began;
  const tile = () => page.locator("[data-tile-ms]").getAttribute("data-tile-ms").then(Number);
  const tiles = [await tile()];
  const colours = page.locator("section", { has: page.locator("#page-map-title") }).locator("select");
  const colourings = await colours.locator("option:not([disabled])").evaluateAll((all) => all.map((it) => it.value));
  // The last of them stays chosen while it is moved: those of writes have most to do.
  for (const colouring of colourings) {
    await colours.selectOption(colouring);
    await page.waitForTimeout(300);
    tiles.push(await tile());
  }
  const map = await page.locator("#page-map").boundingBox();
  for (let step = 0; step < 12; step += 1) {
    await page.mouse.move(map.x + 100, map.y + map.height * 0.4);
    await page.mouse.wheel(0, -300);
    await page.waitForTimeout(50);
    tiles.push(await tile());
  }
  await page.locator("#page-map").focus();
  await page.keyboard.press("0");
  for (let step = 0; step < 4; step += 1) await page.keyboard.press("+");
  // Frames of a second of moving, each with another tile.
  const frames = await page.evaluate(() => new Promise((resolve) => {
    const canvas = document.getElementById("page-map");
    const end = performance.now() + 1000;
    let frames = 0;
    const step = () => {
      frames += 1;
      canvas.dispatchEvent(new KeyboardEvent("keydown", { key: frames % 40 < 20 ? "ArrowDown" : "ArrowUp", bubbles: true }));
      if (performance.now() < end) requestAnimationFrame(step);
      else resolve(frames);
    };
    requestAnimationFrame(step);
  }));
  console.log(JSON.stringify({ preview_ms: preview && Math.round(preview), whole_page_ms: Math.round(whole), slowest_tile_ms: Math.max(...tiles), frames_a_second: frames, colourings: colourings.length }));
} finally {
  server.kill();
  await browser.close();
}

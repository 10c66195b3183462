// Drives the page in a browser as a user does, and checks what it shows against `report --json`.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

// As root there is no sandbox, and what a browser asks of its makers in the background is no part of the test.
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"];
const settings = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { report } = settings;
const process0 = report.processes[0];
const browser = await chromium.launch({ executablePath: settings.chromium, args: FLAGS });

/** Opens a page; whatever it complains of, or asks of the network, fails the test. */
async function open(url, viewport = { width: 1280, height: 800 }, colorScheme = "light") {
  const context = await browser.newContext({ viewport, colorScheme, deviceScaleFactor: 1 });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(url);
  await page.waitForSelector("html[data-ready]", { timeout: 30_000 });
  await page.waitForFunction(() => document.querySelector("[data-tile-ms]"));
  return { page, asked, async close() {
    assert.deepEqual(complaints, []);
    await context.close();
  } };
}

/** The numbers of the table that is shown: rows of texts and raw numbers. */
const table = (page) => page.$$eval("#numbers tbody tr", (rows) => rows.map((row) => [...row.cells].map((cell) => (cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value)))));
const chosenTime = (page) => page.locator("#chosen").getAttribute("data-time-ns").then(Number);

async function numbersAreThoseOfTheReport(page) {
  const classes = Object.fromEntries((await table(page)).map(([name, bytes]) => [name, bytes]));
  for (const [name, bytes] of Object.entries(process0.rss.classes)) {
    if (bytes !== 0) assert.equal(classes[name.replaceAll("_", " ")], bytes, name);
  }
  assert.equal(classes["RSS by the kernel"], process0.rss.kernel_bytes);
  await page.click("#tab-sites");
  const expected = process0.sites.map((it) => [it.live_bytes, it.live_objects, it.pinned_bytes, it.allocated_objects, it.allocated_bytes, it.stack.join(" ← ")]);
  assert.deepEqual(await table(page), expected);
  await page.click("#tab-touches");
  const touches = process0.touches.sites.map((it) => it.resident_bytes);
  assert.deepEqual((await table(page)).map(([bytes]) => bytes), touches);
  await page.click("#tab-pages");
  const states = Object.fromEntries((await table(page)).map(([name, pages]) => [name, pages]));
  assert.equal(states["sparse: at most a quarter live"], process0.rss.sparse_pages);
  await page.click("#tab-classes");
}

/** What is said of writes, in tables and by the colours of the map, at the moment of the report. */
async function writesAreThoseOfTheReport(page) {
  const { writes } = process0;
  await page.click("#tab-writes");
  const facts = Object.fromEntries(await table(page));
  assert.equal(facts["written, a page once an epoch"], writes.written_pages * writes.page_bytes);
  assert.equal(facts["of these without a known writer: the kernel's, mostly"], writes.without_writer_pages * writes.page_bytes);
  assert.equal(facts["in memory and tracked, at the moment of the report"], writes.resident.bytes);
  assert.equal(facts["of these not written since they are tracked"], writes.resident.never_written_bytes);
  await page.click("#tab-write_sites");
  assert.deepEqual((await table(page)).map(([pages, , stack]) => [pages, stack]), writes.sites.map((it) => [it.pages, it.stack.join(" ← ")]));
  await page.click("#tab-written_pages");
  const listed = new Map([...writes.hot_pages, ...writes.contended_pages].map((it) => [it.address, [it.address, it.epochs_written, it.hand_overs, it.threads.join(", ")]]));
  assert.deepEqual((await table(page)).map((row) => row.slice(0, 4)), [...listed.values()]);
  await page.click("#tab-writes_now");
  const now = await table(page);
  const sum = (by, wanted = () => true) => now.filter(([what, name]) => what === by && wanted(name)).reduce((all, row) => all + row[2], 0);
  for (const by of ["age of the last write", "first writer of the last epoch", "threads that write"]) assert.equal(sum(by), writes.resident.bytes, by);
  assert.equal(sum("age of the last write", (name) => name.startsWith("not written")), writes.resident.never_written_bytes);
  const cold = writes.resident.cold.find((it) => it.for_ns === 1e9).bytes;
  assert.equal(sum("age of the last write", (name) => name !== "within 100 ms" && name !== "within 1 s"), cold);
  const shared = writes.contended_page_count * writes.page_bytes;
  assert.equal(sum("threads that write", (name) => Number(name) > 1), shared);
  const colours = page.locator("section", { has: page.locator("#page-map-title") }).locator("select");
  const legend = page.locator("#page-map-legend");
  for (const [name, words] of [["age", "not written since it is tracked: 240.0 KiB"], ["writer", "the kernel, or not known: 400.0 KiB"], ["sharing", `two threads: ${shared / 1024}.0 KiB`]]) {
    await colours.selectOption(name);
    assert.ok((await legend.textContent()).includes(words), `${name}: ${await legend.textContent()}`);
    await looksAs(page, "#page-map", `page-map-${name}`);
  }
  await colours.selectOption("state");
  await page.click("#tab-classes");
}

/** The first of the pages that two threads write, which the file knows in detail too. */
async function aWrittenPageIsToldOf(page) {
  await page.click("#tab-written_pages");
  await page.getByRole("button", { name: `Show 0x${(settings.sharedPage * 4096).toString(16)} in the page map` }).click();
  await page.waitForSelector("#page-epochs");
  assert.equal(Number(await page.locator("#page-detail").getAttribute("data-page")), settings.sharedPage);
  const text = await page.locator("#page-detail").textContent();
  assert.match(text, /Written in 11 of 11 epochs since .*, by threads 4242, 4243, 10 hand-overs between them/);
  assert.match(text, /It cannot be returned: 1 live object with 104 B here keeps all 4\.0 KiB in memory/);
  const epochs = await page.$$eval("#page-epochs tbody tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  assert.deepEqual(epochs.map(([epoch, , , what, who]) => [epoch, what, who]), Array.from({ length: 11 }, (_, place) => [String(11 - place), "written", place % 2 === 0 ? "thread 4242" : "thread 4243"]));
  assert.match(epochs[1][6], /keep_one \(story\.c:7\) ← main/);
  // By keys alone: to the page before and back, nearer and farther.
  await page.locator("#page-map").focus();
  const number = () => page.locator("#page-detail").getAttribute("data-page").then(Number);
  await page.keyboard.press("Shift+ArrowDown");
  assert.equal(await number(), settings.sharedPage + 1);
  await page.keyboard.press("Shift+ArrowUp");
  assert.equal(await number(), settings.sharedPage);
  const tile = () => page.locator("#page-map").screenshot().then((picture) => picture.toString("base64"));
  const before = await tile();
  await page.keyboard.press("+");
  assert.notEqual(await tile(), before, "it zooms");
  await page.keyboard.press("-");
  await page.keyboard.press("ArrowDown");
  assert.notEqual(await tile(), before, "it moves");
  await page.keyboard.press("0");
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("#page-epochs").count(), 0);
  await page.click("#tab-classes");
}

/** A click on a heading sorts, another one the other way; what is copied has every number as it is. */
async function tablesAreSortedAndCopied(page) {
  await page.click("#tab-sites");
  const unsorted = await table(page);
  const column = async (heading) => {
    await page.getByRole("button", { name: heading }).click();
    return (await table(page)).map((row) => row[4]);
  };
  const down = await column(/^Allocated bytes/);
  const up = await column(/^Allocated bytes/);
  assert.deepEqual(down, unsorted.map((row) => row[4]).sort((a, b) => b - a));
  assert.deepEqual(up, [...down].reverse());
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.click("#copy");
  await page.waitForFunction(() => document.getElementById("copy").textContent === "Copied");
  const copied = (await page.evaluate(() => navigator.clipboard.readText())).split("\n").slice(1).map((line) => line.split("\t"));
  assert.deepEqual(copied.map((row) => [...row.slice(0, 5).map(Number), row[5]]), await table(page));
  await page.click("#tab-classes");
}

/** Deque's rules of accessibility, in both themes. */
async function isAccessible(page) {
  await page.evaluate(readFileSync(createRequire(import.meta.url).resolve("axe-core"), "utf8"));
  for (let theme = 0; theme < 2; theme += 1) {
    const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(violations.map((it) => `${it.id}: ${it.help}: ${it.nodes[0].html}`), []);
    assert.ok(passes.length > 20);
    await page.click("#theme");
  }
}

async function withoutWrites() {
  const { page, close } = await open(`file://${settings.pageWithoutWrites}`);
  const lacking = await page.$$eval("section option", (all) => all.filter((it) => it.disabled).map((it) => it.textContent));
  assert.deepEqual(lacking.length, 3);
  assert.ok(lacking.every((text) => text.includes("--writes")), `${lacking}`);
  await page.click("#tab-writes");
  assert.match(await page.locator("section", { has: page.locator("#tables-title") }).textContent(), /not in this trace: record with --writes/);
  await aPageIsPicked(page);
  assert.match(await page.locator("#page-writes").textContent(), /writes were not recorded.*--writes/);
  await close();
  console.log("a trace without writes says so");
}

/** Of sampled objects figures are estimates, the allocator's pages are of one class, and what is not known is not a number. */
async function ofSamples() {
  const { page, close } = await open(`file://${settings.pageOfSamples}`);
  const { rss, sites, objects } = settings.reportOfSamples.processes[0];
  assert.match(await page.locator("#summary").textContent(), /Objects were sampled, one in 1000 B: figures of them are estimates, live .* ± /);
  const classes = Object.fromEntries((await table(page)).map(([name, bytes]) => [name, bytes]));
  assert.deepEqual([classes["live objects"], classes["allocator rest"]], [rss.classes.live_objects, rss.classes.allocator_rest]);
  assert.match(await page.locator(".legend").first().textContent(), /allocator rest/);
  await page.click("#tab-sites");
  assert.deepEqual((await table(page)).map((row) => row.slice(0, 3)), sites.map((it) => [it.live_bytes, it.live_objects, "not known"]));
  assert.equal(sites.reduce((all, it) => all + it.live_bytes, 0), objects.live_bytes);
  const options = await page.$$eval("section option:not([disabled])", (all) => all.map((it) => it.value));
  assert.ok(!options.includes("occupancy") && !options.includes("pinned"), `${options}`);
  await page.click("#tab-pages");
  const [, pages] = (await table(page)).find(([name]) => name === "the allocator's: objects are sampled");
  assert.equal(pages, 1000);
  await close();
  console.log("figures of sampled objects are said to be estimates");
}

async function momentsFollow(page) {
  const shown = await chosenTime(page);
  assert.equal(shown, process0.rss.time_ns);
  await page.keyboard.press("ArrowLeft");
  const before = await chosenTime(page);
  const point = report.timeline.find((it) => it.time_ns === before);
  assert.ok(before < shown && point, `${before} is a moment before ${shown}`);
  const classes = Object.fromEntries((await table(page)).map(([name, bytes]) => [name, bytes]));
  assert.equal(classes["RSS by the kernel"], point.rss_bytes);
  assert.equal(classes["live objects"], point.classes.live_objects);
  // A click in the middle of the chart picks a moment there.
  await page.locator("#rss-chart").scrollIntoViewIfNeeded();
  const box = await page.locator("#rss-chart .u-over").boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  const clicked = await chosenTime(page);
  assert.ok(clicked > report.timeline[2].time_ns && clicked < before, `${clicked}`);
  // Dragging picks a range, and the flame graph shows what was allocated in it.
  await page.mouse.move(box.x + box.width * 0.2, box.y + 50);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width * 0.6, box.y + 60, { steps: 5 });
  await page.mouse.up();
  assert.match(await page.locator("#chosen").textContent(), /Range: .* to /);
  const allocated = Number(await page.locator("#flame-status").getAttribute("data-total"));
  assert.ok(allocated > 0 && allocated < process0.sites.reduce((all, it) => all + it.allocated_bytes, 0));
  assert.equal(allocated % 100, 0);
  await page.keyboard.press("Escape");
  while ((await chosenTime(page)) < shown) await page.keyboard.press("ArrowRight");
}

async function flameGraphSearches(page) {
  await page.locator("section", { has: page.locator("#flame-title") }).locator("select").selectOption("live");
  const live = process0.sites.reduce((all, it) => all + it.live_bytes, 0);
  assert.equal(Number(await page.locator("#flame-status").getAttribute("data-total")), live);
  await page.keyboard.press("/");
  await page.keyboard.type("keep_one");
  await page.waitForFunction(() => document.getElementById("flame-status").dataset.found !== undefined);
  const kept = process0.sites.filter((it) => it.stack.some((name) => name.includes("keep_one")));
  assert.equal(Number(await page.locator("#flame-status").getAttribute("data-found")), kept.reduce((all, it) => all + it.live_bytes, 0));
  await page.keyboard.press("Escape");
  await page.locator("#invert").check();
  assert.equal(Number(await page.locator("#flame-status").getAttribute("data-total")), live);
  await page.locator("#invert").uncheck();
  await page.click("#tab-flame");
  assert.equal((await table(page)).reduce((all, [bytes]) => all + bytes, 0), live);
  await page.click("#tab-classes");
}

async function namesAreText(page) {
  await page.click("#tab-sites");
  assert.ok((await table(page)).some((row) => row[5].includes(settings.markup)), "the name is shown as it is");
  assert.equal(await page.locator("img").count(), 0);
  assert.doesNotMatch(await page.title(), /taken/);
  await page.click("#tab-classes");
}

/** Zooms at the pages of the heap until a row is a page, and clicks one. */
async function aPageIsPicked(page) {
  const map = page.locator("#page-map");
  await map.scrollIntoViewIfNeeded();
  const size = await map.boundingBox();
  const tiles = [];
  for (let step = 0; step < 14; step += 1) {
    await page.mouse.move(size.x + 200, size.y + size.height * 0.2);
    await page.mouse.wheel(0, -300);
    await page.waitForTimeout(40);
    tiles.push(Number(await page.locator("[data-tile-ms]").getAttribute("data-tile-ms")));
  }
  const columns = 12;
  const width = size.width > 500 ? size.width - 190 : size.width;
  // The moment of the report is the last but one.
  await page.mouse.click(size.x + (width * (columns - 1.5)) / columns, size.y + size.height * 0.5);
  const detail = page.locator("#page-detail");
  await page.waitForFunction(() => document.getElementById("page-detail").dataset.page !== undefined);
  const number = Number(await detail.getAttribute("data-page"));
  assert.ok(number >= settings.heapPage && number < settings.heapPage + 1200, `page ${number}`);
  assert.match(await detail.textContent(), /\[heap\]/);
  return { number, tiles };
}

/** Compares an element with its golden picture: few pixels may be clearly another colour. */
async function looksAs(page, selector, name) {
  const seen = await page.locator(selector).screenshot({ animations: "disabled" });
  const golden = join(settings.golden, `${name}.png`);
  if (settings.bless) return writeFileSync(golden, seen);
  writeFileSync(join(settings.seen, `${name}.png`), seen);
  assert.ok(existsSync(golden), `${golden} is there`);
  const context = await browser.newContext();
  const blank = await context.newPage();
  const [share, same] = await blank.evaluate(async (pictures) => {
    const pixels = await Promise.all(pictures.map(async (digits) => {
      const picture = await createImageBitmap(await (await fetch(`data:image/png;base64,${digits}`)).blob());
      const canvas = new OffscreenCanvas(picture.width, picture.height);
      const drawn = canvas.getContext("2d");
      drawn.drawImage(picture, 0, 0);
      return drawn.getImageData(0, 0, picture.width, picture.height);
    }));
    const [a, b] = pixels;
    if (a.width !== b.width || Math.abs(a.height - b.height) > 2) return [1, false];
    let other = 0;
    const length = Math.min(a.data.length, b.data.length);
    for (let at = 0; at < length; at += 4) {
      if ([0, 1, 2].some((channel) => Math.abs(a.data[at + channel] - b.data[at + channel]) > 48)) other += 1;
    }
    return [other / (length / 4), true];
  }, [seen.toString("base64"), readFileSync(golden).toString("base64")]);
  await context.close();
  assert.ok(same && share < 0.03, `${name}: ${(share * 100).toFixed(2)} % of the pixels differ; what was seen is in ${settings.seen}`);
}

async function theFile() {
  const { page, asked, close } = await open(`file://${settings.page}`);
  await looksAs(page, "#page-map", "page-map");
  await looksAs(page, "#rss-chart", "rss-chart");
  await looksAs(page, "#flame-graph", "flame-graph");
  const colours = page.locator("section", { has: page.locator("#page-map-title") }).locator("select");
  for (const name of ["occupancy", "touch", "state"]) {
    await colours.selectOption(name);
    if (name !== "state") await looksAs(page, "#page-map", `page-map-${name}`);
  }
  await numbersAreThoseOfTheReport(page);
  await namesAreText(page);
  await writesAreThoseOfTheReport(page);
  await aWrittenPageIsToldOf(page);
  await momentsFollow(page);
  await flameGraphSearches(page);
  const { tiles } = await aPageIsPicked(page);
  await page.keyboard.press("?");
  assert.ok(await page.locator("dialog").isVisible());
  await page.keyboard.press("Escape");
  await page.locator("#page-map").focus();
  await page.keyboard.press("0");
  // Everything has a name for those who do not see it.
  for (const id of ["page-map", "flame-graph", "rss-chart"]) assert.ok((await page.locator(`#${id}`).getAttribute("aria-label")).length > 20, id);
  const nameless = await page.$$eval("button, select, input", (all) => all.filter((it) => !(it.textContent.trim() || it.getAttribute("aria-label") || it.closest("label")?.textContent.trim())).length);
  assert.equal(nameless, 0);
  await isAccessible(page);
  // Data of its own apart, the file has asked for nothing.
  assert.deepEqual(asked.filter((url) => !url.startsWith("data:") && !url.startsWith("blob:")), [`file://${settings.page}`]);
  await close();
  console.log(`the file works; tiles took ${Math.max(...tiles)} ms at most`);
}

async function onAPhoneInTheDark() {
  const { page, close } = await open(`file://${settings.page}`, { width: 390, height: 844 }, "dark");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `${wide} pixels are wider than a phone`);
  await looksAs(page, "#page-map", "page-map-phone-dark");
  const map = () => page.locator("#page-map").screenshot().then((picture) => picture.toString("base64"));
  const all = await map();
  await page.getByRole("button", { name: "Nearer" }).click();
  assert.notEqual(await map(), all, "it zooms without wheel and keys");
  await page.getByRole("button", { name: "All addresses" }).click();
  assert.equal(await map(), all);
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await paper();
  await page.click("#theme");
  assert.notEqual(await paper(), dark);
  await close();
  console.log("it fits a phone, in light and dark");
}

async function theServer() {
  const server = spawn(settings.pagetrace, ["view", "--no-open", settings.trace], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const address = await new Promise((resolve, reject) => {
      server.stdout.once("data", (line) => resolve(String(line).trim()));
      server.once("exit", (code) => reject(new Error(`view ended with ${code}`)));
    });
    const { page, asked, close } = await open(address);
    await numbersAreThoseOfTheReport(page);
    await tablesAreSortedAndCopied(page);
    await aPageIsPicked(page);
    await page.waitForFunction(() => document.getElementById("page-detail").dataset.objects !== undefined);
    assert.match(await page.locator("#page-writes").textContent(), /^Written in \d+ of 11 epochs|^Not written in the 11 epochs/);
    const objects = Number(await page.locator("#page-detail").getAttribute("data-objects"));
    assert.equal(await page.locator("#page-objects tbody tr").count(), objects);
    assert.ok(asked.every((url) => url.startsWith(address) || url.startsWith("data:")), `${asked}`);
    await close();
  } finally {
    server.kill();
  }
  console.log("the server works");
}

async function goTraces() {
  const { page, close } = await open(`file://${settings.goPage}`);
  const sums = await page.$$eval("#lane-numbers tbody tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.dataset.value ?? cell.textContent)));
  assert.ok(sums.some(([name]) => name === "P0"), `${sums}`);
  for (const [place, kind] of ["alloc", "free", "scavenge"].entries()) {
    assert.equal(sums.reduce((all, row) => all + Number(row[place + 1]), 0), settings.goReport.events[kind], kind);
  }
  const moments = Number((await page.locator("#chosen").textContent()).match(/of (\d+)/)[1]);
  assert.ok(moments > 50, `${moments} moments`);
  while (!(await page.locator("#chosen").textContent()).startsWith(`Moment ${moments} `)) await page.keyboard.press("ArrowRight");
  const states = Object.fromEntries((await table(page)).map(([name, bytes]) => [name, bytes]));
  assert.equal(states["pages in use"], settings.goReport.final.pages_in_use * settings.goReport.page_size);
  assert.equal(states["pages returned"], settings.goReport.final.pages_returned * settings.goReport.page_size);
  await close();
  console.log("page traces of Go have lanes and pages");
}

async function goHeaps() {
  const { page, close } = await open(`file://${settings.goHeapPage}`);
  const heap = settings.goHeapReport.go_heap;
  await page.click("#tab-size_classes");
  assert.deepEqual((await table(page)).map((row) => [row[0], row[3], row[4], row[6]]), heap.size_classes.map((it) => [it.class, it.spans, it.span_bytes, it.live_bytes]));
  await page.click("#tab-spans");
  assert.equal((await table(page)).length, Math.min(heap.spans.length, 500));
  await page.click("#tab-sites");
  const sites = settings.goHeapReport.processes[0].sites;
  assert.deepEqual((await table(page)).map((row) => row[0]), sites.slice(0, 500).map((it) => it.live_bytes));
  const lanes = await page.$$eval("#lane-numbers tbody tr", (rows) => rows.map((row) => [...row.cells].map((cell) => cell.dataset.value ?? cell.textContent)));
  const alloc = heap.lanes.lanes.reduce((all, lane) => all + lane.total.alloc, 0);
  assert.equal(lanes.reduce((all, row) => all + Number(row[1]), 0), alloc);
  await close();
  console.log("execution traces of Go have size classes, spans and lanes");
}

try {
  await theFile();
  await withoutWrites();
  await ofSamples();
  await onAPhoneInTheDark();
  await theServer();
  await goTraces();
  await goHeaps();
} finally {
  await browser.close();
}

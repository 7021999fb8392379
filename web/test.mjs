// Tests of the page's arithmetic, run by node: npm test.  What the page does in a browser is tested in Python.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";

const made = await build({
  stdin: { contents: 'export * from "./src/data.ts"; export * from "./src/view.ts";', resolveDir: "." },
  bundle: true, write: false, format: "esm",
});
const { after, clock, FACTOR, Level, PIECE, reaching, span, visible, Window } = await import(
  "data:text/javascript;base64," + Buffer.from(made.outputFiles[0].text).toString("base64"));

test("after() is the first place whose time is later", () => {
  const at = Float64Array.from([0, 10, 10, 20]);
  assert.deepEqual([-1, 0, 10, 15, 20].map((t) => after(at, 0, 4, t)), [0, 1, 3, 3, 4]);
});

/** Lanes of random slices on all levels, as mips.py makes them; and the starts of the finest. */
function lanes(counts, seed = 1) {
  const random = () => (seed = seed * 48271 % 2147483647) / 2147483647;
  const starts = counts.map((n) => { let t = 0; return [...Array(n)].map(() => (t += Math.ceil(random() * 20))); });
  const levels = [];
  for (let rows = starts; ; rows = rows.map((row) => row.length < 2 ? row :
    [...row.slice(0, -1).filter((_, k) => k % FACTOR === 0), row[row.length - 1]])) {
    const bounds = [0];
    for (const row of rows) bounds.push(bounds[bounds.length - 1] + row.length);
    const one = new Level(bounds[rows.length], false, Uint32Array.from(bounds));
    one.at.set(rows.flat());
    levels.push(one);
    if (Math.max(...rows.map((row) => row.length)) <= 64) return [levels, starts];
  }
}

test("visible() finds what a search through all slices finds, at every zoom", () => {
  const [levels, starts] = lanes([5000, 1, 0, 70, 2, 640]);
  assert.equal(levels.length, 4);
  let finest = 0;
  for (let lane = 0; lane < starts.length; lane++) {
    const end = starts[lane][starts[lane].length - 1] ?? 0;
    for (let k = 0; k < 400; k++) {
      const from = k * 37 % (end + 20) - 5, to = from + (k % 7 ? k * 3 % 900 : 1e6);
      const [level, first, last] = visible(levels, lane, from, to, 200);
      const [low, high] = [level.bounds[lane], level.bounds[lane + 1]];
      assert.equal(first, Math.max(after(level.at, low, high, from) - 1, low));
      assert.equal(last, after(level.at, first, high, to));
      assert.ok(last - first <= 200);
      if (level !== levels[0]) continue;
      finest++;
      const shown = starts[lane].filter((at, n) => at <= to && (n + 1 === starts[lane].length ? n > 0 || at <= to : true));
      if (starts[lane].length) assert.equal(last - low, shown.length);
    }
  }
  assert.ok(finest > 1000);
});

test("a level that is not here is asked for, once, and taken when it has come", async () => {
  const [levels, starts] = lanes([PIECE + 1000]);
  const asked = [], answers = [];
  const far = new Level(PIECE + 1000, false, levels[0].bounds, (piece) => {
    asked.push(piece);
    return new Promise((resolve) => answers.push(resolve));
  });
  const paged = [far, ...levels.slice(1)], end = starts[0][PIECE + 999];
  const look = () => visible(paged, 0, end - 300, end - 100, 200);
  assert.equal(look()[0], levels[1]);
  look();
  assert.deepEqual(asked, [1]);
  const n = 1000, data = new ArrayBuffer(7 * n), low = new Uint32Array(data, 0, n);
  for (let k = 0; k < n; k++) { low[k] = starts[0][PIECE + k]; new Uint8Array(data)[6 * n + k] = k % 5; }
  answers[0](data);
  await new Promise((resolve) => setTimeout(resolve));
  const [level, first, last] = look();
  assert.equal(level, far);
  assert.deepEqual([...far.at.subarray(first, last)], [...levels[0].at.subarray(first, last)]);
  assert.equal(far.code[PIECE + 7], 2);
});

test("interrupts that may reach into the window are found", () => {
  const irqs = [0, 10, 20, 30].map((at) => ({ at, dur: 8, name: "", soft: false }));
  assert.equal(reaching(irqs, 17, 8), 1);
  assert.equal(reaching(irqs, 100, 8), 4);
});

test("a window stays inside its recording, and zooms around what it is told", () => {
  const win = new Window(1000);
  win.zoom(0.1, 500);
  assert.deepEqual([win.from, win.to], [450, 550]);
  win.pan(100);
  assert.equal(win.to, 1000);
  win.zoom(1e6, 10);
  assert.deepEqual([win.from, win.to], [0, 1000]);
  assert.equal(win.x(win.t(321, 800), 800), 321);
});

test("times are written so that they can be read", () => {
  assert.deepEqual([span(999), span(1500), span(2.5e6), span(3e9)], ["999 ns", "1.500 us", "2.500 ms", "3.000 s"]);
  assert.equal(clock(1234567890, 3), "1.235");
});

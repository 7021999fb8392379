// Tests of the page's arithmetic, run by node: npm test.  What the page does in a browser is tested in Python.
import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";

const made = await build({
  stdin: { contents: 'export * from "./src/data.ts"; export * from "./src/view.ts";', resolveDir: "." },
  bundle: true, write: false, format: "esm",
});
const { after, clock, span, visible, Window } = await import(
  "data:text/javascript;base64," + Buffer.from(made.outputFiles[0].text).toString("base64"));

test("after() is the first place whose time is later", () => {
  const at = Float64Array.from([0, 10, 10, 20]);
  assert.deepEqual([-1, 0, 10, 15, 20].map((t) => after(at, 0, 4, t)), [0, 1, 3, 3, 4]);
});

test("visible() takes the finest level that is short enough, and covers the window", () => {
  const fine = { at: Float64Array.from([...Array(65).keys()].map((k) => k * 10)), code: new Uint8Array(65), bounds: Uint32Array.of(0, 65) };
  const coarse = { at: Float64Array.from([0, 80, 160, 240, 320, 400, 480, 560, 640]), code: new Uint8Array(9), bounds: Uint32Array.of(0, 9) };
  assert.equal(visible([fine, coarse], 0, 0, 640, 100)[0], fine);
  assert.equal(visible([fine, coarse], 0, 0, 640, 20)[0], coarse);
  const [level, first, last] = visible([fine, coarse], 0, 95, 125, 20);
  assert.equal(level, fine);
  assert.ok(level.at[first] <= 95 && level.at[last - 1] <= 125 && level.at[last] > 125);
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

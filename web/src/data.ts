// The data of a recording, as pack.py has packed it: columns come compressed, times as 32 low and 16 high bits.

export interface PackedLevel { n: number; lo: string; hi: string; code: string; bounds: string }
export interface Packed {
  title: string; start: number; length: number; cpus: number[]; kernel: string; events: number;
  lab: null | { question: string; look?: string; answer?: string; checks: [string, boolean, string][] };
  tasks: unknown[][]; lost: [number, number, number | null, number | null][];
  taskLevels: PackedLevel[]; cpuLevels: PackedLevel[];
  irqs: { n: number; cpu: string; lo: string; hi: string; dur: string; name: string; soft: string; names: string[] };
  arrows: { n: number; lo: string; hi: string; kind: string; by: string; to: string; texts: string[]; left: number };
  stories: Record<string, Entry[]>; notes: string[];
}
/** time, cpu, word, lines of [text, the event it rests on] */
export type Entry = [number | null, number | null, string, [string, string | null][]];

export interface Task {
  pid: number; label: string; kind: string; name: string; depth: number; parent: number; from: number; to: number;
  born: boolean; ended: boolean; end: string; killed: boolean; names: string[]; children: boolean;
}
export interface Level { at: Float64Array; code: Uint8Array | Uint32Array; bounds: Uint32Array }
export interface Irq { at: number; dur: number; name: string; soft: boolean }
export const FORK = 0, WAKE = 1, SIGNAL = 2, REAP = 3;
export const NOBODY = 0xffffffff;

export interface Recording {
  title: string; kernel: string; events: number; start: number; length: number; cpus: number[]; tasks: Task[];
  lab: Packed["lab"]; lost: Packed["lost"]; taskLevels: Level[]; cpuLevels: Level[]; irqs: Map<number, Irq[]>;
  arrows: { at: Float64Array; kind: Uint8Array; by: Uint32Array; to: Uint32Array; texts: string[]; left: number };
  stories: Record<string, Entry[]>; notes: string[];
  /** of each task the arrows that begin or end there */
  touching: number[][];
}

async function inflate(text: string): Promise<ArrayBuffer> {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

async function times(lo: string, hi: string): Promise<Float64Array> {
  const low = new Uint32Array(await inflate(lo)), high = new Uint16Array(await inflate(hi));
  const at = new Float64Array(low.length);
  for (let k = 0; k < at.length; k++) at[k] = high[k] * 4294967296 + low[k];
  return at;
}

async function level(packed: PackedLevel, wide: boolean): Promise<Level> {
  const code = await inflate(packed.code);
  return {
    at: await times(packed.lo, packed.hi), code: wide ? new Uint32Array(code) : new Uint8Array(code),
    bounds: new Uint32Array(await inflate(packed.bounds)),
  };
}

export function task(row: unknown[]): Task {
  const [pid, label, kind, name, depth, parent, from, length, born, ended, end, killed, names] = row as
    [number, string, string, string, number, number, number, number, boolean, boolean, string, boolean, string[]];
  return { pid, label, kind, name, depth, parent, from, to: from + length, born, ended, end, killed, names,
    children: false };
}

export async function unpack(packed: Packed): Promise<Recording> {
  const tasks = packed.tasks.map(task);
  for (let k = 1; k < tasks.length; k++) if (tasks[k].depth > tasks[k - 1].depth) tasks[k - 1].children = true;
  const irqs = new Map<number, Irq[]>();
  const cpu = new Uint16Array(await inflate(packed.irqs.cpu)), at = await times(packed.irqs.lo, packed.irqs.hi);
  const dur = new Uint32Array(await inflate(packed.irqs.dur)), name = new Uint16Array(await inflate(packed.irqs.name));
  const soft = new Uint8Array(await inflate(packed.irqs.soft));
  for (let k = 0; k < packed.irqs.n; k++) {
    if (!irqs.has(cpu[k])) irqs.set(cpu[k], []);
    irqs.get(cpu[k])!.push({ at: at[k], dur: dur[k], name: packed.irqs.names[name[k]], soft: soft[k] === 1 });
  }
  const arrows = {
    at: await times(packed.arrows.lo, packed.arrows.hi), kind: new Uint8Array(await inflate(packed.arrows.kind)),
    by: new Uint32Array(await inflate(packed.arrows.by)), to: new Uint32Array(await inflate(packed.arrows.to)),
    texts: packed.arrows.texts, left: packed.arrows.left,
  };
  const touching: number[][] = tasks.map(() => []);
  for (let k = 0; k < arrows.at.length; k++) {
    touching[arrows.by[k]]?.push(k);
    if (arrows.to[k] !== arrows.by[k]) touching[arrows.to[k]]?.push(k);
  }
  for (const mine of touching) mine.sort((a, b) => arrows.at[a] - arrows.at[b]);
  return {
    title: packed.title, kernel: packed.kernel, events: packed.events, start: packed.start, length: packed.length,
    cpus: packed.cpus, tasks, lab: packed.lab, lost: packed.lost, irqs, arrows, touching, notes: packed.notes,
    taskLevels: await Promise.all(packed.taskLevels.map((one) => level(one, false))),
    cpuLevels: await Promise.all(packed.cpuLevels.map((one) => level(one, true))), stories: packed.stories,
  };
}

/** The first place in at[low..high) whose time is after t. */
export function after(at: Float64Array, low: number, high: number, t: number): number {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at[middle] <= t) low = middle + 1; else high = middle;
  }
  return low;
}

/** The finest level of a lane with no more than `most` slices between two times, and which they are. */
export function visible(levels: Level[], lane: number, from: number, to: number, most: number): [Level, number, number] {
  let found: [Level, number, number] = [levels[0], 0, 0];
  for (const one of levels) {
    const low = one.bounds[lane], high = one.bounds[lane + 1];
    const first = Math.max(after(one.at, low, high, from) - 1, low), last = after(one.at, first, high, to);
    found = [one, first, last];
    if (last - first <= most) break;
  }
  return found;
}

/** Write a time so that two which differ on the screen differ in writing. */
export function clock(ns: number, digits = 6): string {
  return (ns / 1e9).toFixed(digits);
}

export function span(ns: number): string {
  const size = Math.abs(ns);
  if (size >= 1e9) return `${(ns / 1e9).toFixed(3)} s`;
  if (size >= 1e6) return `${(ns / 1e6).toFixed(3)} ms`;
  if (size >= 1e3) return `${(ns / 1e3).toFixed(3)} us`;
  return `${Math.round(ns)} ns`;
}

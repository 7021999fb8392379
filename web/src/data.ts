// The data of a recording, as pack.py has packed it: columns come compressed, times as 32 low and 16 high bits.
// A page that is served has the outline only, and asks for the rest in pieces (server.py).

export interface PackedLevel { n: number; lo?: string; hi?: string; code?: string; bounds: string }
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
/** slices of a piece of a level, and slices of the level below that one stands for */
export const PIECE = 65536, FACTOR = 8;

/** Slices of many lanes on one level: all of them, or those that were asked for. */
export class Level {
  readonly at: Float64Array;
  readonly code: Uint8Array | Uint32Array;
  /** of each piece: 0 not here, 1 asked for, 2 here; null if all are */
  private readonly have: Uint8Array | null;

  constructor(n: number, private readonly wide: boolean, readonly bounds: Uint32Array,
    private readonly ask: ((piece: number) => Promise<ArrayBuffer>) | null = null) {
    this.at = new Float64Array(n);
    this.code = wide ? new Uint32Array(n) : new Uint8Array(n);
    this.have = ask && new Uint8Array(Math.ceil(n / PIECE));
  }

  /** Whether the slices low..high are here; those that are not are asked for. */
  ready(low: number, high: number): boolean {
    if (!this.have || !this.ask) return true;
    let all = true;
    for (let piece = Math.floor(low / PIECE); piece * PIECE < high; piece++) {
      if (this.have[piece] !== 2) all = false;
      if (this.have[piece] !== 0) continue;
      this.have[piece] = 1;
      this.ask(piece).then((data) => this.fill(piece, data), () => { /* whoever asks says it */ });
    }
    return all;
  }

  fill(piece: number, data: ArrayBuffer): void {
    const first = piece * PIECE, n = Math.min(PIECE, this.at.length - first);
    const low = new Uint32Array(data, 0, n), high = new Uint16Array(data, 4 * n, n);
    for (let k = 0; k < n; k++) this.at[first + k] = high[k] * 4294967296 + low[k];
    this.code.set(this.wide ? new Uint32Array(data.slice(6 * n)) : new Uint8Array(data, 6 * n, n), first);
    if (this.have) this.have[piece] = 2;
  }
}

/** What a page that is served asks its server for. */
export interface Server {
  get(path: string): Promise<Response>;
  /** something has come that can be drawn */
  arrived(): void;
}

export interface Irq { at: number; dur: number; name: string; soft: boolean }
export const FORK = 0, WAKE = 1, SIGNAL = 2, REAP = 3;
export const NOBODY = 0xffffffff;

export interface Recording {
  title: string; kernel: string; events: number; start: number; length: number; cpus: number[]; tasks: Task[];
  lab: Packed["lab"]; lost: Packed["lost"]; taskLevels: Level[]; cpuLevels: Level[]; irqs: Map<number, Irq[]>;
  /** how long the longest interrupt took */
  longest: number;
  arrows: { at: Float64Array; kind: Uint8Array; by: Uint32Array; to: Uint32Array; texts: string[]; left: number };
  stories: Record<string, Entry[]>; notes: string[];
  /** of each task the arrows that begin or end there */
  touching: number[][];
  /** Fetch the story of a task, where it is not here. */
  tell: ((task: number) => Promise<void>) | null;
  /** Ask which tasks' stories have an event, and whether all were looked at. */
  having: ((event: string) => Promise<[number[], boolean]>) | null;
  /** Fetch wakeups by and of a task; says whether these are all between the two times. */
  wakes: ((task: number, from: number, to: number) => Promise<boolean>) | null;
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

async function level(packed: PackedLevel, wide: boolean, ask: (piece: number) => Promise<ArrayBuffer>): Promise<Level> {
  const bounds = new Uint32Array(await inflate(packed.bounds));
  if (packed.lo === undefined || packed.hi === undefined || packed.code === undefined)
    return new Level(packed.n, wide, bounds, ask);
  const made = new Level(packed.n, wide, bounds), code = await inflate(packed.code);
  made.at.set(await times(packed.lo, packed.hi));
  made.code.set(wide ? new Uint32Array(code) : new Uint8Array(code));
  return made;
}

export function task(row: unknown[]): Task {
  const [pid, label, kind, name, depth, parent, from, length, born, ended, end, killed, names] = row as
    [number, string, string, string, number, number, number, number, boolean, boolean, string, boolean, string[]];
  return { pid, label, kind, name, depth, parent, from, to: from + length, born, ended, end, killed, names,
    children: false };
}

/** Put wakeups behind the arrows that there are otherwise, instead of those that were there. */
function woken(recording: Recording, few: number, task: number, rows: [number, number, number][]): void {
  const { arrows, touching } = recording, n = few + rows.length;
  for (const mine of touching) while (mine.length && mine[mine.length - 1] >= few) mine.pop();
  const at = new Float64Array(n), kind = new Uint8Array(n).fill(WAKE), by = new Uint32Array(n), to = new Uint32Array(n);
  at.set(arrows.at.subarray(0, few)); kind.set(arrows.kind.subarray(0, few));
  by.set(arrows.by.subarray(0, few)); to.set(arrows.to.subarray(0, few));
  rows.forEach(([when, waker, who], k) => {
    at[few + k] = when; by[few + k] = waker; to[few + k] = who;
    touching[task].push(few + k);
  });
  recording.arrows = { at, kind, by, to, texts: arrows.texts, left: 0 };
}

/** What the server has of a recording. */
function remote(recording: Recording, number: number, server: Server): void {
  const few = recording.arrows.at.length;
  let latest = 0;
  recording.tell = async (task) => {
    recording.stories[task] = await (await server.get(`/story/${number}/${task}`)).json();
  };
  recording.having = async (event) => (await server.get(`/find/${number}/${encodeURIComponent(event)}`)).json();
  recording.wakes = async (task, from, to) => {
    const mine = ++latest;
    const found = await (await server.get(`/wakes/${number}/${task}/${Math.floor(from)}/${Math.ceil(to)}`)).json();
    if (mine === latest) { woken(recording, few, task, found); server.arrived(); }
    return found.length < 3000;
  };
}

export async function unpack(packed: Packed, number = 0, server: Server | null = null): Promise<Recording> {
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
  const ask = (kind: string, depth: number) => async (piece: number): Promise<ArrayBuffer> => {
    const data = await (await server!.get(`/level/${number}/${kind}/${depth}/${piece}`)).arrayBuffer();
    // Drawn when it has been filled in, which comes next.
    setTimeout(() => server!.arrived());
    return data;
  };
  const found: Recording = {
    title: packed.title, kernel: packed.kernel, events: packed.events, start: packed.start, length: packed.length,
    cpus: packed.cpus, tasks, lab: packed.lab, lost: packed.lost, irqs, longest: dur.reduce((a, b) => Math.max(a, b), 0), arrows, touching, notes: packed.notes,
    taskLevels: await Promise.all(packed.taskLevels.map((one, k) => level(one, false, ask("task", k)))),
    cpuLevels: await Promise.all(packed.cpuLevels.map((one, k) => level(one, true, ask("cpu", k)))),
    stories: packed.stories, tell: null, having: null, wakes: null,
  };
  if (server) remote(found, number, server);
  return found;
}

/** The first place in at[low..high) whose time is after t. */
export function after(at: Float64Array, low: number, high: number, t: number): number {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at[middle] <= t) low = middle + 1; else high = middle;
  }
  return low;
}

/**
 * The finest level of a lane with no more than `most` slices between two times, and which they are.
 *
 * It goes down from the coarsest: where a slice stands there says where those that it stands for are below.  A level
 * that is not here yet is asked for, and the one above it is given meanwhile.
 */
export function visible(levels: Level[], lane: number, from: number, to: number, most: number): [Level, number, number] {
  const range = (one: Level, low: number, high: number): [number, number] => {
    const first = Math.max(after(one.at, low, high, from) - 1, low);
    return [first, after(one.at, first, high, to)];
  };
  let n = levels.length - 1, one = levels[n];
  let [first, last] = range(one, one.bounds[lane], one.bounds[lane + 1]);
  for (; n > 0; n--) {
    const finer = levels[n - 1], base = finer.bounds[lane], end = finer.bounds[lane + 1];
    // Slices between the first and the last stand for eight each.
    if ((last - first - 2) * FACTOR > most) break;
    // A lane's last slice, its end, stands for itself.
    const low = Math.max(Math.min(base + FACTOR * (first - one.bounds[lane]), end - 1), base);
    const high = last >= one.bounds[lane + 1] ? end : Math.min(base + FACTOR * (last - one.bounds[lane]), end);
    if (!finer.ready(low, Math.min(high + 1, end))) break;
    const [begin, stop] = range(finer, low, high);
    if (stop - begin > most) break;
    [one, first, last] = [finer, begin, stop];
  }
  return [one, first, last];
}

/** The first of some interrupts, in order of time, that may reach into what comes after t. */
export function reaching(irqs: Irq[], t: number, longest: number): number {
  let low = 0, high = irqs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (irqs[middle].at < t - longest) low = middle + 1; else high = middle;
  }
  return low;
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

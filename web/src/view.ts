// What is on the screen of a recording: a window of time, and which rows.

import type { Recording, Task } from "./data.ts";

export const ROW = 18;
/** states by number: letter, name, colour, pattern */
export const STATES: [string, string, string, string][] = [
  ["R", "running", "--run", ""], ["r", "waiting for a CPU", "--wait", "dots"], ["S", "sleeping", "--sleep", ""],
  ["D", "blocked (D)", "--block", "cross"], ["T", "stopped", "--stop", "lines"], ["t", "traced", "--trace", "lines"],
  ["P", "parked", "--park", ""], ["I", "idle", "--idle", ""], ["Z", "zombie", "--zombie", "hatch"],
  ["?", "unknown", "--unknown", ""], ["", "gone", "", ""],
];
export const RUNNING = 0, DEAD = 10;

/** Where times are on the screen; both ends are inside the recording. */
export class Window {
  from = 0;
  to: number;
  readonly length: number;

  constructor(length: number) {
    this.length = length;
    this.to = length;
  }

  get span(): number { return this.to - this.from; }
  x(t: number, width: number): number { return (t - this.from) / this.span * width; }
  t(x: number, width: number): number { return this.from + x / width * this.span; }

  show(from: number, to: number): void {
    const span = Math.min(Math.max(to - from, 10), this.length);
    this.from = Math.min(Math.max(from, 0), this.length - span);
    this.to = this.from + span;
  }

  zoom(by: number, around: number): void {
    const span = Math.min(Math.max(this.span * by, 10), this.length);
    const part = (around - this.from) / this.span;
    this.show(around - part * span, around - part * span + span);
  }

  pan(by: number): void { this.show(this.from + by * this.span, this.to + by * this.span); }

  /** Bring a moment into the middle, at this zoom, or closer. */
  goto(t: number, span = this.span): void { this.show(t - span / 2, t + span / 2); }
}

/** A row: a CPU's, its interrupts', or a task's. */
export interface Row { kind: "cpu" | "irq" | "task"; index: number; y: number }

export class Rows {
  folded = new Set<number>();
  rows: Row[] = [];
  top = 0;
  private of = new Map<number, number>();

  constructor(private readonly recording: Recording) { this.lay(); }

  lay(): void {
    this.rows = [];
    this.of.clear();
    let y = 4;
    const add = (kind: Row["kind"], index: number): void => { this.rows.push({ kind, index, y }); y += ROW; };
    this.recording.cpus.forEach((cpu, k) => {
      add("cpu", k);
      if (this.recording.irqs.has(cpu)) add("irq", k);
    });
    y += 6;
    let hidden = Infinity;
    this.recording.tasks.forEach((task: Task, k) => {
      if (task.depth > hidden) return;
      hidden = this.folded.has(k) ? task.depth : Infinity;
      if (task.kind === "idle") return;
      this.of.set(k, this.rows.length);
      add("task", k);
    });
  }

  get height(): number { return this.rows.length ? this.rows[this.rows.length - 1].y + ROW + 8 : 0; }
  fold(task: number): void {
    if (!this.folded.delete(task)) this.folded.add(task);
    this.lay();
  }
  rowOf(task: number): Row | undefined {
    const at = this.of.get(task);
    return at === undefined ? undefined : this.rows[at];
  }
  /** Unfold whatever hides a task. */
  reveal(task: number): void {
    for (let k = task, depth = this.recording.tasks[task].depth; k >= 0 && depth >= 0; k--)
      if (this.recording.tasks[k].depth < depth || k === task) {
        if (k !== task) this.folded.delete(k);
        depth = Math.min(depth, this.recording.tasks[k].depth);
      }
    this.lay();
  }
  at(y: number): Row | undefined {
    const found = this.rows.find((row) => y + this.top >= row.y && y + this.top < row.y + ROW);
    return found;
  }
  scroll(to: number, height: number): void { this.top = Math.min(Math.max(to, 0), Math.max(this.height - height, 0)); }
}

/** A colour for a task on a CPU's lane: the same wherever it is. */
export function hue(task: Task): string {
  let h = 7;
  for (const c of task.name) h = (h * 31 + c.charCodeAt(0)) % 360;
  return `hsl(${(h * 47 + task.pid * 13) % 360} 55% 55%)`;
}

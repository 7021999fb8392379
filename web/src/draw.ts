// Drawing a recording's lanes on a canvas: slices at any zoom, arrows, lost events, the ruler, the overview.

import { FORK, NOBODY, REAP, reaching, SIGNAL, visible, WAKE, type Recording } from "./data.ts";
import { DEAD, hue, ROW, Rows, RUNNING, STATES, Window } from "./view.ts";

/** slices that are drawn in a frame: what a machine without a graphics card draws in some ms */
const BUDGET = 24000;

export class Paint {
  private patterns = new Map<string, CanvasPattern | string>();
  private colours = new Map<string, string>();
  private hues: string[] = [];
  /** slices that a lane may have on the screen */
  private most = 0;

  constructor(private readonly recording: Recording) { this.hues = recording.tasks.map(hue); }

  /** Forget colours: the theme has changed. */
  forget(): void { this.patterns.clear(); this.colours.clear(); }

  colour(name: string): string {
    let found = this.colours.get(name);
    if (found === undefined) {
      found = getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";
      this.colours.set(name, found);
    }
    return found;
  }

  state(g: CanvasRenderingContext2D, code: number): CanvasPattern | string {
    const [, , colour, pattern] = STATES[code];
    const key = `${code}`;
    let found = this.patterns.get(key);
    if (found === undefined) {
      found = pattern ? this.pattern(g, this.colour(colour), pattern) : this.colour(colour);
      this.patterns.set(key, found);
    }
    return found;
  }

  private pattern(g: CanvasRenderingContext2D, colour: string, kind: string): CanvasPattern | string {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 6;
    const t = tile.getContext("2d")!;
    t.fillStyle = colour;
    t.fillRect(0, 0, 6, 6);
    t.strokeStyle = t.fillStyle = this.colour("--bg");
    t.globalAlpha = 0.55;
    t.beginPath();
    if (kind === "hatch" || kind === "cross") { t.moveTo(-1, 7); t.lineTo(7, -1); }
    if (kind === "cross") { t.moveTo(-1, -1); t.lineTo(7, 7); }
    if (kind === "lines") { t.moveTo(0, 3); t.lineTo(6, 3); }
    t.stroke();
    if (kind === "dots") t.fillRect(2, 2, 2, 2);
    return g.createPattern(tile, "repeat") ?? colour;
  }

  lanes(g: CanvasRenderingContext2D, width: number, height: number, win: Window, rows: Rows, chosen: number,
    marked: [number, number] | null): void {
    g.clearRect(0, 0, width, height);
    this.lost(g, width, height, win);
    g.font = "700 10px ui-monospace, monospace";
    g.textBaseline = "middle";
    this.most = Math.min(width, BUDGET * ROW / height);
    for (const row of rows.rows) {
      const y = row.y - rows.top;
      if (y + ROW < 0) continue;
      if (y > height) break;
      if (row.kind === "task" && row.index === chosen) {
        g.fillStyle = this.colour("--pick");
        g.fillRect(0, y, width, ROW);
      }
      if (row.kind === "cpu") this.cpu(g, row.index, y, width, win);
      else if (row.kind === "irq") this.irq(g, this.recording.cpus[row.index], y, width, win);
      else this.task(g, row.index, y, width, win);
    }
    if (marked) {
      const a = win.x(marked[0], width), b = win.x(marked[1], width);
      g.fillStyle = this.colour("--fork");
      g.globalAlpha = 0.14;
      g.fillRect(Math.min(a, b), 0, Math.abs(b - a), height);
      g.globalAlpha = 1;
    }
  }

  private task(g: CanvasRenderingContext2D, lane: number, y: number, width: number, win: Window): void {
    const [level, first, last] = visible(this.recording.taskLevels, lane, win.from, win.to, this.most);
    let painted = -1;
    for (let k = first; k < last; k++) {
      const code = level.code[k];
      if (code === DEAD || k + 1 >= level.bounds[lane + 1]) continue;
      const x = Math.max(win.x(level.at[k], width), -2), end = Math.min(win.x(level.at[k + 1], width), width + 2);
      // What is thinner than a pixel is drawn where nothing is yet; running always is.
      if (end < painted + 0.6 && code !== RUNNING) continue;
      const w = Math.max(end - x, 0.7), thin = code === 2 || code === 7 || code === 9;
      g.fillStyle = this.state(g, code);
      g.fillRect(x, thin ? y + 6 : y + 2, w, thin ? ROW - 12 : ROW - 4);
      painted = Math.max(painted, x + w);
      if (w > 14) {
        g.fillStyle = thin ? this.colour("--dim") : this.colour("--bg");
        g.fillText(STATES[code][0], x + 3, y + ROW / 2 + 0.5);
      }
    }
    const task = this.recording.tasks[lane];
    const mark = (t: number, text: string, colour: string): void => {
      const x = win.x(t, width);
      if (x < -8 || x > width + 8) return;
      g.fillStyle = this.colour(colour);
      g.fillText(text, x - 3, y + ROW / 2);
    };
    if (task.born) mark(task.from, "◆", "--fork");
    if (task.ended) mark(task.to, task.killed ? "✖" : "■", task.killed ? "--block" : "--dim");
  }

  private cpu(g: CanvasRenderingContext2D, lane: number, y: number, width: number, win: Window): void {
    const [level, first, last] = visible(this.recording.cpuLevels, lane, win.from, win.to, this.most);
    g.fillStyle = this.colour("--idle");
    g.fillRect(0, y + ROW / 2 - 1, width, 2);
    for (let k = first; k < last; k++) {
      const who = level.code[k];
      if (who === NOBODY || k + 1 >= level.bounds[lane + 1]) continue;
      const task = this.recording.tasks[who];
      if (task.kind === "idle") continue;
      const x = Math.max(win.x(level.at[k], width), -2), end = Math.min(win.x(level.at[k + 1], width), width + 2);
      const w = Math.max(end - x, 0.7);
      g.fillStyle = this.hues[who];
      g.fillRect(x, y + 1, w, ROW - 2);
      if (w > 40) {
        g.save();
        g.beginPath();
        g.rect(x, y, w, ROW);
        g.clip();
        g.fillStyle = "#111";
        g.fillText(task.name, x + 4, y + ROW / 2 + 0.5);
        g.restore();
      }
    }
  }

  private irq(g: CanvasRenderingContext2D, cpu: number, y: number, width: number, win: Window): void {
    let painted = -1;
    const irqs = this.recording.irqs.get(cpu) ?? [], first = reaching(irqs, win.from, this.recording.longest);
    // Of very many every few are enough: they are thinner than a pixel.
    const step = Math.max(Math.floor((reaching(irqs, win.to, 0) - first) / 20000), 1);
    for (let k = first; k < irqs.length && irqs[k].at <= win.to; k += step) {
      const one = irqs[k];
      if (one.at + one.dur < win.from) continue;
      const x = win.x(one.at, width), w = Math.max(win.x(one.at + one.dur, width) - x, 0.7);
      if (x + w < painted + 0.5) continue;
      painted = x + w;
      g.fillStyle = this.colour(one.soft ? "--soft" : "--irq");
      g.fillRect(x, one.soft ? y + 9 : y + 3, w, 6);
    }
  }

  private lost(g: CanvasRenderingContext2D, width: number, height: number, win: Window): void {
    g.fillStyle = this.colour("--lost");
    g.globalAlpha = 0.45;
    for (const [from, to] of this.recording.lost) {
      const x = win.x(from, width), w = Math.max(win.x(to, width) - x, 2);
      if (x + w > 0 && x < width) g.fillRect(x, 0, w, height);
    }
    g.globalAlpha = 1;
  }

  /** Draw arrows between rows; return where each is, for who hovers. */
  arrows(g: CanvasRenderingContext2D, width: number, height: number, win: Window, rows: Rows, which: Iterable<number>):
    { x: number; y1: number; y2: number; k: number }[] {
    const { at, kind, by, to } = this.recording.arrows;
    const colours = { [FORK]: "--fork", [WAKE]: "--wake", [SIGNAL]: "--signal", [REAP]: "--reap" };
    const drawn: { x: number; y1: number; y2: number; k: number }[] = [];
    g.lineWidth = 1.2;
    for (const k of which) {
      if (at[k] < win.from || at[k] > win.to) continue;
      const a = rows.rowOf(by[k]), b = rows.rowOf(to[k]);
      if (!a || !b || drawn.length > 3000) continue;
      const x = win.x(at[k], width), y1 = a.y - rows.top + ROW / 2, y2 = b.y - rows.top + ROW / 2;
      if (Math.max(y1, y2) < 0 || Math.min(y1, y2) > height) continue;
      g.strokeStyle = g.fillStyle = this.colour(colours[kind[k] as 0 | 1 | 2 | 3]);
      g.setLineDash(kind[k] === WAKE ? [3, 2] : []);
      g.beginPath();
      g.moveTo(x, y1);
      g.lineTo(x, y2);
      g.stroke();
      const head = y2 > y1 ? -5 : 5;
      g.beginPath();
      g.moveTo(x, y2);
      g.lineTo(x - 3.5, y2 + head);
      g.lineTo(x + 3.5, y2 + head);
      g.fill();
      if (kind[k] === SIGNAL) g.fillText("⚡", x + 3, (y1 + y2) / 2);
      drawn.push({ x, y1, y2, k });
    }
    g.setLineDash([]);
    return drawn;
  }

  ruler(g: CanvasRenderingContext2D, width: number, height: number, win: Window): void {
    g.clearRect(0, 0, width, height);
    g.fillStyle = g.strokeStyle = this.colour("--dim");
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "top";
    const rough = win.span / Math.max(width / 110, 1), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough) ?? power * 10;
    const digits = Math.min(Math.max(9 - Math.floor(Math.log10(step)), 0), 9);
    for (let t = Math.ceil(win.from / step) * step; t <= win.to; t += step) {
      const x = win.x(t, width);
      g.fillRect(x, height - 6, 1, 6);
      g.fillText(`+${(t / 1e9).toFixed(digits)} s`, x + 3, 3);
    }
  }

  /** The overview: how busy the CPUs are over the whole recording, deaths, and the window. */
  overview(g: CanvasRenderingContext2D, width: number, height: number, win: Window): void {
    g.clearRect(0, 0, width, height);
    const all = new Window(win.length), busy = new Float32Array(Math.ceil(width) + 1);
    this.recording.cpus.forEach((_, lane) => {
      const [level, first, last] = visible(this.recording.cpuLevels, lane, 0, all.length, width);
      for (let k = first; k < last - 1; k++) {
        const who = level.code[k];
        if (who === NOBODY || this.recording.tasks[who].kind === "idle") continue;
        const x = all.x(level.at[k], width), end = all.x(level.at[k + 1], width);
        for (let p = Math.floor(x); p <= Math.min(end, width); p++) busy[p] += Math.min(end, p + 1) - Math.max(x, p);
      }
    });
    g.fillStyle = this.colour("--run");
    const most = Math.max(this.recording.cpus.length, 1);
    for (let p = 0; p < width; p++) {
      const h = Math.min(busy[p] / most, 1) * (height - 8);
      g.fillRect(p, height - h - 1, 1, h);
    }
    for (const task of this.recording.tasks) {
      if (!task.ended || !task.killed) continue;
      g.fillStyle = this.colour("--block");
      g.fillRect(all.x(task.to, width) - 1, 0, 2, 7);
    }
    this.lost(g, width, height, all);
    g.fillStyle = this.colour("--fork");
    g.globalAlpha = 0.18;
    const x = all.x(win.from, width), w = Math.max(all.x(win.to, width) - x, 3);
    g.fillRect(x, 0, w, height);
    g.globalAlpha = 1;
    g.strokeStyle = this.colour("--fork");
    g.strokeRect(x + 0.5, 0.5, w - 1, height - 1);
  }
}

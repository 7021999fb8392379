// One recording on the page: names, lanes, ruler, overview, and what the pointer does.

import { clock, NOBODY, span, visible, type Recording } from "./data.ts";
import { Paint } from "./draw.ts";
import { ROW, Rows, STATES, Window } from "./view.ts";

export type Arrows = "chosen" | "forks" | "none";

function el(tag: string, cls: string, parent: Element): HTMLElement {
  const made = document.createElement(tag);
  made.className = cls;
  parent.append(made);
  return made;
}

export class Panel {
  readonly win: Window;
  readonly rows: Rows;
  readonly paint: Paint;
  chosen = -1;
  marked: [number, number] | null = null;
  arrows: Arrows = "chosen";
  /** frame times in ms, the last hundred */
  readonly frames: number[] = [];
  private readonly names: HTMLElement;
  private readonly canvas: Record<"mini" | "ruler" | "lanes", HTMLCanvasElement>;
  private drawn: { x: number; y1: number; y2: number; k: number }[] = [];
  private waiting = false;
  /** of which task and which times wakeups were asked for, and whether all came */
  private fetched = { task: -1, from: 0, to: 0, all: true };
  private timer = 0;
  private readonly forks: number[];

  constructor(readonly recording: Recording, parent: Element, private readonly tip: HTMLElement,
    private readonly changed: (panel: Panel) => void, private readonly picked: (panel: Panel, task: number) => void) {
    this.win = new Window(recording.length);
    this.rows = new Rows(recording);
    this.paint = new Paint(recording);
    this.forks = [...recording.arrows.kind.keys()].filter((k) => recording.arrows.kind[k] === 0);
    const root = el("section", "panel", parent);
    root.setAttribute("aria-label", recording.title);
    el("div", "corner", root).textContent = `${recording.tasks.length} tasks, ${recording.cpus.length} cpus`;
    const canvas = (cls: string): HTMLCanvasElement => {
      const made = document.createElement("canvas");
      el("div", cls, root).append(made);
      return made;
    };
    const mini = canvas("mini"), ruler = canvas("ruler");
    this.names = el("div", "names", root);
    this.names.setAttribute("role", "tree");
    this.names.setAttribute("aria-label", "Tasks");
    this.names.tabIndex = 0;
    this.canvas = { mini, ruler, lanes: canvas("lanes") };
    this.canvas.lanes.setAttribute("role", "img");
    this.canvas.lanes.setAttribute("aria-label", "States of the tasks over time; the story of the chosen task tells them");
    new ResizeObserver(() => this.draw()).observe(root);
    this.listen();
  }

  /** Draw with the next frame. */
  draw(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.now(); });
  }

  /** Draw at once; return how many ms it took. */
  now(): number {
    const began = performance.now();
    const [g, width, height] = this.context("lanes");
    this.rows.scroll(this.rows.top, height);
    this.paint.lanes(g, width, height, this.win, this.rows, this.chosen, this.marked);
    const which = this.arrows === "none" ? [] : this.arrows === "forks" ? this.forks :
      this.chosen >= 0 ? this.recording.touching[this.chosen] : [];
    this.drawn = this.paint.arrows(g, width, height, this.win, this.rows, which);
    this.paint.ruler(...this.context("ruler"), this.win);
    this.paint.overview(...this.context("mini"), this.win);
    this.list(height);
    const took = performance.now() - began;
    this.frames.push(took);
    if (this.frames.length > 100) this.frames.shift();
    return took;
  }

  private context(which: "mini" | "ruler" | "lanes"): [CanvasRenderingContext2D, number, number] {
    const canvas = this.canvas[which], box = canvas.parentElement!.getBoundingClientRect();
    const scale = window.devicePixelRatio || 1;
    const width = Math.max(box.width, 1), height = Math.max(box.height, 1);
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const g = canvas.getContext("2d")!;
    g.setTransform(scale, 0, 0, scale, 0, 0);
    return [g, width, height];
  }

  /** Put the names of the rows that can be seen into the list. */
  private list(height: number): void {
    const shown = this.rows.rows.filter((row) => row.y - this.rows.top > -ROW && row.y - this.rows.top < height);
    while (this.names.childElementCount > shown.length) this.names.lastElementChild!.remove();
    while (this.names.childElementCount < shown.length) el("div", "row", this.names);
    shown.forEach((row, k) => {
      const node = this.names.children[k] as HTMLElement;
      node.style.top = `${row.y - this.rows.top}px`;
      const key = `${row.kind}${row.index}${this.rows.folded.has(row.index)}`;
      if (row.kind === "task") node.setAttribute("aria-selected", String(row.index === this.chosen));
      if (node.dataset.key === key) return;
      node.dataset.key = key;
      node.textContent = "";
      node.className = row.kind === "task" ? "row" : "row cpu";
      node.style.paddingLeft = "6px";
      if (row.kind !== "task") {
        node.removeAttribute("role");
        node.removeAttribute("aria-selected");
        node.textContent = row.kind === "cpu" ? `CPU ${this.recording.cpus[row.index]}` : "  interrupts";
        return;
      }
      const task = this.recording.tasks[row.index];
      node.style.paddingLeft = `${4 + Math.min(task.depth, 12) * 10}px`;
      node.setAttribute("role", "treeitem");
      node.setAttribute("aria-level", String(task.depth + 1));
      if (task.children) node.setAttribute("aria-expanded", String(!this.rows.folded.has(row.index)));
      else node.removeAttribute("aria-expanded");
      node.setAttribute("aria-label", `${task.name} ${task.label}, ${task.kind || "task"}${task.end ? `, ${task.end}` : ""}`);
      const fold = el("span", "fold", node);
      fold.textContent = task.children ? (this.rows.folded.has(row.index) ? "▸" : "▾") : "";
      const name = task.kind === "kthread" ? `[${task.name}]` : task.kind === "thread" ? `{${task.name}}` : task.name;
      node.append(name);
      el("span", "pid", node).textContent = task.label;
      node.title = `${name} ${task.label}${task.end ? `\n${task.end}` : ""}`;
    });
  }

  choose(task: number, reveal = true): void {
    this.chosen = task;
    if (task >= 0 && reveal) {
      if (!this.rows.rowOf(task)) this.rows.reveal(task);
      const row = this.rows.rowOf(task), height = this.canvas.lanes.parentElement!.clientHeight;
      if (row && (row.y < this.rows.top + ROW || row.y > this.rows.top + height - 2 * ROW))
        this.rows.scroll(row.y - height / 2, height);
    }
    this.draw();
    this.fetch();
    this.picked(this, task);
  }

  /** Choose the next task in the list, or the one before. */
  step(by: number): void {
    const tasks = this.rows.rows.filter((row) => row.kind === "task");
    const at = tasks.findIndex((row) => row.index === this.chosen);
    const next = tasks[Math.min(Math.max(at + by, 0), tasks.length - 1)];
    if (next) this.choose(next.index);
  }

  fold(task: number): void {
    if (task >= 0 && this.recording.tasks[task].children) this.rows.fold(task);
    this.draw();
  }

  /** What is at a place of the lanes, in words. */
  about(x: number, y: number): string {
    const width = this.canvas.lanes.parentElement!.clientWidth, t = this.win.t(x, width);
    const near = this.drawn.find((one) => Math.abs(one.x - x) < 4 && y > Math.min(one.y1, one.y2) && y < Math.max(one.y1, one.y2));
    const { arrows, tasks } = this.recording;
    if (near) {
      const kind = ["fork", "wakeup", "signal", "reaped by"][arrows.kind[near.k]];
      const text = arrows.texts[near.k];
      const [from, to] = [tasks[arrows.by[near.k]], tasks[arrows.to[near.k]]];
      return `${kind}: ${from.name} ${from.label} → ${to.name} ${to.label}\n+${clock(arrows.at[near.k], 9)} s${text ? `\n${text}` : ""}`;
    }
    const lost = this.recording.lost.find(([from, to]) => t >= from && t <= to);
    const also = lost ? `\nevents were lost here${lost[3] === null ? "" : `: ${lost[3]}`}` : "";
    const row = this.rows.at(y);
    if (!row) return `+${clock(t, 9)} s${also}`;
    if (row.kind === "irq") {
      const slack = this.win.span / width * 2;
      const one = (this.recording.irqs.get(this.recording.cpus[row.index]) ?? [])
        .find((irq) => t >= irq.at - slack && t <= irq.at + irq.dur + slack);
      return one ? `${one.soft ? "softirq" : "interrupt"} ${one.name}, ${span(one.dur)}\n+${clock(one.at, 9)} s` : "";
    }
    const levels = row.kind === "cpu" ? this.recording.cpuLevels : this.recording.taskLevels;
    const [level, first, last] = visible(levels, row.index, t, t, Infinity);
    if (level !== levels[0]) return `+${clock(t, 9)} s\n(being fetched)${also}`;
    if (last <= first || first + 1 >= level.bounds[row.index + 1]) return `+${clock(t, 9)} s${also}`;
    const from = level.at[first], length = level.at[first + 1] - from, code = level.code[first];
    if (row.kind === "cpu") {
      const who = code === NOBODY ? null : tasks[code];
      return `CPU ${this.recording.cpus[row.index]}: ${who ? `${who.name} ${who.label}` : "nobody known"}, ${span(length)}\nfrom +${clock(from, 9)} s${also}`;
    }
    const task = tasks[row.index];
    return `${task.name} ${task.label}: ${STATES[code][1]}${code === 10 ? "" : ` for ${span(length)}`}\nfrom +${clock(from, 9)} s${also}`;
  }

  private listen(): void {
    const lanes = this.canvas.lanes, box = lanes.parentElement!;
    const pointers = new Map<number, PointerEvent>();
    let drag: { x: number; y: number; from: number; top: number; moved: boolean; mark: boolean } | null = null;
    let apart = 0;
    lanes.addEventListener("pointerdown", (e) => {
      lanes.setPointerCapture(e.pointerId);
      pointers.set(e.pointerId, e);
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()];
        apart = Math.abs(a.offsetX - b.offsetX) || 1;
        drag = null;
        return;
      }
      drag = { x: e.offsetX, y: e.offsetY, from: this.win.from, top: this.rows.top, moved: false, mark: e.shiftKey };
      if (e.shiftKey) this.marked = [this.win.t(e.offsetX, box.clientWidth), this.win.t(e.offsetX, box.clientWidth)];
    });
    lanes.addEventListener("pointermove", (e) => {
      if (pointers.has(e.pointerId)) pointers.set(e.pointerId, e);
      if (pointers.size === 2) {
        const [a, b] = [...pointers.values()], now = Math.abs(a.offsetX - b.offsetX) || 1;
        this.win.zoom(apart / now, this.win.t((a.offsetX + b.offsetX) / 2, box.clientWidth));
        apart = now;
        this.move();
        return;
      }
      if (!drag) {
        this.hover(e);
        return;
      }
      if (Math.abs(e.offsetX - drag.x) + Math.abs(e.offsetY - drag.y) > 3) drag.moved = true;
      if (drag.mark && this.marked) {
        this.marked = [this.marked[0], this.win.t(e.offsetX, box.clientWidth)];
        this.hover(e, `${span(Math.abs(this.marked[1] - this.marked[0]))}`);
        this.draw();
      } else if (drag.moved) {
        const by = (drag.x - e.offsetX) / box.clientWidth * this.win.span;
        this.win.show(drag.from + by, drag.from + by + this.win.span);
        this.rows.scroll(drag.top + drag.y - e.offsetY, box.clientHeight);
        this.move();
      }
    });
    const up = (e: PointerEvent): void => {
      pointers.delete(e.pointerId);
      if (drag && !drag.moved && e.type === "pointerup") {
        this.marked = null;
        const row = this.rows.at(e.offsetY);
        if (row?.kind === "task") this.choose(row.index, false);
        else if (row?.kind === "cpu") {
          const t = this.win.t(e.offsetX, box.clientWidth);
          const [level, first] = visible(this.recording.cpuLevels, row.index, t, t, Infinity);
          const who = level.code[first];
          if (who !== NOBODY && this.recording.tasks[who].kind !== "idle") this.choose(who);
        }
      }
      drag = null;
    };
    lanes.addEventListener("pointerup", up);
    lanes.addEventListener("pointercancel", up);
    lanes.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    lanes.addEventListener("wheel", (e) => {
      e.preventDefault();
      if (e.ctrlKey || (!e.shiftKey && Math.abs(e.deltaY) > Math.abs(e.deltaX) && e.altKey === false && e.metaKey === false &&
        this.rows.height <= box.clientHeight)) this.win.zoom(Math.exp(e.deltaY * 0.0015), this.win.t(e.offsetX, box.clientWidth));
      else if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) this.win.pan((e.deltaX || e.deltaY) / box.clientWidth);
      else this.rows.scroll(this.rows.top + e.deltaY, box.clientHeight);
      this.move();
    }, { passive: false });
    lanes.addEventListener("dblclick", (e) => {
      this.win.zoom(0.25, this.win.t(e.offsetX, box.clientWidth));
      this.move();
    });
    const mini = this.canvas.mini;
    const jump = (e: PointerEvent): void => {
      this.win.goto(e.offsetX / mini.parentElement!.clientWidth * this.recording.length);
      this.move();
    };
    mini.addEventListener("pointerdown", (e) => { mini.setPointerCapture(e.pointerId); jump(e); });
    mini.addEventListener("pointermove", (e) => { if (e.buttons & 1) jump(e); });
    this.names.addEventListener("click", (e) => {
      const row = this.rows.at(e.clientY - this.names.getBoundingClientRect().top);
      if (row?.kind !== "task") return;
      if ((e.target as HTMLElement).className === "fold") this.fold(row.index); else this.choose(row.index, false);
    });
    this.names.addEventListener("wheel", (e) => {
      e.preventDefault();
      this.rows.scroll(this.rows.top + e.deltaY, box.clientHeight);
      this.draw();
    }, { passive: false });
  }

  /** The window has moved. */
  move(): void {
    this.changed(this);
    this.fetch();
    this.draw();
  }

  /** Fetch the wakeups of the chosen task in and around the window, if they are with the server. */
  private fetch(): void {
    const { recording, win, chosen } = this, { from, to, task, all } = this.fetched;
    if (!recording.wakes || chosen < 0) return;
    const here = task === chosen && win.from >= from && win.to <= to && (all || (win.from === from && win.to === to));
    if (here) return;
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(async () => {
      const begin = Math.max(win.from - win.span, 0), end = Math.min(win.to + win.span, win.length);
      this.fetched = { task: chosen, from: begin, to: end, all: true };
      const all = await recording.wakes!(chosen, begin, end).catch(() => false);
      // Too many around it: then those in it.
      if (!all && this.chosen === chosen) {
        this.fetched = { task: chosen, from: win.from, to: win.to, all: false };
        await recording.wakes!(chosen, win.from, win.to).catch(() => false);
      }
    }, 120);
  }

  private hover(e: PointerEvent, text = this.about(e.offsetX, e.offsetY)): void {
    this.tip.hidden = !text;
    this.tip.textContent = text;
    this.tip.style.left = `${Math.min(e.clientX + 14, window.innerWidth - 340)}px`;
    this.tip.style.top = `${Math.min(e.clientY + 16, window.innerHeight - 110)}px`;
  }
}

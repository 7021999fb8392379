// The page: panels of recordings, the story of the chosen task beside them, search, keys, links to moments.

import { clock, unpack, visible, type Packed, type Recording } from "./data.ts";
import { Panel, type Arrows } from "./panel.ts";
import { STATES } from "./view.ts";

const $ = (id: string): HTMLElement => document.getElementById(id)!;
const KEYS: [string, string][] = [
  ["w s", "zoom in, out"], ["a d", "move left, right"], ["↑ ↓", "the task above, below"], ["← →", "fold, unfold"],
  ["[ ]", "the event before, after, of the chosen task"], ["Enter", "show all of its life"], ["/", "find"],
  ["n N", "the next, the previous that was found"], ["f", "arrows: of the chosen task, all forks, none"],
  ["0", "all of the recording"], ["t", "dark or light"], ["wheel", "scroll; with Ctrl zoom, with Shift move"],
  ["drag", "move; with Shift measure"], ["?", "this"],
];

let panels: Panel[] = [];
let active: Panel;
let hits: number[] = [];
let hit = -1;
let asking = 0;

function story(panel: Panel, index: number): void {
  const box = $("story");
  box.textContent = "";
  const task = panel.recording.tasks[index];
  if (!task) return;
  const add = (tag: string, text: string, parent: Element = box): HTMLElement => {
    const made = document.createElement(tag);
    made.textContent = text;
    parent.append(made);
    return made;
  };
  add("h2", `${task.name} ${task.label}`);
  add("p", [task.kind, task.end || (task.ended ? "ended" : "alive when the recording ended"),
    `seen for ${clock(task.to - task.from)} s`].filter(Boolean).join(" · "));
  const entries = panel.recording.stories[index];
  if (!entries && panel.recording.tell) {
    add("p", "…");
    panel.recording.tell(index).then(() => { if (active === panel && panel.chosen === index) story(panel, index); },
      () => { /* said already */ });
    return;
  }
  if (!entries) {
    add("p", `Its story is not in this page: taskscope life ${task.label}`);
    return;
  }
  const list = add("ol", "");
  for (const [at, cpu, word, lines] of entries) {
    const item = add("li", "", list);
    item.tabIndex = 0;
    add("time", at === null ? "?" : `+${clock(at)}`, item);
    const text = add("div", "", item);
    text.className = "text";
    add("b", cpu === null ? word : `${word} ${cpu}`, text);
    lines.forEach(([line, event], k) => {
      text.append(k ? `\n${line}` : line);
      if (event) add("span", `  [${event}]`, text).className = "ev";
    });
    const jump = (): void => {
      if (at === null) return;
      panel.win.goto(at, Math.min(panel.win.span, panel.recording.length / 20));
      panel.marked = [at, at + panel.win.span / 400];
      panel.move();
    };
    item.addEventListener("click", jump);
    item.addEventListener("keydown", (e) => { if (e.key === "Enter") jump(); });
  }
}

function find(text: string): void {
  const wanted = text.trim().toLowerCase(), { tasks, stories } = active.recording;
  hits = !wanted ? [] : [...tasks.keys()].filter((k) => {
    const task = tasks[k];
    return String(task.pid) === wanted || task.label === wanted || task.name.toLowerCase().includes(wanted) ||
      task.names.some((name) => name.toLowerCase().includes(wanted)) ||
      (stories[k] ?? []).some(([, , word, lines]) => word.toLowerCase() === wanted || lines.some(([, event]) => event === wanted));
  });
  hit = -1;
  $("found").textContent = wanted ? `${hits.length} found` : "";
  window.clearTimeout(asking);
  if (/^[a-z0-9_]{4,}$/.test(wanted) && active.recording.having) asking = window.setTimeout(() => void events(active, wanted), 300);
}

/** Find tasks by an event of their stories, which the server has; behind those that were found by name. */
async function events(panel: Panel, wanted: string): Promise<void> {
  const found = await panel.recording.having!(wanted).catch(() => null);
  if (!found || panel !== active || ($("find") as HTMLInputElement).value.trim().toLowerCase() !== wanted) return;
  hits = [...new Set([...hits, ...found[0]])].sort((a, b) => a - b);
  hit = -1;
  $("found").textContent = `${hits.length} found${found[1] ? "" : ", not all stories looked at"}`;
}

function next(by: number): void {
  if (!hits.length) return;
  hit = (hit + by + hits.length) % hits.length;
  $("found").textContent = `${hit + 1} of ${hits.length}`;
  const task = active.recording.tasks[hits[hit]];
  if (task.to < active.win.from || task.from > active.win.to) active.win.goto((task.from + task.to) / 2);
  active.choose(hits[hit]);
}

/** Go to the event of the chosen task that is next to the middle of the window. */
function event(by: number): void {
  const entries = active.recording.stories[active.chosen];
  if (!entries) return;
  const middle = (active.win.from + active.win.to) / 2, slack = active.win.span / 1000;
  const stamps = entries.map(([at]) => at).filter((at): at is number => at !== null).sort((a, b) => a - b);
  const found = by > 0 ? stamps.find((at) => at > middle + slack) : stamps.reverse().find((at) => at < middle - slack);
  if (found === undefined) return;
  active.win.goto(found);
  active.move();
}

function remember(panel: Panel): void {
  const task = panel.recording.tasks[panel.chosen];
  const parts = [panels.indexOf(panel), panel.win.from.toFixed(0), panel.win.to.toFixed(0), task?.label ?? ""];
  history.replaceState(null, "", `#${parts.join(",")}`);
}

function recall(): void {
  const [which, from, to, label] = location.hash.slice(1).split(",");
  const panel = panels[Number(which)];
  if (!panel || !(Number(to) > Number(from))) return;
  active = panel;
  panel.win.show(Number(from), Number(to));
  const task = panel.recording.tasks.findIndex((one) => one.label === label);
  if (task >= 0) panel.choose(task); else panel.draw();
}

function arrows(): void {
  const order: Arrows[] = ["chosen", "forks", "none"];
  for (const panel of panels) {
    panel.arrows = order[(order.indexOf(panel.arrows) + 1) % 3];
    panel.draw();
  }
  $("arrows").setAttribute("aria-pressed", String(panels[0].arrows === "forks"));
  $("arrows").textContent = { chosen: "Arrows", forks: "All forks", none: "No arrows" }[panels[0].arrows];
}

function theme(): void {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  for (const panel of panels) { panel.paint.forget(); panel.draw(); }
}

function help(): void {
  const box = $("help") as HTMLDialogElement;
  box.textContent = "";
  const table = document.createElement("table");
  for (const [keys, what] of KEYS) {
    const row = table.insertRow(), cell = row.insertCell();
    for (const key of keys.split(" ")) { const k = document.createElement("kbd"); k.textContent = key; cell.append(k, " "); }
    row.insertCell().textContent = what;
  }
  const legend = document.createElement("p");
  legend.className = "legend";
  STATES.slice(0, 10).forEach(([letter, name, colour]) => {
    const one = document.createElement("span"), mark = document.createElement("i");
    mark.textContent = letter;
    mark.style.background = `var(${colour})`;
    one.append(mark, name);
    legend.append(one);
  });
  legend.append("◆ created   ✖ killed   ■ ended   grey wall: events were lost");
  box.append(legend, table);
  box.showModal();
  box.addEventListener("click", () => box.close(), { once: true });
}

function lab(recording: Recording): void {
  if (!recording.lab) return;
  const box = $("lab");
  box.hidden = false;
  const add = (tag: string, text: string, cls = ""): void => {
    const made = document.createElement(tag);
    made.textContent = text;
    made.className = cls;
    box.append(made);
  };
  add("h2", recording.lab.question);
  if (recording.lab.look) add("p", `Look at: ${recording.lab.look}`);
  for (const [what, passed] of recording.lab.checks) add("div", what, passed ? "ok" : "bad");
  if (recording.lab.answer) add("p", recording.lab.answer);
}

function keys(e: KeyboardEvent): void {
  const field = e.target as HTMLElement;
  if (field.id === "find") {
    if (e.key === "Enter") next(e.shiftKey ? -1 : 1);
    if (e.key === "Escape") field.blur();
    return;
  }
  if (e.ctrlKey || e.metaKey || e.altKey || ($("help") as HTMLDialogElement).open) return;
  const win = active.win, chosen = active.chosen, task = active.recording.tasks[chosen];
  const actions: Record<string, () => void> = {
    w: () => win.zoom(0.7, (win.from + win.to) / 2), s: () => win.zoom(1 / 0.7, (win.from + win.to) / 2),
    a: () => win.pan(-0.15), d: () => win.pan(0.15), "0": () => win.show(0, win.length),
    ArrowUp: () => active.step(-1), ArrowDown: () => active.step(1),
    ArrowLeft: () => { if (task && !active.rows.folded.has(chosen)) active.fold(chosen); },
    ArrowRight: () => { if (task && active.rows.folded.has(chosen)) active.fold(chosen); },
    "[": () => event(-1), "]": () => event(1), n: () => next(1), N: () => next(-1), f: arrows, t: theme, "?": help,
    "/": () => $("find").focus(),
    Enter: () => { if (task) { const pad = (task.to - task.from) * 0.05; win.show(task.from - pad, task.to + pad); } },
  };
  const action = actions[e.key];
  if (!action || (e.key === "Enter" && field.tagName === "LI")) return;
  e.preventDefault();
  action();
  active.move();
}

async function start(): Promise<void> {
  const packed = JSON.parse($("data").textContent!) as Packed[];
  if (!document.documentElement.dataset.theme)
    document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const server = "served" in document.documentElement.dataset ? {
    async get(path: string): Promise<Response> {
      const found = await fetch(path).catch(() => null);
      if (found?.ok) return found;
      $("found").textContent = "the server of this page does not answer";
      throw new Error(path);
    },
    arrived(): void { for (const panel of panels) panel.draw(); },
  } : null;
  const recordings = await Promise.all(packed.map((one, k) => unpack(one, k, server)));
  $("title").textContent = recordings.map((one) => one.title).join("  ·  ");
  document.title = `${$("title").textContent} – taskscope`;
  $("about").textContent = recordings.map((one) => [
    one.kernel || "kernel not recorded", `${one.events} events`, `${clock(one.length, 3)} s`,
    one.lost.length ? `events lost in ${one.lost.length} places` : "",
    one.arrows.left ? `${one.arrows.left} later wakeups are not in this page` : "", ...one.notes,
  ].filter(Boolean).join(", ")).join("  ·  ");
  panels = recordings.map((recording) => new Panel(recording, $("panels"), $("tip"), (panel) => {
    active = panel;
    // Two recordings are looked at side by side: from the start of each.
    for (const other of panels) if (other !== panel) { other.win.show(panel.win.from, panel.win.to); other.draw(); }
    remember(panel);
  }, (panel, index) => { active = panel; story(panel, index); remember(panel); }));
  active = panels[0];
  lab(recordings[0]);
  $("find").addEventListener("input", (e) => find((e.target as HTMLInputElement).value));
  $("whole").addEventListener("click", () => { active.win.show(0, active.win.length); active.move(); });
  $("arrows").addEventListener("click", arrows);
  $("theme").addEventListener("click", theme);
  $("keys").addEventListener("click", help);
  document.addEventListener("keydown", keys);
  window.addEventListener("hashchange", recall);
  if (location.hash) recall();
  for (const panel of panels) panel.now();
  if (active.chosen < 0) {
    // Begin with somebody whose end was seen.
    const first = active.recording.tasks.findIndex((task) => task.killed && task.kind === "process");
    const some = first >= 0 ? first : active.recording.tasks.findIndex((task) => task.kind === "process" && task.born);
    if (some >= 0) active.choose(some);
  }
  // For tests, and for who is curious how long frames take.
  Object.assign(window, { taskscope: { panels, find, next, event, visible } });
  document.documentElement.dataset.ready = "1";
}

void start();

"""Lab ``low-memory-killer``: who is killed when memory runs short, and who never is."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from taskscope.labs.evidence import stat_rows
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.snapshot.decode import PF_KTHREAD

if TYPE_CHECKING:
    from taskscope.labs.real import Real
    from taskscope.system import System

PAGE = 4096
MEM = 64 << 20


def holder(sys: Any, argv: list[str]) -> int:
    """Take memory, a little at a time, and keep it: holder PAGES ADJ."""
    pages, adj = int(argv[1]), argv[2]
    fd = sys.open("/proc/self/oom_score_adj", 1)
    sys.write_all(fd, adj.encode())
    sys.close(fd)
    for at in range(0, pages, 20):
        size = min(20, pages - at) * PAGE
        sys.touch(sys.mmap(size), size)
        # slow enough for the reaper of last resort not to be needed
        sys.run_for(500_000)
    while True:
        sys.pause()


def start(k: System, name: str, pages: int, adj: int) -> Any:
    """Start a process of that size, and wait until it has its memory."""
    process = k.spawn(holder, str(pages), str(adj), name=name)
    settle(k, process)
    return process


def settle(k: System, process: Any) -> None:
    """Let a process go on until it has its memory and pauses, or has been killed; then half a second more."""
    for _ in range(60):
        k.run(s=0.5)
        task = k.find(process.pid)
        if process.status is not None or task is None or task.exit_state:
            break
        if any("pause" in frame for frame in k.task(process.pid).stack):
            break
    k.run(s=0.5)


def table(k: System, processes: dict[str, Any]) -> list[str]:
    """Return what /proc says of each."""
    lines = [f"{'name':<10} {'pid':>4} {'VmRSS':>9} {'oom_score_adj':>13} {'oom_score':>9}"]
    for name, process in processes.items():
        folder = f"/proc/{process.pid}"
        rss = re.search(r"VmRSS:\s*(\d+)", k.read(f"{folder}/status").decode())
        assert rss is not None, "it has memory"
        lines.append(
            f"{name:<10} {process.pid:>4} {rss[1] + ' kB':>9} {k.read(f'{folder}/oom_score_adj').decode().strip():>13} "
            f"{k.read(f'{folder}/oom_score').decode().strip():>9}"
        )
    return lines


def walks(log: str) -> list[str]:
    """Return the lines of the walks over the processes that ended in a kill."""
    shown: list[str] = []
    walk: list[str] = []
    for line in log.splitlines():
        if "select" in line:
            # A walk that meets a dying process ends without a word; the next begins with a line that was there.
            if line.partition("] ")[2] in [old.partition("] ")[2] for old in walk]:
                walk = []
            walk.append(line)
        elif "send sigkill" in line:
            shown += [*walk, line]
            walk = []
    return shown


def killed(log: str, pattern: str) -> list[str]:
    """Return the names in the log's lines on kills, in order."""
    return re.findall(pattern, log)


def scenario(run: Run) -> None:
    """Let the notes' driver choose, where it can be loaded; then the kernel's own OOM killer."""
    if run.flavour == "4.19-arm":
        lowmem(run)
    oom(run)


def lowmem(run: Run) -> None:
    """Load the driver, fill the memory, and see in which order processes go."""
    # CPUs enough for a victim to run at once, beside kswapd and who needs the memory
    k = run.boot(cpus=4, mem=MEM)
    terminal = k.terminal()
    line = f"insmod /lib/modules/{k.machine.flavour.release}/lowmemorykiller.ko"
    run.typed(line, terminal.type(line))
    k.write("/sys/module/lowmemorykiller/parameters/adj", "100")
    k.write("/sys/module/lowmemorykiller/parameters/minfree", "1536")
    k.trace("signal:signal_generate", "sched:sched_process_exit")
    processes = {
        name: start(k, name, pages, adj)
        for name, pages, adj in (("shell", 3500, 0), ("prefs", 1500, 300), ("cached_a", 1200, 500),
                                 ("cached_b", 2000, 500))
    }
    run.show(table(k, processes), "before: who has what")
    threads = [t.pid for t in k.machine_tasks() if t.flags & PF_KTHREAD]
    before = len(k.dmesg())
    eater = k.spawn(holder, "7200", "0", name="eater")
    settle(k, eater)
    log = k.dmesg()[before:]
    run.show(walks(log), "what the driver says on each walk that ended in a kill")
    order = killed(log, r"send sigkill to \d+ \((\w+)\)")
    run.equal("those with the highest oom_score_adj go first, of equals the largest", order[:2],
              ["cached_b", "cached_a"])
    run.equal("then the next highest", order[2:3], ["prefs"])
    run.equal("a process below the minimum of 100 is skipped, however large it is",
              [name for name in ("shell", "eater") if name in order], [])
    run.check("what the killed had is enough for the eater", eater.status is None and "shell" not in order)
    alive = [t.pid for t in k.machine_tasks() if t.flags & PF_KTHREAD]
    run.check("no kernel thread is selected: PF_KTHREAD", set(threads) <= set(alive)
              and not any(f"select {pid} " in log for pid in threads))
    recording = k.recording()
    kills = [(row["ts"], row["pid"]) for row in run.events(recording, "signal:signal_generate", sig=9)]
    deaths = {row["pid"]: row["ts"] for row in run.events(recording, "sched:sched_process_exit")}
    pending = [
        later[0] >= deaths.get(earlier[1], later[0] + 1) or later[0] - earlier[0] >= 1_000_000_000
        for earlier, later in pairwise(kills)
    ]
    run.check("while one that has TIF_MEMDIE is dying nobody else is killed, for a second at most", all(pending), kills)


def oom(run: Run) -> None:
    """Without the driver: the OOM killer, by badness."""
    k = run.boot(mem=MEM)
    k.trace("oom:mark_victim", "oom:oom_score_adj_update", "signal:signal_generate")
    processes = {
        name: start(k, name, pages, adj)
        for name, pages, adj in (("daemon", 4000, -1000), ("large", 4500, 0), ("small", 500, 800))
    }
    run.show(table(k, processes), "without the driver, before")
    threads = {t.pid for t in k.machine_tasks() if t.flags & PF_KTHREAD}
    total = k.machine.zone.managed_pages
    eater = k.spawn(holder, "5500", "0", name="eater")
    settle(k, eater)
    log = k.dmesg()
    wanted = re.compile(r"invoked oom-killer|Kill|swapents|\[ +\d+\] +0")
    shown = [line for line in log.splitlines() if wanted.search(line)]
    run.show(shown[:12], "what the OOM killer says")
    order = killed(log, r"Killed process \d+ \((\w+)\)")
    run.equal(
        f"the highest badness goes first: its pages, and {total // 1000} for each point of oom_score_adj",
        order[:1], ["small"],
    )
    run.equal("then the largest", order[1:2], ["large"])
    run.check("with oom_score_adj -1000 a process is never chosen", processes["daemon"].status is None)
    victims = [row["pid"] for row in run.events(k.recording(), "oom:mark_victim")]
    run.check("no kernel thread is a victim", bool(victims) and not threads & set(victims), victims)
    run.check("the machine lives", k.machine.panicked is None and (eater.status is None or len(order) > 1))


def on_real(run: Run) -> None:
    """Fill the memory of a small guest: the kernel's own OOM killer chooses, the driver having left with 4.12."""
    with run.real.booted_with("mem=256M") as machine:
        program = machine.program("holder")
        free = int(re.findall(r"MemAvailable:\s*(\d+)", machine.type("cat /proc/meminfo").output)[0])
        threads = kernel_threads(machine)
        sizes = {"daemon": (free * 40 // 100, -1000), "large": (free * 35 // 100, 0), "small": (free * 5 // 100, 800)}
        lines = [f"{program} {name} {size} {adj} &\n{name}=$!\nsleep 1.5\n" for name, (size, adj) in sizes.items()]
        shot = machine.record(
            "".join(lines) + "for pid in $daemon $large $small; do\n"
            "echo $(cat /proc/$pid/comm) $pid $(grep VmRSS /proc/$pid/status) "
            "$(cat /proc/$pid/oom_score_adj /proc/$pid/oom_score); done\n"
            f"{program} eater {free * 45 // 100} 0 &\neater=$!\n"
            "n=0; while [ $n -lt 60 ] && kill -0 $large && kill -0 $eater; do sleep 0.25; n=$((n+1)); done\nsleep 1\n"
            "kill -0 $daemon && echo daemon lives\nkill -9 $daemon $large $small $eater 2>/dev/null\nwait\n"
            "dmesg | grep -E 'invoked oom|Killed process|swapents|oom_score_adj|oom-kill:'\n",
            events=("sched", "task", "signal", "oom:mark_victim", "oom:oom_score_adj_update"), seconds=120)
        alive = kernel_threads(machine)
    said, recording = shot.typed.output, shot.recording
    run.show(said, "sizes and oom_score_adj before, and what the OOM killer says")
    order = killed(said, r"Killed process \d+ \((\w+)\)")
    run.equal("the highest badness goes first: its pages, and a thousandth of all for each point of oom_score_adj",
              order[:1], [run.expect("small", "large")])
    run.equal("then the largest", order[1:2], ["large"])
    run.check("with oom_score_adj -1000 a process is never chosen", "daemon lives" in said and "daemon" not in order,
              order)
    victims = [int(row["pid"]) for row in run.events(recording, "mark_victim")]
    run.equal("mark_victim tells each", len(victims), len(order))
    run.check("no kernel thread is a victim", bool(victims) and not threads & set(victims), victims)
    dead = {life.pid for life in recording.lives if life.exit is not None and life.exit.signal == 9}
    run.check("the victims die of SIGKILL, by their own hand", set(victims) <= dead, (victims, dead))
    run.check("the machine lives, with all that kernel threads do for it", 2 in alive)


def kernel_threads(machine: Real) -> set[int]:
    """Return the pids of a real kernel's threads."""
    rows = stat_rows(machine.type("cat /proc/[0-9]*/stat 2>/dev/null").output)
    return {pid for pid, row in rows.items() if int(row[8]) & PF_KTHREAD}


LAB = Lab(
    name="low-memory-killer",
    title="who is killed when memory runs short",
    question="lowmem_shrink() walks all processes: whom does it kill, and why never a kernel thread?",
    look="the sizes and oom_score_adj before, and then who is selected, replaced by a better choice, and killed",
    answer=(
        "The driver is a shrinker: when few pages are free, kswapd or who needs a page asks it for some.  It "
        "walks init_task.tasks.  Kernel threads have PF_KTHREAD and are skipped: they have no memory of their "
        "own, and the kernel would not survive it.  find_lock_task_mm() skips those that have let go of theirs.  "
        "If one is dying already (TIF_MEMDIE) it kills nobody else, for a second at most.  Of the others it skips"
        " those whose oom_score_adj is below the minimum for the shortage, and kills the one with the highest, "
        "the largest of equals.  The driver left the kernel with 4.12; the kernel's own OOM killer comes later, "
        "when nothing can be freed, and weighs size and oom_score_adj together: oom_badness()."
    ),
    scenario=scenario,
    real=on_real,
    places=("guest",),
    refused="it uses up all memory; use --on guest",
    real_note=(
        "The driver left the kernel with 4.12: there the OOM killer chooses, in a guest of 256 MiB.  "
        "/proc/PID/oom_score said whom."
    ),
    needs=("events", "/proc"),
    mutant=Mutant(
        "of equals the smallest is killed",
        "drivers.staging.android.lowmemorykiller:lowmem_shrink",
        "tasksize <= selected_tasksize",
        "tasksize >= selected_tasksize",
    ),
    later=Mutant(
        "oom_score_adj does not count",
        "mm.oom_kill:oom_badness",
        "    adj = t.signal.oom_score_adj\n",
        "    adj = 0\n",
    ),
)

"""Lab ``times``: utime, stime and sched_info, and what they agree with."""

from __future__ import annotations

from typing import Any

from taskscope.labs.evidence import plain
from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys


def scenario(run: Run) -> None:
    """Two programs share one CPU; compare their counters with the recording of the switches."""
    k = run.boot(cpus=1)
    k.trace("sched:*", "task:*", "signal:*")
    chain: list[str] = []

    def arrived(*_: Any) -> None:
        if not chain:
            chain.extend(plain(k.running_stack()))

    first = k.spawn(work, "1", name="worker")
    second = k.spawn(work, "2", name="worker")
    k.run(s=0.5)
    with k.probe("sched_info_arrive", arrived):
        k.run(s=0.5)
    run.show(chain[:7], "who calls sched_info_arrive(), innermost first")
    run.equal(
        "it is called on the way through context_switch()",
        chain[:6],
        ["sched_info_arrive", "__sched_info_switch", "sched_info_switch", "prepare_task_switch", "context_switch",
         "__schedule"],
    )
    recording = k.recording()
    tick = k.machine.tick_nsec
    rows = []
    for name, p in (("one", first), ("two", second)):
        task = k.find(p.pid)
        assert task is not None
        life = run.life(recording, p.pid or 0)
        spans = recording.lives.spans(life.ref)
        running = sum(span.dur for span in spans if span.state == 0)
        waited = sum(span.dur for span in spans if span.state == 1)
        switches = [row["ts"] for row in run.events(recording, "sched_switch", next_pid=p.pid)]
        arrivals, last = len(switches), switches[-1]
        info = task.sched_info
        on_cpu = k.machine.now - task.se.exec_start if task.on_cpu else 0
        rows.append(
            f"{name}: sum_exec_runtime {task.se.sum_exec_runtime} (recording {running}), run_delay "
            f"{info.run_delay} ({waited}), pcount {info.pcount} ({arrivals}), "
            f"last_arrival {info.last_arrival} ({last}), utime {task.utime}, stime {task.stime}"
        )
        run.check(
            f"{name}: sum_exec_runtime is the time on the CPU of the recording",
            abs(task.se.sum_exec_runtime + on_cpu - running) <= 2 * 1_000_000 + on_cpu,
            (task.se.sum_exec_runtime, on_cpu, running),
        )
        run.check(
            f"{name}: run_delay is the time that it was runnable and did not run",
            abs(info.run_delay - waited) <= 4_000_000 + (0 if task.on_cpu else k.machine.now - last),
            (info.run_delay, waited),
        )
        run.equal(f"{name}: pcount counts the arrivals on a CPU", info.pcount, arrivals)
        run.check(
            f"{name}: last_arrival is the time of the last one",
            abs(info.last_arrival - last) <= 10_000,
            (info.last_arrival, last),
        )
        run.check(
            f"{name}: utime + stime is sampled by the tick: within a few ticks of the truth",
            abs(task.utime + task.stime - task.se.sum_exec_runtime) <= 8 * tick,
            (task.utime + task.stime, task.se.sum_exec_runtime),
        )
        run.check(
            f"{name}: it computes in user mode, so utime is nearly all",
            task.utime > 0.9 * (task.utime + task.stime),
            (task.utime, task.stime),
        )
    run.show(rows, "counters of the task_struct, and of the recording")
    stat = k.read(f"/proc/{first.pid}/schedstat").decode().split()
    task = k.find(first.pid)
    assert task is not None
    run.equal(
        "/proc/PID/schedstat shows the same three",
        [int(n) for n in stat],
        [task.se.sum_exec_runtime, task.sched_info.run_delay, task.sched_info.pcount],
    )
    first.wait()
    second.wait()
    k.run(s=0.05)
    run.keep(k.recording(), {"one": first.pid or 0, "two": second.pid or 0})


def on_real(run: Run) -> None:
    """Two C programs share one CPU; compare what /proc says of them with the recording of the switches."""
    program = run.real.program("worker")
    shot = run.record(f"{program} 1500 > one &\n{program} 1500 > two &\nwait\ncat one two\n")
    lines = shot.typed.output.splitlines()
    stats = {int(line.split()[1]): line.split() for line in lines if line.startswith("stat ")}
    scheds = [line.split() for line in lines if line.startswith("schedstat ")]
    rows = []
    hertz = 100
    for (pid, stat), (_, ran, delay, count) in zip(stats.items(), scheds, strict=True):
        life = run.life(shot.recording, pid)
        running, runnable = life.time.get("running", 0), life.time.get("runnable", 0)
        rows.append(f"{pid}: sum_exec_runtime {int(ran) / 1e6:.1f} ms, run_delay {int(delay) / 1e6:.1f} ms, "
                    f"pcount {count}; recording: {running / 1e6:.1f} ms, {runnable / 1e6:.1f} ms")
        run.check(f"{pid}: sum_exec_runtime is the time it ran", abs(int(ran) - running) < 0.1 * running, rows[-1])
        run.check(f"{pid}: run_delay is the time it waited for the CPU",
                  abs(int(delay) - runnable) < 0.2 * runnable + 20_000_000, rows[-1])
        switches = len(run.events(shot.recording, "sched_switch", next_pid=pid))
        # It is read a moment before the end; and a kernel that records only some tasks leaves out a few switches to
        # them from the idle task.
        run.check(f"{pid}: pcount is the number of times it was switched to",
                  abs(int(count) - switches) <= 2 + int(count) // 20, (count, switches))
        # comm has no blanks: utime and stime are the fields 14 and 15 behind the word "stat".
        sampled = (int(stat[14]) + int(stat[15])) * 1_000_000_000 // hertz
        run.check(f"{pid}: utime + stime agree with it (they are scaled to it, or sampled)",
                  abs(sampled - int(ran)) < 0.1 * int(ran) + run.expect(100_000_000, -10_000_000_000), (sampled, ran))
    run.show(rows, "what /proc says, and the recording")
    one, two = stats
    run.keep(shot.recording, {"one": one, "two": two})
    run.equal("both were looked at", len(rows), 2)


def in_memory(run: Run, look: Look) -> None:
    """Hold the counters in the kernel's memory against /proc, and last_arrival against a recording of the switches."""
    columns = ("sum_exec_runtime", "run_delay", "pcount")
    names = [name for name in look.cast if name != "busy"]
    shown = [row for row in map(look.of, names) if row is not None] or look.rows
    run.show([f"{row.comm:<15} sum_exec_runtime {row.sum_exec_runtime}, run_delay {row.run_delay}, pcount "
              f"{row.pcount}, last_arrival {row.last_arrival}, utime {row.utime}, stime {row.stime}"
              for row in shown][:12], "sched_info and the times")
    kept = [row for row in look.rows if row.pcount and row.on_cpu is False and row.state != "Z"]
    run.check("who has run has arrived: pcount counts that, last_arrival says when it was the last time",
              bool(kept) and all(((row.last_arrival or 0) > 0) is run.expect(True, False) for row in kept),
              [row for row in kept if not row.last_arrival][:3])
    if not look.cast:
        return
    for name in names:
        told, row = look.proc(name), look.of(name)
        if name != "sleeper" and told is not None and row is not None:
            run.equal(f"{name}: /proc/PID/schedstat shows the three of the descriptor",
                      [getattr(told, column) for column in columns],
                      [getattr(row, column) + run.expect(0, 1) for column in columns])
    _arrivals(run, look)


def _arrivals(run: Run, look: Look) -> None:
    """Wake two tasks with the switches recorded; the clocks of both may differ, what lies between two arrivals not."""
    pids = [look.cast["stopped"], look.cast["sleeper"]]
    look.again()
    before = {pid: look.row(pid).pcount or 0 for pid in pids}
    shot = run.real.record(f"kill -CONT {pids[0]}; sleep 0.2; kill -STOP {pids[0]}; kill -STOP {pids[1]}; sleep 0.3",
                           everything=True)
    look.again()
    last, counts = {}, {}
    for pid in pids:
        arrived = [row["ts"] for row in run.events(shot.recording, "sched_switch", next_pid=pid)]
        last[pid], counts[pid] = max(arrived, default=0), len(arrived)
    rows = {pid: look.row(pid) for pid in pids}
    between = (rows[pids[1]].last_arrival or 0) - (rows[pids[0]].last_arrival or 0)
    recorded = last[pids[1]] - last[pids[0]]
    run.check("last_arrival is the time of the last switch to the task: between two tasks it is what the recording has",
              all(counts.values()) and abs(between - recorded) < 1_000_000, (between, recorded, counts))
    run.check("pcount has grown by the switches to them that were recorded",
              all(abs((rows[pid].pcount or 0) - before[pid] - counts[pid]) <= 1 for pid in pids),
              [(rows[pid].pcount, before[pid], counts[pid]) for pid in pids])


def work(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Compute, with a short sleep now and then."""
    for _ in range(16):
        sys.run_for(40_000_000)
        sys.nanosleep(5_000_000)


LAB = Lab(
    name="times",
    title="utime, stime and sched_info, and what they agree with",
    question="Which of the kernel's times are exact, and which are sampled?",
    look="the counters of the two tasks beside what the recording of the switches gives",
    answer=(
        "sum_exec_runtime, run_delay, pcount and last_arrival are written at every switch with the runqueue's "
        "clock: context_switch -> prepare_task_switch -> sched_info_switch -> __sched_info_switch -> "
        "sched_info_arrive.  They agree with the recording to the microsecond.  utime (account_user_time) and "
        "stime "
        "(account_system_index_time) are charged a whole tick at a time to whatever the timer interrupt finds, so "
        "they are right only in the long run; /proc scales them to sum_exec_runtime."
    ),
    scenario=scenario,
    memory=in_memory,
    real=on_real,
    real_note=(
        "run_delay and pcount stand in /proc/PID/schedstat.  The recording knows a little more than /proc "
        "said, which was read a moment before the end."
    ),
    needs=("events", "/proc", "memory"),
    mutant=Mutant(
        "the wait for the CPU is not counted",
        "kernel.sched.stats:sched_info_arrive",
        "        info.run_delay += now - info.last_queued\n",
        "        pass\n",
    ),
)

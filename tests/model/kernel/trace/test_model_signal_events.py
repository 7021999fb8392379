"""The events of signals: what the model traces for a rule is what this host's kernel traces for it."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

import pytest

from recording import TRACEFS, can_record
from taskscope.labs.truth import rules
from taskscope.labs.truth.rules import host, model
from taskscope.model import machine
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register

EVENTS = ("signal/signal_generate", "signal/signal_deliver", "sched/sched_waking")
#: rules in which each process sends and takes its signals in one order
RULES = (
    "delivery.standard_signals_once", "delivery.realtime_signals_queue", "delivery.synchronous_first",
    "delivery.ignored_and_blocked_is_kept", "signals_queue.full_queue", "signals_queue.two_handlers_run_highest_first",
    "signals_queue.stop_takes_continue_away", "signals_action.handlers_nest", "signals_action.codes_of_senders",
    "signals_action.default_terminates", "signals_action.default_dumps", "signals_action.default_stops",
    "signals_action.default_ignores", "signals_action.blocked_and_ignored_do_not_kill", "signals_send.kill_a_group",
    "signals_send.codes_that_may_be_queued", "signals_send.zombies_can_be_signalled", "stopping.stop_status",
    "stopping.fatal_signal_waits_for_continue", "stopping.stopping_the_stopped",
    "signals_wait.pause_ends_with_a_handler", "delivery.sigsuspend_with_two_signals", "stopping.a_newly_orphaned_group",
)
#: rules that send signals to processes of which they know that they sleep
ASLEEP = (
    "signals_send.codes_that_may_be_queued", "signals_wait.pause_ends_with_a_handler",
    "stopping.a_newly_orphaned_group",
    "stopping.stop_status", "stopping.stopping_the_stopped",
)
_LINE = re.compile(r"^ *(.+)-(\d+) +\[\d+\] \S+ +[\d.]+: (\w+): (.*)$")

#: (the one who runs, the event, its fields; the pid of a target among them)
Record = tuple[int, str, tuple[Any, ...]]


def of_the_host(name: str) -> list[Record]:
    """Return the events of a rule's processes on this host."""
    top = TRACEFS / "instances" / f"taskscope-test-{os.getpid()}-signals"
    top.mkdir()
    try:
        for option in ("event-fork", "hash-ptr"):
            if (top / "options" / option).exists():
                (top / "options" / option).write_text("1" if option == "event-fork" else "0")
        (top / "set_event_pid").write_text(str(os.getpid()))
        for event in EVENTS:
            (top / "events" / event / "enable").write_text("1")
        host.run(rules.load([name]))
        (top / "tracing_on").write_text("0")
        text = (top / "trace").read_text()
    finally:
        (top / "events/enable").write_text("0")
        top.rmdir()
    found: list[Record] = []
    # The name before a pid is of a table that holds but so many: events that name their target know better.
    named = {int(pid) for pid in re.findall(r" comm=rule pid=(\d+)", text)}
    for line in text.splitlines():
        if not (match := _LINE.match(line)) or not (match[1].strip() == "rule" or int(match[2]) in named):
            continue
        fields = dict(part.split("=", 1) for part in match[4].split())
        if fields.get("comm", "rule") != "rule":
            continue
        fields.pop("comm", None)
        numbers = {key: int(value, 16 if key.startswith("sa_") else 10) for key, value in fields.items()}
        found.append((int(match[2]), match[3], shown(match[3], numbers)))
    return found


def shown(event: str, fields: dict[str, int]) -> tuple[Any, ...]:
    """Return the fields that are the same on every kernel: of a handler's address whether there is one."""
    if event == "sched_waking":
        return (fields["pid"],)
    if event == "signal_generate":
        return tuple(fields[name] for name in ("pid", "sig", "errno", "code", "grp", "res"))
    handler = fields["sa_handler"]
    # SA_RESTORER and SA_SIGINFO are the C library's affair.
    return (fields["sig"], fields["errno"], fields["code"], min(handler, 2), fields["sa_flags"] & 0xF000_0003)


def of_the_model(name: str, flavour: str, seed: int = 0) -> list[Record]:
    """Return the events of a rule's processes on the model."""
    found: list[Record] = []
    rule = rules.load([name])[0]

    def generate(data: Any, sig: int, info: Any, task: Any, group: bool, result: int) -> None:
        errno, code = (0, 128 if info == 1 else 0) if isinstance(info, int) else (info.si_errno, info.si_code)
        put("signal_generate", task, {
            "pid": task.pid, "sig": sig, "errno": errno, "code": code, "grp": int(group), "res": result})

    def deliver(data: Any, sig: int, info: Any, ka: Any) -> None:
        errno, code = (0, 128 if info == 1 else 0) if isinstance(info, int) else (info.si_errno, info.si_code)
        handler = ka.sa_handler if isinstance(ka.sa_handler, int) else 2
        put("signal_deliver", None, {
            "sig": sig, "errno": errno, "code": code, "sa_handler": handler, "sa_flags": ka.sa_flags})

    def waking(data: Any, p: Any) -> None:
        put("sched_waking", p, {"pid": p.pid})

    def put(event: str, target: Any, fields: dict[str, int]) -> None:
        current = machine.cur.cpu.curr
        if current.comm == "rule" and (target is None or target.comm == "rule"):
            found.append((current.pid, event, shown(event, fields)))

    def traced(sys: Any, say: Any) -> Any:
        for event, probe in (("signal_generate", generate), ("signal_deliver", deliver), ("sched_waking", waking)):
            tracepoint_probe_register(machine.cur.tp, event, probe, None)
        return rule.run(sys, say)

    model.run([dataclasses.replace(rule, run=traced)], seed, flavour=flavour)
    return found


def told(records: list[Record], wakeups: bool = False) -> dict[str, list[Any]]:
    """Return what each process did, in its order: the events of signals, and which woke their target first.

    Names go by age.

    :param wakeups: whether a wakeup stands right before the signal that it is for; else that is a matter of chance
    """
    pids = sorted({pid for pid, event, _ in records if event != "sched_waking"}
                  | {fields[0] for _, event, fields in records if event == "signal_generate"})
    # Where the numbers of a busy host have begun anew, the low ones are the younger.
    gap = max(range(len(pids)), key=lambda n: pids[n] - pids[n - 1])
    if pids[-1] - pids[0] > 16384:
        pids = pids[gap:] + pids[:gap]
    names = {pid: f"@{n}" for n, pid in enumerate(pids)}
    by: dict[str, list[Any]] = {}
    last: dict[int, Record] = {}
    for record in records:
        pid, event, fields = record
        if event == "signal_generate":
            before = last.get(pid)
            woke = before is not None and before[1] == "sched_waking" and before[2][0] == fields[0]
            # A child's death may find its parent awake or asleep.
            woken = woke if wakeups and fields[1] != 17 else "-"
            by.setdefault(names[pid], []).append((event, names[fields[0]], *fields[1:], woken))
        elif event == "signal_deliver":
            by.setdefault(names[pid], []).append((event, *fields))
        last[pid] = record
    return by


@pytest.mark.root
@pytest.mark.skipif(bool(can_record()), reason=can_record() or "-")
@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("_recordable")
def test_events_are_those_of_the_host(name: str) -> None:
    """Each process traces the signals that it sends and takes with the host's fields, results and order."""
    wakeups = name in ASLEEP
    real = told(of_the_host(name), wakeups)
    assert real
    for seed in (0, 3):
        assert told(of_the_model(name, rules.HOST_FLAVOUR, seed), wakeups) == real


@pytest.fixture
def _recordable() -> None:
    if not host.runs_here():
        pytest.skip("rules need a PID namespace on the host")


def test_results_of_generate() -> None:
    """signal_generate tells delivered, ignored, pending already, queue full, and siginfo lost: 0 to 4."""
    found: list[Record] = []
    for name in ("signals_queue.full_queue", "delivery.standard_signals_once", "signals_action.default_ignores"):
        found += of_the_model(name, "4.19-arm")
    assert {fields[5] for _, event, fields in found if event == "signal_generate"} == {0, 1, 2, 3, 4}

"""Which events, triggers and probes are set, on kernels that this machine is not: folders that look like a tracefs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskscope.abi.syscalls import call_of_name
from taskscope.errors import UsageError
from taskscope.ftrace.record_child import calling_user, environment, named_user
from taskscope.ftrace.record_events import SYSCALLS, Chosen, Events, apart, choose, told
from taskscope.ftrace.record_probe import Probes, remove_probes
from taskscope.ftrace.tracefs import Instance, KernelRefusedError, Tracefs, remove_stale, stale_instances, start_time

NAMES = """sched/sched_switch sched/sched_waking sched/sched_process_exit sched/sched_process_fork
sched/sched_process_free task/task_newtask signal/signal_generate raw_syscalls/sys_enter raw_syscalls/sys_exit
ftrace/function"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make the events folder of a kernel that has no events of single system calls."""
    for name in NAMES.split():
        (tmp_path / "events" / name).mkdir(parents=True)
        (tmp_path / "events" / name / "enable").write_text("0")
    return tmp_path


def test_raw_system_calls_take_the_place_of_missing_events(folder: Path) -> None:
    """Without syscalls:* the raw events are recorded, filtered by the numbers of this architecture, and it is said."""
    chosen = choose(Events.of(folder), "x86_64", ())
    numbers = {call.number for name in SYSCALLS if (call := call_of_name("x86_64", name)) is not None}
    text = chosen.events["raw_syscalls/sys_enter"]
    assert {int(part.removeprefix("id == ")) for part in text.split(" || ")} == numbers
    assert chosen.events["raw_syscalls/sys_exit"] == text
    assert "raw_syscalls is recorded" in chosen.notes[0]


@pytest.mark.parametrize("machine", ["riscv64", "x86_64"])
def test_no_system_calls_at_all(folder: Path, machine: str) -> None:
    """An architecture whose numbers are not known, or a kernel without any such events, is said to lack exit codes."""
    events = Events.of(folder)
    if machine == "x86_64":
        events.all = [e for e in events.all if not e.startswith("raw_")]
    chosen = choose(events, machine, ())
    assert not any("sys" in e.split("/")[0] for e in chosen.events)
    assert "exit codes" in chosen.notes[0]


def test_a_kernel_without_scheduler_events(folder: Path) -> None:
    """Without sched_switch nothing is recorded by default; what is there may still be asked for."""
    events = Events.of(folder)
    events.all.remove("sched/sched_switch")
    with pytest.raises(UsageError, match="has no event sched:sched_switch"):
        choose(events, "x86_64", ())
    assert choose(events, "x86_64", ["task"]).events == {"task/task_newtask": ""}


def test_the_list_of_events_is_taken_where_there_is_one(folder: Path) -> None:
    """available_events is as good as looking into every folder, and faster."""
    by_folder = Events.of(folder).all
    (folder / "available_events").write_text("".join(f"{n.replace('/', ':')}\n" for n in NAMES.split()))
    assert Events.of(folder).all == by_folder


def test_the_tracers_own_events_are_none(folder: Path) -> None:
    """The formats of ftrace's own records are no events that could be enabled."""
    with pytest.raises(UsageError, match="no event 'function'"):
        choose(Events.of(folder), "x86_64", ["function"])


@pytest.mark.parametrize(("spec", "event", "text"), [
    ("sched:sched_waking:pid > 5", "sched/sched_waking", "pid > 5"),
    ("sched_waking:pid > 5", "sched/sched_waking", "pid > 5"),
    ("sched_waking:comm == \"a:b\"", "sched/sched_waking", "comm == \"a:b\""),
    ("sched/sched_waking", "sched/sched_waking", ""),
    (" sched_wak*:pid==1 ", "sched/sched_waking", "pid==1"),
])
def test_event_and_filter_are_told_apart(folder: Path, spec: str, event: str, text: str) -> None:
    """What follows the event after a colon is its filter, colons in it included."""
    assert choose(Events.of(folder), "x86_64", [spec]).events == {event: text}


def test_two_filters_of_an_event_are_not_guessed_at(folder: Path) -> None:
    """Two filters for one event are refused, with the way to join them."""
    with pytest.raises(UsageError, match=r"join them: \(…\) && \(…\)"):
        choose(Events.of(folder), "x86_64", ["sched_waking:pid==1", "sched:sched_wak*:pid==2"])


def test_a_trigger_of_the_user_replaces_ours(folder: Path) -> None:
    """The kernel takes one trigger of a kind and event: that of --trigger."""
    chosen = choose(Events.of(folder), "x86_64", (), triggers=["signal_generate:stacktrace if sig == 9"])
    assert [c for e, c in chosen.triggers if e == "signal/signal_generate"] == ["stacktrace if sig == 9"]


def test_events_about_others_go_to_the_second_instance(folder: Path) -> None:
    """Signals and releases are recorded apart, with their triggers, unless the user set a trigger there."""
    chosen = choose(Events.of(folder), "x86_64", ())
    other = apart(chosen, ())
    assert set(other.events) == {"signal/signal_generate", "sched/sched_process_free"}
    assert {e for e, _ in other.triggers} == set(other.events)
    assert not {e for e, _ in chosen.triggers} & set(other.events)
    asked = ["signal_generate:traceoff"]
    chosen = choose(Events.of(folder), "x86_64", (), triggers=asked)
    assert set(apart(chosen, asked).events) == {"sched/sched_process_free"}


def test_the_last_words_of_the_kernel() -> None:
    """Of the kernel's log of errors the last entry is shown, with its mark; no log is no words."""
    log = ("[  1.5] event filter parse error: error: Old\n  Command: a\n           ^\n"
           "[ 33.25] event filter parse error: error: Field not found\n  Command: b == 3\n           ^\n")
    assert told(KernelRefusedError("", log)) == (
        "\n  event filter parse error: error: Field not found\n    Command: b == 3\n             ^")
    assert told(KernelRefusedError("")) == ""


# ---- probes ----------------------------------------------------------------------------------------------

@pytest.fixture
def tracefs(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tracefs:
    """Make what looks like a tracefs whose kernel has kprobes and the function tracer."""
    (tmp_path / "instances").mkdir()
    (tmp_path / "kprobe_events").write_text("")
    (tmp_path / "available_tracers").write_text("function nop\n")
    (tmp_path / "available_filter_functions").write_text("kernel_clone\ndo_exit\n__x64_sys_kill\n")
    (tmp_path / "set_ftrace_filter").write_text("")
    return Tracefs(tmp_path)


@pytest.fixture
def instance(tracefs: Tracefs, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """Make what looks like an instance of it."""
    made: list[Path] = []
    before = Path.mkdir

    def mkdir(self: Path, *args: object, **more: object) -> None:
        before(self)
        if self.parent.name == "instances":
            made.append(self)
            for name in ("tracing_on", "trace_marker", "set_ftrace_filter", "current_tracer", "error_log"):
                (self / name).write_text("")
            (self / "options").mkdir()
            (self / "options/func_stack_trace").write_text("0")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    return Instance(tracefs)


def test_a_kprobe_and_its_condition(tracefs: Tracefs, instance: Instance) -> None:
    """A probe is a kprobe of our own, with what the condition needs, a filter and a stack, and is removed after."""
    said: list[str] = []
    probes = Probes(tracefs, said.append)
    group = f"taskscope_{os.getpid()}_{start_time(os.getpid())}"
    event = instance.path / "events" / group / "kernel_clone"
    os.makedirs(event)  # noqa: PTH103  the fixture counts on Path.mkdir
    for name in ("filter", "trigger", "enable"):
        (event / name).write_text("")
    chosen = Chosen()
    probes.set_up(instance, ["_do_fork:comm == \"sh\" && arg1 > 0"], (), chosen)
    definition = (tracefs.path / "kprobe_events").read_text()
    assert definition == f"p:{group}/kernel_clone kernel_clone comm=$comm:string arg1=$arg1:u64\n"
    assert (event / "filter").read_text() == "comm == \"sh\" && arg1 > 0"
    assert (event / "trigger").read_text() == "stacktrace if comm == \"sh\" && arg1 > 0"
    assert (event / "enable").read_text() == "1"
    assert chosen.triggers[0][0] == f"{group}/kernel_clone"
    assert said == ["_do_fork is called kernel_clone in this kernel (since v5.10)"]
    probes.remove()
    assert (tracefs.path / "kprobe_events").read_text() == definition + f"-:{group}/kernel_clone\n"


def test_probes_of_the_dead_are_removed(tracefs: Tracefs) -> None:
    """Kprobes that a killed recorder left are removed; those of a living one and of others stay."""
    mine = f"taskscope_{os.getpid()}_{start_time(os.getpid())}"
    before = f"p:{mine}/do_exit do_exit\np:taskscope_4194300_77/do_exit do_exit\np:other/x do_exit\n"
    (tracefs.path / "kprobe_events").write_text(before)
    remove_probes(tracefs)
    assert (tracefs.path / "kprobe_events").read_text() == before + "-:taskscope_4194300_77/do_exit\n"


def test_functions_are_written_to_the_filter(tracefs: Tracefs, instance: Instance) -> None:
    """-l puts the function's name in this kernel into the instance's filter and switches the function tracer on."""
    said: list[str] = []
    Probes(tracefs, said.append).set_up(instance, (), ["sys_kill"], Chosen())
    assert "__x64_sys_kill" in (instance.path / "set_ftrace_filter").read_text()
    assert "function" in (instance.path / "current_tracer").read_text()
    assert said == ["sys_kill is called __x64_sys_kill in this kernel"]


def test_a_probe_by_the_function_tracer(tracefs: Tracefs, instance: Instance) -> None:
    """Where there are no kprobes a probe without a condition is the function tracer with stacks."""
    (tracefs.path / "kprobe_events").unlink()
    probes = Probes(tracefs, lambda _: None)
    probes.set_up(instance, ["do_exit"], (), Chosen())
    assert probes.function_stacks
    assert (instance.path / "options/func_stack_trace").read_text() == "1"


@pytest.mark.parametrize("text", ["", "a b", "do_exit; rm", ":x"])
def test_what_is_no_probe(tracefs: Tracefs, instance: Instance, text: str) -> None:
    """A probe is a function's name and a condition."""
    with pytest.raises(UsageError, match="is none; it is FUNC"):
        Probes(tracefs, lambda _: None).set_up(instance, [text], (), Chosen())


# ---- instances, users ------------------------------------------------------------------------------------

def test_only_instances_of_the_dead_are_stale(tmp_path: Path) -> None:
    """An instance is stale if its name is a recorder's and that process, told by pid and start, is gone."""
    tracefs = Tracefs(tmp_path)
    me, mine = os.getpid(), start_time(os.getpid())
    names = [f"taskscope-{me}-{mine}-abcdef", f"taskscope-{me}-1-abcdef", "taskscope-4194300-77-abcdefm", "other",
             "taskscope-test-5-abcdef", "taskscope-4194300-77-abcdef-x"]
    for name in names:
        (tmp_path / "instances" / name).mkdir(parents=True)
    assert {p.name for p in stale_instances(tracefs)} == set(names[1:3])
    assert set(remove_stale(tracefs)) == set(names[1:3])
    assert tracefs.made
    assert len(list((tmp_path / "instances").iterdir())) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a caller of sudo")
@pytest.mark.parametrize(("environ", "uid"), [
    ({}, None), ({"SUDO_UID": "0", "SUDO_GID": "0"}, None), ({"SUDO_UID": "x"}, None), ({"SUDO_UID": "-1"}, None),
    ({"SUDO_UID": "99999999999"}, None), ({"SUDO_UID": "54321", "SUDO_GID": "54322", "SUDO_USER": "gone"}, 54321),
])
def test_who_called_sudo(environ: dict[str, str], uid: int | None) -> None:
    """The caller is who SUDO_UID says, an account or not; root and nonsense are nobody."""
    user = calling_user(environ)
    assert (user.uid if user else None) == uid
    if user:
        assert (user.name, user.gid) == ("gone", 54322)
        env = environment(user, {**environ, "PATH": "/bin", "HOME": "/root"})
        assert env["USER"] == "gone"
        assert not any(key.startswith("SUDO_") for key in env)


@pytest.mark.parametrize("name", ["", "no-such-user", "-1", "99999999999999999999"])
def test_a_user_that_is_not_there(name: str) -> None:
    """--user takes accounts of this machine."""
    with pytest.raises(UsageError, match="there is no such user"):
        named_user(name)

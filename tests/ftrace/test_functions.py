"""Finding a kernel function under the name that this kernel has for it, and telling whether it can be traced."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi.renames import RENAMES, counterparts, fold_syscall
from taskscope.errors import UsageError
from taskscope.ftrace.functions import (
    Found,
    Support,
    find_function,
    function_tracer,
    functions_of,
    kprobes,
    read_functions,
    stack_triggers,
    syscall_events,
)

TRACEFS = Path("/sys/kernel/tracing")
needs_tracefs = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0 or not (TRACEFS / "events").exists(),
                                                      reason="needs root and a tracefs at /sys/kernel/tracing")]
FUNCTIONS = sorted({n for r in RENAMES if r.kind == "function" for n in (r.old, r.new)})
NAME = st.from_regex(r"[a-z_][a-z0-9_]{2,20}", fullmatch=True)


@pytest.fixture(scope="module")
def here() -> frozenset[str]:
    """Return the functions of the kernel that runs the tests."""
    return functions_of(Path("/proc/kallsyms").read_bytes())


@pytest.mark.parametrize(("asked", "there", "found", "said"), [
    ("_do_fork", ["kernel_clone"], ("kernel_clone",), "_do_fork is called kernel_clone in this kernel (since v5.10)"),
    ("do_fork", ["kernel_clone"], ("kernel_clone",), "do_fork is called kernel_clone in this kernel (since v5.10)"),
    ("kernel_clone", ["_do_fork", "do_fork"], ("_do_fork",),
     "kernel_clone is called _do_fork in this kernel (before v5.10)"),
    ("kernel_clone", ["do_fork"], ("do_fork",), "kernel_clone is called do_fork in this kernel (before v4.2)"),
    ("_do_fork", ["_do_fork", "kernel_clone"], ("_do_fork",), None),
    ("do_exit", ["do_exit"], ("do_exit",), None),
    ("send_signal", ["send_signal_locked.isra.0"], ("send_signal_locked.isra.0",),
     "send_signal is called send_signal_locked.isra.0 in this kernel (since v5.19)"),
    ("wait_consider_task", ["wait_consider_task.part.0", "wait_consider_task.constprop.0"],
     ("wait_consider_task.constprop.0", "wait_consider_task.part.0"),
     ("wait_consider_task is called wait_consider_task.constprop.0 and wait_consider_task.part.0 in this kernel "
      "(copies that the compiler made)")),
    ("do_exit.isra.0", ["do_exit"], ("do_exit",), "do_exit.isra.0 is called do_exit in this kernel"),
    ("sys_clone", ["__ia32_sys_clone", "__do_sys_clone", "__x64_sys_clone", "__se_sys_clone", "__x64_sys_clone3"],
     ("__x64_sys_clone",), "sys_clone is called __x64_sys_clone in this kernel"),
    ("__x64_sys_clone", ["__arm64_sys_clone", "__do_sys_clone"], ("__arm64_sys_clone",),
     "__x64_sys_clone is called __arm64_sys_clone in this kernel"),
    ("__arm64_sys_kill", ["SyS_kill", "sys_kill"], ("sys_kill",),
     "__arm64_sys_kill is called sys_kill in this kernel"),
    ("sys_wait4", ["__do_sys_wait4.isra.0"], ("__do_sys_wait4.isra.0",),
     "sys_wait4 is called __do_sys_wait4.isra.0 in this kernel"),
    ("compat_sys_wait4", ["__x64_sys_wait4", "__ia32_compat_sys_wait4"], ("__ia32_compat_sys_wait4",),
     "compat_sys_wait4 is called __ia32_compat_sys_wait4 in this kernel"),
])
def test_a_function_is_found_under_the_name_that_is_there(asked: str, there: list[str], found: tuple[str, ...],
                                                          said: str | None) -> None:
    """The name of another version or architecture leads to this kernel's, and a sentence says so."""
    assert find_function(asked, there) == Found(found, said)


def test_globs_give_all_that_match() -> None:
    """A glob gives every function that matches, as set_ftrace_filter takes it, and says nothing."""
    names = {"do_exit", "do_group_exit", "release_task", "do_exit2"}
    assert find_function("do_*exit", names).names == ("do_exit", "do_group_exit")
    assert find_function("do_exi?", names).names == ("do_exit",)
    assert find_function("[dr]*_[et]*", names) == Found(("do_exit", "do_exit2", "do_group_exit", "release_task"), None)
    with pytest.raises(UsageError, match="no function of this kernel matches 'xyz"):
        find_function("xyz*", names)


@pytest.mark.parametrize(("asked", "near"), [
    ("do_exi", "do_exit"), ("wake_up_new_taks", "wake_up_new_task"), ("dofork", "kernel_clone"),
    ("do_exit_group", "do_group_exit"), ("state", None), ("", None), ("PF_MEMALLOC_PIN", None)])
def test_a_function_that_is_not_there_is_a_usage_error(asked: str, near: str | None) -> None:
    """What no kernel has is a UsageError with what comes near; renamed fields and flags are no functions."""
    names = {"do_exit", "kernel_clone", "wake_up_new_task", "do_group_exit", "__state"}
    with pytest.raises(UsageError, match="has no function") as error:
        find_function(asked, names)
    if near:
        assert near in str(error.value)
    assert asked != "state" or "since" not in str(error.value)


@settings(deadline=None)
@given(asked=st.one_of(NAME, st.sampled_from(FUNCTIONS)), others=st.sets(st.one_of(NAME, st.sampled_from(FUNCTIONS))))
def test_what_is_there_is_taken_and_what_is_found_is_there(asked: str, others: set[str]) -> None:
    """A name that is there is found as it is; whatever is found is there and is the same function."""
    assert find_function(asked, others | {asked}) == Found((asked,), None)
    try:
        found = find_function(asked, others)
    except UsageError:
        assert not others & {asked, *(counterparts(asked) if asked in FUNCTIONS else ())}
        return
    assert set(found.names) <= others
    assert found.names
    if asked not in others:
        assert all(n in (found.said or "") for n in (asked, *found.names))
        for name in found.names:
            assert name in counterparts(asked) or fold_syscall(name) == fold_syscall(asked) is not None


@settings(deadline=None)
@given(call=NAME, pair=st.permutations(["sys_{}", "__x64_sys_{}", "__arm64_sys_{}", "__se_sys_{}", "__do_sys_{}",
                                        "SyS_{}", "__s390x_sys_{}", "__riscv_sys_{}"]))
def test_all_names_of_a_system_call_lead_to_each_other(call: str, pair: list[str]) -> None:
    """Whichever wrapper of a system call is asked for, one that is there is found."""
    asked, there = pair[0].format(call), pair[1].format(call)
    assert find_function(asked, {there, f"{there}x", "schedule"}).names == (there,)


@settings(deadline=None)
@given(st.text(max_size=30), st.sets(st.text(max_size=10)))
def test_any_text_is_answered(asked: str, names: set[str]) -> None:
    """Whatever is asked for is found or is a UsageError."""
    try:
        assert set(find_function(asked, names).names) <= names
    except UsageError:
        assert asked not in names


def test_functions_of_kallsyms() -> None:
    """Of kallsyms the functions are taken, with those of modules, without data and a compiler's padding."""
    text = (b"ffffffff81000000 T _stext\nffffffff81000010 t do_exit.cold\nffffffff81000020 W arch_fn\n"
            b"ffffffff81000030 D jiffies\nffffffff81000040 t __pfx_do_exit\nffffffffc0000000 t ext4_x\t[ext4]\n")
    assert functions_of(text) == {"_stext", "arch_fn", "ext4_x"}


def test_the_functions_of_this_kernel(here: frozenset[str]) -> None:
    """On the kernel that runs the tests the fork function is found under its old and its new name."""
    assert find_function("do_exit", here) == Found(("do_exit",), None)
    new, old = find_function("kernel_clone", here), find_function("_do_fork", here)
    assert new.names == old.names
    assert find_function("sys_clone", here).names[0].endswith("sys_clone")


# ---- what this kernel lets be traced: compared with trying it by hand ------------------------------------

class TestOnThisHost:
    """The answers for this host."""

    pytestmark = needs_tracefs

    @pytest.mark.parametrize("name", ["available_filter_functions", "set_ftrace_filter"])
    def test_the_function_tracer(self, name: str) -> None:
        """It is refused exactly if the shell is refused its files, with the errno of the kernel."""
        by_hand = subprocess.run(["head", "-c", "1", str(TRACEFS / name)], capture_output=True, check=False)
        answer = function_tracer(TRACEFS)
        if by_hand.returncode:
            assert not answer.works
            assert answer.error in (errno.EPERM, None)
        elif answer.works:
            assert "do_exit" in read_functions(TRACEFS)

    def test_syscall_events_and_triggers(self) -> None:
        """They are there exactly if their files say so."""
        assert syscall_events(TRACEFS).works == (TRACEFS / "events/syscalls/sys_enter_kill/enable").exists()
        text = subprocess.run(["cat", TRACEFS / "events/sched/sched_process_exit/trigger"], capture_output=True,
                              check=True).stdout
        if text.startswith(b"# Available triggers:"):
            assert stack_triggers(TRACEFS).works == (b"stacktrace" in text)

    def test_kprobes(self) -> None:
        """They are there exactly if the list of probes is."""
        assert kprobes(TRACEFS).works == (TRACEFS / "kprobe_events").exists() or kprobes(TRACEFS).error is not None

    def test_probing_changes_nothing(self) -> None:
        """No setting is another one afterwards."""
        def settings_now() -> dict[str, str]:
            found = {}
            for name in ("current_tracer", "set_event", "tracing_on", "trace_clock", "dynamic_events", "error_log",
                         "set_event_pid"):
                if (TRACEFS / name).exists():
                    found[name] = (TRACEFS / name).read_text()
            return found

        before = settings_now()
        for _ in range(3):
            function_tracer(TRACEFS), kprobes(TRACEFS), syscall_events(TRACEFS), stack_triggers(TRACEFS)
        assert settings_now() == before


# ---- states that this host does not have -----------------------------------------------------------------

def tracefs(folder: Path, tracers: str = "function_graph function nop", **files: str) -> Path:
    """Return a folder that looks like a tracefs."""
    (folder / "events/sched/sched_process_exit").mkdir(parents=True)
    (folder / "available_tracers").write_text(tracers + "\n")
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_a_kernel_that_can(tmp_path: Path) -> None:
    """Where the files are there and open, functions can be traced and probed."""
    t = tracefs(tmp_path, available_filter_functions="do_exit\nfoo [mod]\nbar (ffff)\n", set_ftrace_filter="",
                kprobe_events="p:user/probe do_exit\n")
    assert function_tracer(t) == Support(True, "functions can be traced")
    assert kprobes(t).works
    assert (t / "kprobe_events").read_text() == "p:user/probe do_exit\n"
    assert read_functions(t) == {"do_exit", "foo", "bar"}


def test_a_kernel_that_cannot(tmp_path: Path) -> None:
    """Each thing that a kernel can lack is named."""
    t = tracefs(tmp_path, "blk nop")
    assert "CONFIG_FUNCTION_TRACER" in function_tracer(t).why
    (t / "available_tracers").write_text("function nop\n")
    assert "CONFIG_DYNAMIC_FTRACE" in function_tracer(t).why
    assert "CONFIG_KPROBE_EVENTS" in kprobes(t).why
    assert "CONFIG_FTRACE_SYSCALLS" in syscall_events(t).why
    assert "no triggers" in stack_triggers(t).why
    (t / "events/raw_syscalls/sys_enter").mkdir(parents=True)
    assert "raw_syscalls" in syscall_events(t).why
    (t / "events/sched/sched_process_exit/trigger").write_text("# Available triggers:\n# traceon traceoff\n")
    assert not stack_triggers(t).works
    answer = function_tracer(t / "nowhere")
    assert not answer.works
    assert answer.error == errno.ENOENT


def test_trying_the_tracer_in_an_instance_is_taken_back(tmp_path: Path) -> None:
    """In an instance the tracer is set for one function and taken back; an instance that has none is told."""
    t = tracefs(tmp_path, available_filter_functions="do_exit [mod]\nfoo\n", set_ftrace_filter="")
    instance = t / "instances" / "mine"
    instance.mkdir(parents=True)
    assert "top-level buffer only" in function_tracer(t, instance).why
    (instance / "set_ftrace_filter").write_text("")
    (instance / "current_tracer").write_text("nop\n")
    assert function_tracer(t, instance).works
    assert (instance / "set_ftrace_filter").read_text() == "\n"
    assert (instance / "current_tracer").read_text() == "nop\n"
    (instance / "current_tracer").unlink()
    (instance / "current_tracer").mkdir()
    assert "current_tracer" in function_tracer(t, instance).why

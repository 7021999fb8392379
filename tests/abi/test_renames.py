"""Names that changed, and the many names of a system call's function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi.era import kernel_of
from taskscope.abi.renames import RENAMES, counterparts, fold, fold_syscall, renames_of
from taskscope.abi.sched import PROCESS_FLAGS

# A machine under load must not fail a test by being slow.
SETTINGS = settings(deadline=None)


def test_the_fork_function_is_found_under_all_its_names() -> None:
    """_do_fork and kernel_clone are one function."""
    assert counterparts("_do_fork") == ("do_fork", "kernel_clone")
    assert counterparts("kernel_clone") == ("do_fork", "_do_fork")
    assert counterparts("copy_process") == ()


def test_counterparts_are_mutual() -> None:
    """If A was once called B, then B is now called A; a name is not its own counterpart."""
    for name in {n for rename in RENAMES for n in (rename.old, rename.new)}:
        assert name not in counterparts(name)
        for other in counterparts(name):
            assert name in counterparts(other), (name, other)


def test_renames_are_well_formed() -> None:
    """Every rename gives a version, and a commit of at least 11 hexadecimal digits if it gives one."""
    for rename in RENAMES:
        kernel_of(rename.since)
        assert rename.commit is None or re.fullmatch(r"[0-9a-f]{11,40}", rename.commit)
        assert rename in renames_of(rename.old)
        assert rename in renames_of(rename.new)


def test_renamed_flags_are_in_the_tables() -> None:
    """A flag that was renamed stands in the table of flags under both names, with one value."""
    values: dict[str, set[int]] = {}
    for r in PROCESS_FLAGS:
        values.setdefault(r.name, set()).add(r.value)
    for rename in RENAMES:
        if rename.kind == "flag":
            assert values[rename.old] == values[rename.new]


@pytest.mark.parametrize(("symbol", "plain"), [
    ("__x64_sys_clone", "sys_clone"), ("__ia32_sys_exit", "sys_exit"), ("__arm64_sys_wait4", "sys_wait4"),
    ("__s390x_sys_kill", "sys_kill"), ("__s390_sys_kill", "sys_kill"), ("__se_sys_clone", "sys_clone"),
    ("___se_sys_clone", "sys_clone"), ("__do_sys_clone", "sys_clone"), ("SyS_clone", "sys_clone"),
    ("sys_clone", "sys_clone"), ("__riscv_sys_read", "sys_read"), ("__do_sys_vfork.isra.0", "sys_vfork"),
    ("__ia32_compat_sys_wait4", "compat_sys_wait4"), ("compat_SyS_ipc", "compat_sys_ipc"),
    ("__se_compat_sys_ioctl", "compat_sys_ioctl"), ("__x32_compat_sys_execve", "compat_sys_execve"),
    ("__x64_sys_exit_group", "sys_exit_group"),
])
def test_wrappers_fold_to_the_plain_name(symbol: str, plain: str) -> None:
    """Every wrapper of a system call's function folds to sys_x or compat_sys_x."""
    assert fold_syscall(symbol) == fold(symbol) == plain


@pytest.mark.parametrize("symbol", ["kernel_clone", "do_syscall_64", "ksys_read", "x64_sys_call", "sysfs_create_dir",
                                    "__sys_bind", "sys", "", "my_sys_clone", "do_sys_open"])
def test_other_functions_stay_as_they_are(symbol: str) -> None:
    """What is no system call's function is left alone."""
    assert fold_syscall(symbol) is None
    assert fold(symbol) == symbol


@SETTINGS
@given(st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True))
def test_folding_again_changes_nothing(call: str) -> None:
    """Folding is idempotent."""
    for prefix in ("__x64_sys_", "SyS_", "__se_compat_sys_", ""):
        assert fold(fold(prefix + call)) == fold(prefix + call)


def test_symbols_of_this_kernel_fold(data: Path) -> None:
    """Frames of recorded stacks that lie in a system call's function fold to a sys_ name."""
    text = (data / "d70-host618-kill9-stack" / "trace.txt").read_text(errors="replace")
    found = set(re.findall(r"=> (__\w+_sys_\w+)", text))
    assert found
    assert all((fold_syscall(symbol) or "").startswith("sys_") for symbol in found)

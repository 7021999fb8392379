"""The labs on real kernels, this host's and a guest's: each passes, fails if wrong, and is as on the model."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from taskscope.cli.main import cli
from taskscope.errors import TaskscopeError, UsageError
from taskscope.labs.catalog import TITLES, get
from taskscope.labs.guest.errors import GuestError
from taskscope.labs.lab import Run, run_lab, run_real
from taskscope.labs.on import compare_runs, places
from taskscope.labs.real import Real

ON_HOST = [name if name != "fork-gdb" else
           pytest.param(name, marks=pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed"))
           for name in TITLES if "host" in get(name).machines]
#: of the guest's labs, those that run here each time; tools/labs.py runs all, on each kernel
GUEST_CHECKED = ["raspbian-proc", "fork", "vfork", "clone-flags", "exec-whoami", "do-exit", "task-dead", "signals",
                 "parents", "task-struct", "tif-flags"]


@pytest.fixture(scope="module")
def host() -> Iterator[Real]:
    """Give this host as a machine for labs."""
    if os.geteuid() != 0:
        pytest.skip("labs on this host record its kernel, which needs root")
    from taskscope.labs.real.host import Host

    try:
        machine = Host()
    except TaskscopeError as error:
        pytest.skip(f"this host cannot be recorded: {error}")
    try:
        machine.program("raspbian_proc")
    except GuestError as error:
        pytest.skip(str(error))
    yield machine
    machine.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_signals_that_we_ignore_are_not_ignored_in_a_lab(
    host: Real, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lab that is started in the background, or by nohup, looks at tasks that ignore nothing all the same."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        told = host.type("grep SigIgn /proc/self/status").output.split()
        with monkeypatch.context() as patch:
            # As it is if they were ignored from the beginning.
            patch.setattr("taskscope.ftrace.record_child._ignored", frozenset({number}))
            recorded = host.record("grep SigIgn /proc/self/status").typed.output.split()
    finally:
        signal.signal(number, before)
    assert not int(told[1], 16) & 1 << number - 1
    assert not int(recorded[1], 16) & 1 << number - 1


@pytest.fixture(scope="module")
def guest() -> Iterator[Real]:
    """Give a guest as a machine for labs."""
    from taskscope.labs.real.in_guest import InGuest

    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    try:
        machine = InGuest("6.1")
        machine.program("raspbian_proc")
    except GuestError as error:
        pytest.skip(f"no guest here: {error}")
    yield machine
    machine.close()


def holds(run: Run) -> None:
    """Check that a lab has passed on a real kernel, and that the model shows the same."""
    assert run.passed, [f"{c.what}: {c.seen}" for c in run.checks if not c.passed]
    if run.kept and (model := run_lab(run.lab, run.flavour)).kept:
        found = compare_runs(model, run)
        assert found.verdict in ("equal", "allowed"), str(found)


@pytest.mark.real
@pytest.mark.parametrize("name", ON_HOST)
def test_lab_on_this_host(host: Real, name: str) -> None:
    """What the notes say is seen on this host's kernel, and the tasks do what they do on the model."""
    holds(run_real(get(name), host))


@pytest.mark.real
@pytest.mark.parametrize("name", GUEST_CHECKED)
def test_lab_in_a_guest(guest: Real, name: str) -> None:
    """What the notes say is seen on a kernel in QEMU, and the tasks do what they do on the model."""
    holds(run_real(get(name), guest))


@pytest.mark.real
@pytest.mark.parametrize("name", ON_HOST)
def test_wrong_expectation_is_noticed(host: Real, name: str) -> None:
    """With one expectation that is wrong a lab fails on a real kernel."""
    assert not run_real(get(name), host, wrong=True).passed


@pytest.mark.real
def test_what_keeps_nothing_is_not_compared(host: Real, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--on all`` of a lab that has no task of its own says so, and its exit code is that of its checks."""
    monkeypatch.setattr("taskscope.labs.on.places", lambda lab, on: ["model", "host"])
    done = CliRunner().invoke(cli, ["lab", "ps-ejH", "--on", "all", "-q"])
    assert f"B host ({host.release}): nothing to compare: no task of its own" in done.output
    assert done.exit_code == 0, done.output


def test_machines_of_a_lab(host: Real) -> None:
    """A lab says which machines it is for, and --on all means those."""
    assert places(get("raspbian-proc"), "all") == ["model", "host", "guest:6.1"]
    assert places(get("decode"), "all") == ["model"]
    with pytest.raises(UsageError, match="lab decode is not for host; it runs on model"):
        run_real(get("decode"), host)
    with pytest.raises(UsageError, match="model, host, guest, guest:KERNEL, dump:FILE or all"):
        places(get("decode"), "mars")

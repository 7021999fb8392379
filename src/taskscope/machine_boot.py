"""Booting a machine of the executable kernel: `boot`, which `taskscope.boot` calls.

Stands at the front door, as `taskscope.system` does: it joins the model and the schedules that people name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskscope.errors import UsageError
from taskscope.system import System

if TYPE_CHECKING:
    from taskscope.model.flavours import Flavour

#: ns of the machine's time
_BOOT_AT_MOST: Final = 60_000_000_000


def command_line(flavour: Flavour, preempt: str | None, threadirqs: bool) -> str:
    """Return the kernel's command line for these wishes.

    :raises UsageError: the kernel has no such preemption model, or cannot choose
    """
    words = []
    if preempt is not None:
        if preempt not in ("none", "voluntary", "full"):
            raise UsageError(f"preempt={preempt}: a kernel has none, voluntary or full")
        if flavour.switches.preempt_dynamic:
            words.append(f"preempt={preempt}")
        elif preempt != flavour.preempt:
            raise UsageError(
                f"preempt={preempt}: {flavour.name} is built with preempt={flavour.preempt}; kernels choose since v5.12"
            )
    return " ".join([*words, *(["threadirqs"] if threadirqs else [])])


def boot(cpus: int, flavour: str, hz: int | None, seed: int, mem: int, bare: bool, preempt: str | None,
         threadirqs: bool, schedule: str) -> System:
    """See `taskscope.boot`."""
    from taskscope.model import machine
    from taskscope.model.flavours import DEFAULT
    from taskscope.model.flavours import flavour as flavour_of
    from taskscope.model.include.linux.wait import waitqueue_active
    from taskscope.model.init import main
    from taskscope.schedules import order

    if not 1 <= cpus <= 64:
        raise UsageError(f"a machine has 1 to 64 CPUs, not {cpus}")
    if hz is not None and hz not in (100, 250, 300, 1000):
        raise UsageError(f"kernels are built with 100, 250, 300 or 1000 ticks a second, not {hz}")
    chosen = flavour_of(flavour or DEFAULT)
    hz = hz or chosen.hz
    one = None
    if schedule:
        if seed:
            raise UsageError(f"a seed is a schedule: boot() takes seed={seed} or schedule={schedule!r}, not both")
        asked = order(schedule)
        one, seed = asked.schedule, asked.seed
        mine = {"cpus": cpus, "flavour": chosen.name, "hz": hz, "mem": mem, "bare": bare, "preempt": preempt,
                "threadirqs": threadirqs}
        for name, value in asked.machine.items():
            if value != mine[name]:
                raise UsageError(f"{schedule} is of a machine with {name} {value}, this one has {mine[name]}")
    m = machine.Machine(chosen, cpus, hz, seed, mem, command_line(chosen, preempt, threadirqs), one)
    main.power_on(m, bare=bare)
    system = System(m)
    try:
        # Until pid 1 waits for something to do.
        while not (hasattr(m, "hostctl") and waitqueue_active(m.hostctl.wait)):
            system.step()
            if m.panicked is not None:
                raise AssertionError(f"the kernel panicked: {m.panicked}")
            if m.now > _BOOT_AT_MOST:
                raise AssertionError(f"init does not wait for work after {m.now / 1e9:.0f} s: the boot hangs")
    except BaseException:
        system.close()
        raise
    return system

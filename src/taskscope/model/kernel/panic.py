"""The end of the machine, and its near misses: kernel/panic.c, v4.19 to v6.18: panic(), oopses, taints."""

from __future__ import annotations

import random
from typing import Final, NoReturn

import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sysctl as sysctl
import taskscope.model.lib.dump_stack as dump_stack_
from taskscope.model import machine

TAINT_DIE: Final = 7
TAINT_WARN: Final = 9
TAINT_SOFTLOCKUP: Final = 14
#: the letters of the taint flags by number; the first is P, or G where it is not set
_FLAGS: Final = "PFSRMBUDAWCIOELKXTNJ"
#: names of those that something here sets (v6.11: print_tainted_verbose())
_NAMES: Final = {TAINT_DIE: "DIE", TAINT_WARN: "WARN", TAINT_SOFTLOCKUP: "SOFTLOCKUP"}


class PanicState:
    """The variables of this file."""

    __slots__ = (
        "die_counter", "oops_count", "oops_id", "oops_in_progress", "oops_limit", "panic_on_oops", "tainted_mask",
    )

    def __init__(self) -> None:
        self.panic_on_oops = 0
        self.tainted_mask = 0
        self.oops_in_progress = 0               # kernel/printk/printk.c
        self.oops_id = 0                        # until v5.17: a number for all oopses of a boot
        self.die_counter = 0                    # arch/*/kernel: how many there were
        self.oops_count = 0                     # kernel/exit.c, v6.2
        self.oops_limit = 10000


def panic_state() -> PanicState:
    """Return the variables; made at the first call."""
    cur = machine.cur
    found: PanicState | None = cur.__dict__.get("oops")
    if found is None:
        found = cur.oops = PanicState()
    return found


def panic(fmt: str) -> NoReturn:
    """Say why and halt for ever: no CPU runs any more, and `Machine.panicked` holds the message.

    Context: any.
    """
    m = machine.cur
    text = fmt.rstrip("\n")
    m.panicked = text
    printk_.printk(f"<0>Kernel panic - not syncing: {text}\n")
    # Avoid nested stack-dumping if a panic occurs during oops processing (CONFIG_DEBUG_BUGVERBOSE)
    state = panic_state()
    if not state.tainted_mask >> TAINT_DIE & 1 and state.oops_in_progress <= 1:
        dump_stack_.dump_stack()
    # Not modelled: panic notifiers, kexec, reboot after a timeout.  The other CPUs are stopped by never being resumed.
    printk_.printk(f"<0>---[ end Kernel panic - not syncing: {text} ]---\n")
    for cpu in m.cpus:
        cpu.irqs_off = True
    m.stop()
    while True:
        m.hub.switch()
        m.stop()


def kernel_panic_sysctls_init() -> int:
    """Make the files of /proc/sys/kernel."""
    state = panic_state()
    sysctl.register_sysctl("kernel/panic_on_oops", state, "panic_on_oops")
    sysctl.register_sysctl("kernel/tainted", state, "tainted_mask")
    if machine.cur.flavour.version >= (5, 17):
        sysctl.register_sysctl("kernel/oops_limit", state, "oops_limit")
    return 0


# ---- taints -----------------------------------------------------------------------------------------------

def add_taint(flag: int) -> None:
    """Remember that something has happened after which reports of this kernel are to be read with care."""
    panic_state().tainted_mask |= 1 << flag


def print_tainted() -> str:
    """Return the taints as letters, or that there are none."""
    mask = panic_state().tainted_mask
    if not mask:
        return "Not tainted"
    version = machine.cur.flavour.version
    # 18 flags until v5.17; TAINT_TEST came with v5.18, TAINT_FWCTL with v6.15
    count = 18 if version < (5, 18) else 19 if version < (6, 15) else 20
    letters = [letter if mask >> n & 1 else "G" if n == 0 else " " for n, letter in enumerate(_FLAGS[:count])]
    return "Tainted: " + "".join(letters)


def print_tainted_verbose() -> str:
    """Return the taints by name."""
    mask = panic_state().tainted_mask
    return "Tainted: " + ", ".join(f"[{_FLAGS[n]}]={name}" for n, name in _NAMES.items() if mask >> n & 1)


# ---- oops -------------------------------------------------------------------------------------------------

def oops_enter() -> None:
    """Begin an oops: it must get out, whatever locks of the console are held."""
    # Not modelled: tracing_off(), debug_locks_off(), do_oops_enter_exit() with pause_on_oops.
    panic_state().oops_in_progress += 1


def print_oops_end_marker() -> None:
    """Print the line that ends an oops."""
    state = panic_state()
    if machine.cur.flavour.version < (5, 17) and not state.oops_id:
        # init_oops_id(): random, so that two reports of one boot can be told from those of two
        state.oops_id = random.Random(machine.cur.seed).getrandbits(64)
    printk_.printk(f"<4>---[ end trace {state.oops_id:016x} ]---\n")


def oops_exit() -> None:
    """End an oops."""
    state = panic_state()
    state.oops_in_progress -= 1
    if machine.cur.flavour.version < (5, 17) and state.oops_id:
        state.oops_id += 1
    print_oops_end_marker()


def print_modules() -> None:
    """Print which modules are loaded (kernel/module.c)."""
    names: list[str] = machine.cur.__dict__.get("modules", [])
    printk_.printk(f"<4>Modules linked in:{''.join(' ' + name for name in names)}\n")

"""Access of kernel code to memory by address: READ_ONCE() and WRITE_ONCE() of include/linux/compiler.h, v4.19.

Kernel code of the model holds references, which cannot be bad.  Where C code follows a pointer that may be, it is an
address: what stands there is in ``machine.cur.memory``, and an address that the page tables do not have is a fault of
the CPU, as in C: the architecture's handler is entered (`Machine.abort`), prints an oops and ends the task.  A mistake
in the model itself is a Python exception and never that.
"""

from __future__ import annotations

from typing import Any

from taskscope.model import machine


def READ_ONCE(address: int) -> Any:
    """Load from an address of the kernel."""
    m = machine.cur
    if address in m.memory:
        return m.memory[address]
    assert not _mapped(address), f"{address:#x} is memory of which the model keeps no contents"
    m.abort(address, False)
    raise AssertionError(f"a bad pointer {address:#x} was followed, and the task lives")


def WRITE_ONCE(address: int, value: Any) -> None:
    """Store to an address of the kernel."""
    m = machine.cur
    if address in m.memory or _mapped(address):
        m.memory[address] = value
        return
    m.abort(address, True)
    raise AssertionError(f"a bad pointer {address:#x} was followed, and the task lives")


def _mapped(address: int) -> bool:
    # the direct mapping of all memory
    m = machine.cur
    return m.flavour.page_offset <= address < m.flavour.page_offset + m.mem

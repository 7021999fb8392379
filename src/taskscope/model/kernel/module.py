"""Loading modules: kernel/module.c, v4.19.

A module of the model is code that is there and does nothing until a file of /lib/modules is given to finit_module(2);
that file names it.  ``/bin/insmod`` does so.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EBADF, EEXIST, ENOEXEC, EPERM
from typing import Any, Final

import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.fs.super as super_
import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.printk as printk_
from taskscope.model import machine

TAINT_CRAP: Final = 10
TAINT_OOT_MODULE: Final = 12


class Module:
    """struct module: what a module's file says."""

    __slots__ = ("init", "intree", "name", "staging")

    def __init__(self, name: str, init: Callable[[], int], intree: bool = True, staging: bool = False) -> None:
        self.name = name
        self.init = init
        self.intree = intree                    # built with the kernel
        self.staging = staging


def modules_init() -> int:
    """Put the modules of this kernel into /lib/modules, and make /proc/modules."""
    import taskscope.model.drivers.misc.lkdtm.core as lkdtm
    import taskscope.model.drivers.staging.android.lowmemorykiller as lowmemorykiller

    m = machine.cur
    m.modules = []
    modules = [Module("lkdtm", lkdtm.lkdtm_module_init)]
    # The driver left the kernel with v4.12; what the notes show of it is of v3.7, here as a module out of the tree.
    if m.flavour.version < (5, 0):
        modules.append(Module("lowmemorykiller", lowmemorykiller.lowmem_init, intree=False, staging=True))
    for module in modules:
        inode = super_.kern_file(f"/lib/modules/{m.flavour.release}/{module.name}.ko", b"\x7fELF")
        inode.i_private = module
    proc_inode.proc_create("modules", 0o444, modules_show)
    return 0


def modules_show(private: Any) -> str:
    """/proc/modules: what is loaded, the last one first."""
    del private
    return "".join(f"{name} 16384 0 - Live 0x00000000\n" for name in machine.cur.modules)


def load_module(module: Module) -> int:
    """Load a module: 0 or a negative errno."""
    m = machine.cur
    if module.name in m.modules:
        return -EEXIST
    # check_modinfo()
    mask = panic_.panic_state().tainted_mask
    if not module.intree:
        if not mask >> TAINT_OOT_MODULE & 1:
            printk_.printk(f"<4>{module.name}: loading out-of-tree module taints kernel.\n")
        panic_.add_taint(TAINT_OOT_MODULE)
    if module.staging:
        panic_.add_taint(TAINT_CRAP)
        printk_.printk(f"<4>{module.name}: module is from the staging directory, the quality is unknown, you have been "
                       "warned.\n")
    m.modules.insert(0, module.name)
    ret = module.init()
    if ret:
        m.modules.remove(module.name)
    return ret


def sys_finit_module(fd: int, uargs: Any, flags: int) -> int:
    """finit_module(2)."""
    del uargs, flags
    current = machine.cur.cpu.curr
    if current.cred.euid:
        return -EPERM
    files = current.files.fd
    file = files[fd] if 0 <= fd < len(files) else None
    if file is None:
        return -EBADF
    module = file.f_inode.i_private
    return load_module(module) if isinstance(module, Module) else -ENOEXEC

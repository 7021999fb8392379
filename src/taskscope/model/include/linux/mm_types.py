"""mm_struct and its areas: include/linux/mm_types.h, v4.19; what programs in Python need of an address space.

The areas are accounted for as a static program has them; what stands in them is Python's, except for the words that
system calls write (`taskscope.model.include.linux.uaccess.Word`).
"""

from __future__ import annotations

from typing import Any


class VmArea:
    """struct vm_area_struct: one area.  Never changed in place once it is in an mm."""

    __slots__ = ("file", "flags", "name", "rss", "vm_end", "vm_start")

    def __init__(self, vm_start: int, vm_end: int, flags: str, name: str, rss: int, file: Any = None) -> None:
        self.vm_start = vm_start
        self.vm_end = vm_end
        self.flags = flags                  # as in /proc/PID/maps: r-xp
        self.name = name
        self.rss = rss                      # pages that are present
        self.file = file


class MmStruct:
    """struct mm_struct."""

    __slots__ = (
        "address", "argv", "dumpable", "envp", "exe_file", "exe_name", "hiwater_rss", "mm_count", "mm_users", "mmap",
        "owner", "pgd",
        "pgd_order", "rss", "total_vm", "words",
    )

    def __init__(self, address: int, pgd: int, pgd_order: int) -> None:
        self.address = address
        self.pgd = pgd                      # page of the top-level page table
        self.pgd_order = pgd_order
        # atomic:
        self.mm_users = 1                   # tasks that run in it
        self.mm_count = 1                   # references to the structure; all users together are one
        # mmap_sem:
        self.mmap: list[VmArea] = []
        self.total_vm = 0                   # pages
        self.rss = 0                        # pages present
        self.hiwater_rss = 0
        self.words: dict[int, Any] = {}     # what system calls have written
        self.argv: list[str] = []
        self.envp: dict[str, str] = {}
        self.exe_file: Any = None
        self.exe_name = ""
        self.dumpable = 1                   # SUID_DUMP_USER
        self.owner: Any = None

    def __repr__(self) -> str:
        return f"<mm {self.address:#x} users {self.mm_users}>"

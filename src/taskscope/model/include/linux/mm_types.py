"""mm_struct, its areas and page tables: include/linux/mm_types.h, v4.19.

An area never changes in place once it is in an mm: mappings are replaced.  What stands in memory is Python's, except
for the words that system calls write (`taskscope.model.include.linux.uaccess.Word`); which pages are present, and where
they are in memory, is kept exactly.
"""

from __future__ import annotations

from typing import Any, Final

# indices of rss_stat
MM_FILEPAGES: Final = 0         # resident file mapping pages
MM_ANONPAGES: Final = 1         # resident anonymous pages
MM_SWAPENTS: Final = 2          # anonymous swap entries; nothing here is swapped
MM_SHMEMPAGES: Final = 3        # resident shared memory pages

VM_READ: Final = 0x1
VM_WRITE: Final = 0x2
VM_EXEC: Final = 0x4
VM_SHARED: Final = 0x8
VM_LOCKED: Final = 0x2000

#: the OOM killer has nothing to gain from this mm any more
MMF_OOM_SKIP: Final = 1 << 21
#: what an entry of a page table holds where a read found nothing: the page of zeros that all share
ZERO_PAGE: Final = 0


class Backing:
    """The object behind shared memory: struct inode of a file in shmem.  All mappings of it are at one address here."""

    __slots__ = ("pages", "users")

    def __init__(self) -> None:
        self.pages: dict[int, int] = {}             # by page number
        self.users = 1                              # areas that map it


class PageTable:
    """The entries that the page tables of an mm have for one area: addresses of pages, by page number.

    A fork makes all entries read-only on both sides.  As that says the same of each, the two sides keep one `PageTable`
    (``users``) until one of them writes: the copying and the marking is then done for the whole area.
    """

    __slots__ = ("backing", "forked", "kind", "pages", "protected", "users")

    def __init__(self, kind: int) -> None:
        self.kind = kind                            # MM_*: what its pages count as
        self.users = 1                              # mms whose area this is
        self.pages: dict[int, int] = {}
        self.protected: set[int] = set()            # entries that a write faults on
        self.forked = False                         # a fork has made all entries read-only
        self.backing: Backing | None = None         # of shared memory

    @property
    def present(self) -> int:
        """How many pages are counted in rss."""
        return len(self.pages) - sum(1 for page in self.pages.values() if page == ZERO_PAGE)


class VmArea:
    """struct vm_area_struct: one area.  Never changed in place once it is in an mm."""

    __slots__ = ("flags", "name", "table", "vm_end", "vm_start")

    def __init__(self, vm_start: int, vm_end: int, flags: str, name: str, table: PageTable) -> None:
        self.vm_start = vm_start
        self.vm_end = vm_end
        self.flags = flags                          # as in /proc/PID/maps: r-xp
        self.name = name
        self.table = table

    @property
    def nr_pages(self) -> int:
        """Its size in pages."""
        return self.vm_end - self.vm_start >> 12


class MmStruct:
    """struct mm_struct."""

    __slots__ = (
        "address", "argv", "brk", "dumpable", "envp", "exe_file", "exe_name", "flags", "hiwater_rss", "hiwater_vm",
        "mm_count", "mm_users", "mmap", "mmap_base", "owner", "pgd", "pgd_order", "rss_stat", "start_brk", "tables",
        "total_vm", "words",
    )

    def __init__(self, address: int, pgd: int, pgd_order: int) -> None:
        self.address = address
        self.pgd = pgd                      # page of the top-level page table
        self.pgd_order = pgd_order
        # atomic:
        self.mm_users = 1                   # tasks that run in it
        self.mm_count = 1                   # references to the structure; all users together are one
        self.flags = 0                      # MMF_*
        # mmap_sem:
        self.mmap: list[VmArea] = []
        self.mmap_base = 0                  # below it areas are placed, downwards
        self.start_brk = self.brk = 0
        self.total_vm = 0                   # pages
        self.hiwater_vm = 0
        # page_table_lock:
        self.rss_stat = [0, 0, 0, 0]        # by MM_*
        self.hiwater_rss = 0
        self.tables: dict[int, int] = {}    # pages of the lower page tables: by level << 56 | index
        self.words: dict[int, Any] = {}     # what system calls have written
        self.argv: list[str] = []
        self.envp: dict[str, str] = {}
        self.exe_file: Any = None
        self.exe_name = ""
        self.dumpable = 1                   # SUID_DUMP_USER
        self.owner: Any = None

    @property
    def rss(self) -> int:
        """Pages present: get_mm_rss()."""
        stat = self.rss_stat
        return stat[MM_FILEPAGES] + stat[MM_ANONPAGES] + stat[MM_SHMEMPAGES]

    def __repr__(self) -> str:
        return f"<mm {self.address:#x} users {self.mm_users}>"

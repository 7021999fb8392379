"""``thread_info.flags``: the TIF_* bits that the assembly at the kernel's edge looks at.

Every architecture numbers them itself, and renumbers them at will (arch/*/include/asm/thread_info.h; in 6.18 x86 and
s390 take the common ones from include/asm-generic/thread_info_tif.h).  `work_masks` gives the groups that decide
whether the way in and out of the kernel is short.  In 5.15 and later x86 and s390 keep the flags of system call entry
in a word of their own, ``thread_info.syscall_work``: `SYSCALL_WORK`.
"""

from __future__ import annotations

from typing import Final

from taskscope.abi.arch import Family
from taskscope.abi.era import DEFAULT, Names, Version, checked, row

_MEANINGS = {
    "TIF_31BIT": "31-bit program",
    "TIF_32BIT": "32-bit program",
    "TIF_ADDR32": "32-bit address space",
    "TIF_ASCE_PRIMARY": "the primary address space is the kernel's",
    "TIF_BLOCKSTEP": "single step by branches (DEBUGCTLMSR_BTF)",
    "TIF_BLOCK_STEP": "stepped by branches",
    "TIF_FORCED_TF": "the debugger, not the program, set TF",
    "TIF_FOREIGN_FPSTATE": "the CPU holds somebody else's FP state",
    "TIF_FREEZE": "to be frozen; no longer used",
    "TIF_FSCHECK": "check the address limit on return to user space",
    "TIF_GUARDED_STORAGE": "load the guarded storage control block",
    "TIF_IA32": "32-bit program",
    "TIF_IO_BITMAP": "has an I/O permission bitmap",
    "TIF_ISOLATE_BP": "run with isolated branch prediction",
    "TIF_ISOLATE_BP_GUEST": "run KVM guests with isolated branch prediction",
    "TIF_KERNEL_FPSTATE": "the kernel uses FP/SIMD on its behalf",
    "TIF_LAZY_MMU": "in lazy MMU mode",
    "TIF_LAZY_MMU_PENDING": "work to do at the end of lazy MMU mode",
    "TIF_LAZY_MMU_UPDATES": "updates the MMU lazily (paravirtualised)",
    "TIF_MEMDIE": "chosen by the OOM killer: may use the memory reserves",
    "TIF_MTE_ASYNC_FAULT": "asynchronous tag check fault (MTE)",
    "TIF_NEED_FPU_LOAD": "load the FP registers on return to user space",
    "TIF_NEED_RESCHED": "schedule() is due",
    "TIF_NEED_RESCHED_LAZY": "schedule() is due, at the latest at the next tick",
    "TIF_NOCPUID": "the CPUID instruction faults",
    "TIF_NOHZ": "tell context tracking about system calls (nohz_full)",
    "TIF_NOTIFY_RESUME": "task work to run on return to user space",
    "TIF_NOTIFY_SIGNAL": "task work to run, also out of a sleep",
    "TIF_NOTSC": "the RDTSC instruction faults",
    "TIF_PATCH_PENDING": "live patch to be applied",
    "TIF_PER_TRAP": "PER trap to be handled on return to user space",
    "TIF_PGSTE": "new address spaces get 4K page tables",
    "TIF_POLLING_NRFLAG": "idle, polling TIF_NEED_RESCHED: needs no interrupt",
    "TIF_RESTORE_SIGMASK": "restore the signal mask when no handler ran",
    "TIF_SECCOMP": "seccomp filters system calls",
    "TIF_SIGPENDING": "signal pending",
    "TIF_SINGLESTEP": "single step on return to user space",
    "TIF_SINGLE_STEP": "single stepped",
    "TIF_SLD": "restore split lock detection at a context switch",
    "TIF_SME": "uses the Scalable Matrix Extension",
    "TIF_SME_VL_INHERIT": "keep the SME vector length over execve",
    "TIF_SPEC_FORCE_UPDATE": "update the speculation MSR at a context switch",
    "TIF_SPEC_IB": "mitigate indirect branch speculation",
    "TIF_SPEC_L1D_FLUSH": "flush the L1 data cache when the address space changes",
    "TIF_SSBD": "speculative store bypass disabled",
    "TIF_SVE": "uses the Scalable Vector Extension",
    "TIF_SVE_VL_INHERIT": "keep the SVE vector length over execve",
    "TIF_SYSCALL_AUDIT": "audit system calls",
    "TIF_SYSCALL_EMU": "ptrace emulates system calls (PTRACE_SYSEMU)",
    "TIF_SYSCALL_TRACE": "ptrace stops at system calls",
    "TIF_SYSCALL_TRACEPOINT": "system call events are traced",
    "TIF_TAGGED_ADDR": "tagged user addresses are allowed",
    "TIF_TSC_SIGSEGV": "reading the counter raises SIGSEGV",
    "TIF_UPROBE": "uprobe hit, or single step over one",
    "TIF_UPROBE_SINGLESTEP": "single step over a uprobe",
    "TIF_USER_RETURN_NOTIFY": "callbacks on return to user space (KVM)",
    "TIF_USING_IWMMXT": "uses iWMMXt registers",
    "TIF_X32": "x32 program",
}

# Each line: bit number, name without TIF_, the checked kernels in which it has that bit (none: all).
_BITS: Final[dict[Family, str]] = {
    "arm": """
         0 SIGPENDING
         1 NEED_RESCHED
         2 NOTIFY_RESUME
         3 UPROBE
         4 SYSCALL_TRACE            4.9-5.10
         4 NOTIFY_SIGNAL            5.15-
         5 SYSCALL_AUDIT            4.9-5.10
         6 SYSCALL_TRACEPOINT       4.9-5.10
         7 SECCOMP                  4.9-5.10
        12 NOHZ                     4.9-5.4
        17 USING_IWMMXT
        18 MEMDIE
        19 RESTORE_SIGMASK          5.15-
        20 RESTORE_SIGMASK          4.9-5.10
        20 SYSCALL_TRACE            5.15-
        21 SYSCALL_AUDIT            5.15-
        22 SYSCALL_TRACEPOINT       5.15-
        23 SECCOMP                  5.15-
    """,
    "arm64": """
         0 SIGPENDING
         1 NEED_RESCHED
         2 NOTIFY_RESUME            4.9-6.12
         2 NEED_RESCHED_LAZY        6.18
         3 FOREIGN_FPSTATE          4.9-6.12
         3 NOTIFY_RESUME            6.18
         4 UPROBE                   4.14-6.12
         4 FOREIGN_FPSTATE          6.18
         5 FSCHECK                  4.14-5.10
         5 MTE_ASYNC_FAULT          5.15-6.12
         5 UPROBE                   6.18
         6 MTE_ASYNC_FAULT          5.10 6.18
         6 NOTIFY_SIGNAL            5.15-6.12
         7 NOHZ                     4.9-5.4
         7 NOTIFY_SIGNAL            6.18
         8 SYSCALL_TRACE
         9 SYSCALL_AUDIT
        10 SYSCALL_TRACEPOINT
        11 SECCOMP
        12 SYSCALL_EMU              5.4-
        13 PATCH_PENDING            6.18
        18 MEMDIE
        19 FREEZE
        20 RESTORE_SIGMASK
        21 SINGLESTEP
        22 32BIT
        23 SVE                      4.19-
        24 SVE_VL_INHERIT           4.19-
        25 SSBD                     4.19-
        26 TAGGED_ADDR              5.4-
        27 SME                      6.1-
        28 SME_VL_INHERIT           6.1-
        29 KERNEL_FPSTATE           6.12-
        30 TSC_SIGSEGV              6.12-
        31 LAZY_MMU                 6.18
        32 LAZY_MMU_PENDING         6.18
    """,
    "x86": """
         0 SYSCALL_TRACE            4.9-5.10
         0 NOTIFY_RESUME            6.18
         1 NOTIFY_RESUME            4.9-6.12
         1 SIGPENDING               6.18
         2 SIGPENDING               4.9-6.12
         2 NOTIFY_SIGNAL            6.18
         3 NEED_RESCHED             4.9-6.12
         3 MEMDIE                   6.18
         4 SINGLESTEP               4.9-6.12
         4 NEED_RESCHED             6.18
         5 SSBD                     4.19-6.12
         5 NEED_RESCHED_LAZY        6.18
         6 SYSCALL_EMU              4.9-5.10
         6 POLLING_NRFLAG           6.18
         7 SYSCALL_AUDIT            4.9-5.10
         7 USER_RETURN_NOTIFY       6.18
         8 SECCOMP                  4.9-5.10
         8 UPROBE                   6.18
         9 SPEC_IB                  4.19-6.12
         9 PATCH_PENDING            6.18
        10 SPEC_FORCE_UPDATE        4.19-5.10
        10 SPEC_L1D_FLUSH           5.15-6.12
        11 USER_RETURN_NOTIFY       4.9-6.12
        12 UPROBE                   4.9-6.12
        13 PATCH_PENDING            4.14-6.12
        14 NEED_FPU_LOAD            5.4-6.12
        15 NOCPUID                  4.14-6.12
        16 NOTSC                    4.9-6.12
        16 SSBD                     6.18
        17 IA32                     4.9-5.10
        17 NOTIFY_SIGNAL            5.15-6.12
        17 SPEC_IB                  6.18
        18 SLD                      5.10-5.15
        18 SPEC_L1D_FLUSH           6.18
        19 NOHZ                     4.9-5.4
        19 NEED_FPU_LOAD            6.18
        20 MEMDIE                   4.9-6.12
        20 NOCPUID                  6.18
        21 POLLING_NRFLAG           4.9-6.12
        21 NOTSC                    6.18
        22 IO_BITMAP
        23 SPEC_FORCE_UPDATE        5.15-
        24 FORCED_TF
        25 BLOCKSTEP                4.9-6.12
        25 SINGLESTEP               6.18
        26 BLOCKSTEP                6.18
        27 LAZY_MMU_UPDATES
        28 SYSCALL_TRACEPOINT       4.9-5.10
        28 ADDR32                   6.18
        29 ADDR32                   4.9-6.12
        30 X32                      4.9-5.10
        31 FSCHECK                  4.14-5.4
    """,
    "s390": """
         0 NOTIFY_RESUME
         1 SIGPENDING
         2 NEED_RESCHED             4.9-6.12
         2 NOTIFY_SIGNAL            6.18
         3 SYSCALL_TRACE            4.9
         3 UPROBE                   4.14-6.6
         3 NEED_RESCHED_LAZY        6.12
         3 MEMDIE                   6.18
         4 SYSCALL_AUDIT            4.9
         4 GUARDED_STORAGE          4.14-6.6
         4 UPROBE                   6.12
         4 NEED_RESCHED             6.18
         5 SECCOMP                  4.9
         5 PATCH_PENDING            4.14-6.12
         5 NEED_RESCHED_LAZY        6.18
         6 SYSCALL_TRACEPOINT       4.9
         6 PGSTE                    4.14-6.12
         7 UPROBE                   4.9
         7 NOTIFY_SIGNAL            5.15-6.12
         7 USER_RETURN_NOTIFY       6.18
         8 ISOLATE_BP               4.19-6.1
         8 GUARDED_STORAGE          6.12
         8 UPROBE                   6.18
         9 ISOLATE_BP_GUEST         4.19-6.12
         9 PATCH_PENDING            6.18
        10 PER_TRAP                 5.15-6.12
        10 RESTORE_SIGMASK          6.18
        16 31BIT                    4.9-6.12
        16 ASCE_PRIMARY             6.18
        17 MEMDIE                   4.9-6.12
        17 GUARDED_STORAGE          6.18
        18 RESTORE_SIGMASK          4.9-6.12
        18 ISOLATE_BP_GUEST         6.18
        19 SINGLE_STEP              4.9-6.12
        19 PER_TRAP                 6.18
        20 BLOCK_STEP               4.9-6.12
        20 31BIT                    6.18
        21 UPROBE_SINGLESTEP        4.9-6.12
        21 SINGLE_STEP              6.18
        22 BLOCK_STEP               6.18
        23 UPROBE_SINGLESTEP        6.18
        24 SYSCALL_TRACE            4.14-6.12
        25 SYSCALL_AUDIT            4.14-6.12
        26 SECCOMP                  4.14-6.12
        27 SYSCALL_TRACEPOINT       4.14-6.12
    """,
}

# Each line: name of the mask, the checked kernels that have it, the flags in it (a flag that such a kernel does not
# define counts as 0, as the kernel's own headers arrange).
_MASKS: Final[dict[Family, str]] = {
    "arm": """
        _TIF_SYSCALL_WORK 4.9- SYSCALL_TRACE SYSCALL_AUDIT SYSCALL_TRACEPOINT SECCOMP
        _TIF_WORK_MASK 4.9- NEED_RESCHED SIGPENDING NOTIFY_RESUME UPROBE NOTIFY_SIGNAL
    """,
    "arm64": """
        _TIF_SYSCALL_WORK 4.9- SYSCALL_TRACE SYSCALL_AUDIT SYSCALL_TRACEPOINT SECCOMP NOHZ SYSCALL_EMU
        _TIF_WORK_MASK 4.9- NEED_RESCHED NEED_RESCHED_LAZY SIGPENDING NOTIFY_RESUME FOREIGN_FPSTATE UPROBE FSCHECK \
            MTE_ASYNC_FAULT NOTIFY_SIGNAL PATCH_PENDING
    """,
    "x86": """
        _TIF_WORK_SYSCALL_ENTRY 4.9-5.4 SYSCALL_TRACE SYSCALL_EMU SYSCALL_AUDIT SECCOMP SYSCALL_TRACEPOINT NOHZ
        SYSCALL_ENTER_WORK 5.10 SYSCALL_TRACE SYSCALL_AUDIT SECCOMP SYSCALL_TRACEPOINT SYSCALL_EMU
        EXIT_TO_USERMODE_LOOP_FLAGS 4.9-5.4 SIGPENDING NOTIFY_RESUME UPROBE NEED_RESCHED USER_RETURN_NOTIFY \
            PATCH_PENDING
        EXIT_TO_USER_MODE_WORK 5.10- SIGPENDING NOTIFY_RESUME UPROBE NEED_RESCHED NEED_RESCHED_LAZY PATCH_PENDING \
            NOTIFY_SIGNAL
    """,
    "s390": """
        _TIF_TRACE 4.9-5.10 SYSCALL_TRACE SYSCALL_AUDIT SECCOMP SYSCALL_TRACEPOINT
        _TIF_WORK 4.9-5.10 SIGPENDING NOTIFY_RESUME NEED_RESCHED UPROBE GUARDED_STORAGE PATCH_PENDING
        EXIT_TO_USER_MODE_WORK 5.15-6.12 SIGPENDING NOTIFY_RESUME UPROBE NEED_RESCHED PATCH_PENDING NOTIFY_SIGNAL \
            GUARDED_STORAGE PER_TRAP
        EXIT_TO_USER_MODE_WORK 6.18 SIGPENDING NOTIFY_RESUME UPROBE NEED_RESCHED NEED_RESCHED_LAZY PATCH_PENDING \
            NOTIFY_SIGNAL GUARDED_STORAGE PER_TRAP
    """,
}


def _names(text: str) -> Names:
    rows = []
    for line in text.strip().splitlines():
        bit, name, *span = line.split()
        name = "TIF_" + name
        rows.append(row(name, 1 << int(bit), " ".join(span), _MEANINGS[name]))
    return Names("TIF_", rows)


#: architecture folder -> its flags, as bit values
THREAD_FLAGS: Final[dict[Family, Names]] = {family: _names(text) for family, text in _BITS.items()}


def work_masks(family: Family, kernel: Version = DEFAULT) -> dict[str, int]:
    """Return the masks that the kernel tests on its way in and out, by their names.

    On the way in: ``_TIF_SYSCALL_WORK`` and its like; before going back to user space: ``_TIF_WORK_MASK`` and its like.
    """
    bits = {r.name: r.value for r in THREAD_FLAGS[family].at(kernel)}
    masks = {}
    for line in _MASKS[family].strip().splitlines():
        mask, span, *flags = line.split()
        if checked(kernel) in row(mask, 0, span, "").kernels:
            masks[mask] = sum(bits.get("TIF_" + flag, 0) for flag in flags)
    return masks


#: ``thread_info.syscall_work`` (include/linux/thread_info.h)
SYSCALL_WORK: Final = Names("SYSCALL_WORK_", [
    row("SYSCALL_WORK_SECCOMP", 0x1, "5.15-", "seccomp filters system calls"),
    row("SYSCALL_WORK_SYSCALL_TRACEPOINT", 0x2, "5.15-", "system call events are traced"),
    row("SYSCALL_WORK_SYSCALL_TRACE", 0x4, "5.15-", "ptrace stops at system calls"),
    row("SYSCALL_WORK_SYSCALL_EMU", 0x8, "5.15-", "ptrace emulates system calls"),
    row("SYSCALL_WORK_SYSCALL_AUDIT", 0x10, "5.15-", "audit system calls"),
    row("SYSCALL_WORK_SYSCALL_USER_DISPATCH", 0x20, "5.15-", "system call user dispatch (prctl)"),
    row("SYSCALL_WORK_SYSCALL_EXIT_TRAP", 0x40, "5.15-", "single step trap at the end of a system call"),
])

"""Names of integer types that print formats cast to.

From include/linux/types.h, include/uapi/linux/types.h and fs/xfs/libxfs/xfs_types.h (v6.18).  The types that are as
wide as a ``long`` follow the recorded kernel.
"""

from __future__ import annotations

from taskscope.ftrace.printfmt.cint import CHAR, INT, LLONG, SHORT, UCHAR, UINT, ULLONG, USHORT, CInt

QUALIFIERS = frozenset({"const", "volatile", "static", "register", "__force", "__user", "__iomem", "__kernel",
                        "__rcu", "__bitwise", "__extension__"})
WORDS = frozenset({"unsigned", "signed", "int", "long", "char", "short", "void", "_Bool", "bool", "__signed__"})
TAGS = frozenset({"struct", "union", "enum"})
TYPEOF = frozenset({"typeof", "__typeof__", "__typeof", "typeof_unqual", "__auto_type", "__unqual_scalar_typeof"})

_OF: dict[CInt, str] = {
    UCHAR: "u8 __u8 uint8_t",
    CHAR: "s8 __s8 int8_t",
    USHORT: "u16 __u16 uint16_t __le16 __be16 umode_t __sum16",
    SHORT: "s16 __s16 int16_t",
    UINT: "u32 __u32 uint32_t __le32 __be32 dev_t uid_t gid_t kuid_t kgid_t gfp_t fmode_t slab_flags_t blk_opf_t "
          "req_flags_t __wsum blk_status_t __poll_t kprojid_t projid_t isolate_mode_t vm_fault_t uint xfs_agblock_t "
          "xfs_agnumber_t xfs_extlen_t xfs_nlink_t xfs_dahash_t",
    INT: "s32 __s32 int32_t pid_t clockid_t key_t",
    ULLONG: "u64 __u64 uint64_t __le64 __be64 sector_t blkcnt_t phys_addr_t resource_size_t dma_addr_t xfs_ino_t "
            "xfs_fsblock_t xfs_daddr_t xfs_fileoff_t xfs_rtblock_t xfs_lsn_t xfs_filblks_t",
    LLONG: "s64 __s64 int64_t loff_t ktime_t time64_t xfs_off_t xfs_fsize_t",
}
_NAMED = {name: type_ for type_, names in _OF.items() for name in names.split()}

#: as wide as a long; the value tells whether it is signed
_LONGS = {"size_t": False, "ssize_t": True, "ulong": False, "uintptr_t": False, "intptr_t": True, "ptrdiff_t": True,
          "off_t": True, "ino_t": False, "pgoff_t": False, "clock_t": True, "time_t": True, "pteval_t": False,
          "pgdval_t": False, "pfn_t": False}


def is_named(name: str) -> bool:
    """Tell whether a name is that of a type."""
    return name in _NAMED or name in _LONGS


def named(name: str, long_size: int) -> CInt | None:
    """Return the type of that name, None if it is not known."""
    if name in _LONGS:
        return CInt(long_size, _LONGS[name])
    return _NAMED.get(name)


def spelled(words: list[str], long_size: int) -> CInt | None:
    """Return the type that C's own words spell (``unsigned long long``); None for void."""
    if "void" in words:
        return None
    signed = "unsigned" not in words
    if "char" in words:
        return CInt(1, signed)
    if "short" in words:
        return CInt(2, signed)
    if "_Bool" in words or "bool" in words:
        return UCHAR
    longs = words.count("long")
    return CInt(8 if longs > 1 else long_size if longs else 4, signed)

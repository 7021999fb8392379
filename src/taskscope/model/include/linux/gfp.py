"""What may be done to find a page: include/linux/gfp.h, v4.19 to v6.18."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from taskscope.abi.era import Version


class Gfp(NamedTuple):
    """A gfp_t as the model's allocator asks for it, and how two ages of the kernel write it."""

    name: str                   # as %pGg prints it
    name_since_5_18: str
    bits_4_19: int
    bits: int
    direct_reclaim: bool        # the caller may sleep
    high: bool = False          # may dip into the reserve
    fails: bool = True          # fault injection makes it fail; pages of programs it spares (ignore-gfp-highmem)

    def text(self, version: Version) -> str:
        """Return number and names, as the OOM killer prints them."""
        old = version < (4, 20)
        names = self.name if version < (5, 18) else self.name_since_5_18
        return f"{self.bits_4_19 if old else self.bits:#x}({names})"


GFP_KERNEL: Final = Gfp("GFP_KERNEL", "GFP_KERNEL", 0x6000C0, 0xCC0, True)
GFP_ATOMIC: Final = Gfp("GFP_ATOMIC", "GFP_ATOMIC", 0x480020, 0xA20, False, True)
#: an anonymous page of a program; a folio is asked for as a compound page
GFP_USER_ZEROED: Final = Gfp("GFP_HIGHUSER_MOVABLE|__GFP_ZERO", "GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO",
                             0x6280CA, 0x140DCA, True, False, False)
#: a page table of a program
GFP_PGTABLE_USER: Final = Gfp("GFP_KERNEL|__GFP_ZERO", "GFP_KERNEL_ACCOUNT|__GFP_ZERO", 0x6080C0, 0x400DC0,
                              True, False, False)
GFP_NONE: Final = Gfp("(null)", "(null)", 0, 0, True)

"""How fast the tasks of a running QEMU guest are read: 20,000 of them, over QMP out of QEMU's memory.

    python bench/guest_tasks.py [TASKS]

Boots Debian's 6.1 with 4 GiB (2 GiB of this host are used), makes processes there that sleep, and times what follows
after the guest has been opened: finding and reading the tasks, the table of `ps -ely`, every field.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from taskscope.labs.guest.guest import Guest  # noqa: E402
from taskscope.labs.guest.kernel import find_kernel  # noqa: E402
from taskscope.labs.guest.qemu import Settings  # noqa: E402
from taskscope.memory.guest import GuestImage, open_guest  # noqa: E402
from taskscope.memory.kernel import KernelMemory  # noqa: E402
from taskscope.views.ps import ps_table  # noqa: E402

SLEEPERS = """
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    for (int n = argc > 1 ? atoi(argv[1]) : 0; n > 0; n--)
        if (!fork())
            for (;;)
                pause();
    return 0;
}
"""


def best(what: str, image: GuestImage, work: Callable[[KernelMemory], int], rounds: int = 3) -> None:
    """Time work on memory that was not looked at before."""
    took = []
    for _ in range(rounds):
        image.forget()
        memory = KernelMemory(image)
        began = time.perf_counter()
        count = work(memory)
        took.append(time.perf_counter() - began)
    print(f"{what:<44} {min(took):.2f} s  {count:,} tasks")


def walk(memory: KernelMemory) -> int:
    """Read every task_struct, found on both roads."""
    return sum(1 for _ in memory.tasks())


def table(memory: KernelMemory) -> int:
    """Make the table of ps -ely."""
    found = memory.snapshot(full=False)
    return sum(1 for _ in ps_table(found)) - 1


def everything(memory: KernelMemory) -> int:
    """Fill every field of every task."""
    return len(memory.snapshot().tasks)


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as folder:
        source, program, place = (Path(folder) / name for name in ("sleepers.c", "sleepers", "qmp"))
        source.write_text(SLEEPERS)
        subprocess.run(["gcc", "-static", "-O2", "-o", program, source], check=True)
        with Guest.boot(find_kernel("6.1"), Settings(mem=4096, qmp=place)) as guest:
            guest.put("/tmp/sleepers", program.read_bytes(), 0o755)
            guest.sh("echo 100000 > /proc/sys/kernel/pid_max; echo 100000 > /proc/sys/kernel/threads-max", seconds=20)
            guest.sh(f"/tmp/sleepers {count}", seconds=300)
            began = time.perf_counter()
            with open_guest(place, pause=True) as image:
                print(f"{'opening the guest':<44} {time.perf_counter() - began:.2f} s")
                best("every task_struct, both roads", image, walk)
                best("the table of ps -ely", image, table)
                best("every field", image, everything)


if __name__ == "__main__":
    main()

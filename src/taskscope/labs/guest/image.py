"""What a guest boots with: an initramfs of busybox, a few modules, an agent, and nothing else.

The archive is written here (the "newc" format of Documentation/driver-api/early-userspace/buffer-format.rst), into
memory: no tool and no file is needed.  The agent is a shell loop at the other end of a virtio port: it takes a script,
runs it, and sends back its status and output.
"""

from __future__ import annotations

import shutil
import stat
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.kernel import MACHINES, MODULES, MORE_MODULES, Apt, Kernel, cache_folder, locked, unpack

#: the agent's port, as the device is named on QEMU's command line
PORT: Final = "taskscope.agent"
_PT_INTERP: Final = 3

_INIT: Final = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tracefs nodev /sys/kernel/tracing
[ -e /sys/fs/cgroup ] && mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in %(modules)s; do
  [ ! -f /modules/$module.ko ] || insmod /modules/$module.ko
done
echo 0 > /proc/sys/kernel/printk
exec /agent
"""

_AGENT: Final = """#!/bin/sh
tries=0
while port= && for p in /sys/class/virtio-ports/*; do
    if [ "$(cat $p/name 2>/dev/null)" = %(port)s ]; then port=/dev/${p##*/}; fi
  done; [ ! -e "$port" ]; do
  tries=$((tries + 1))
  if [ $tries -gt 200 ]; then echo "agent: no port" > /dev/console; poweroff -f; fi
  usleep 20000
done
exec 3<>$port
echo "ready $(uname -r) $(uname -m)" >&3
while IFS= read -r size <&3; do
  dd bs="$size" count=1 iflag=fullblock of=/run/request <&3 2>/dev/null
  ( . /run/request ) >/run/output 2>&1 </dev/null
  echo "$? $(stat -c %%s /run/output)" >&3
  cat /run/output >&3
done
poweroff -f
"""


def initramfs(kernel: Kernel, busybox: bytes) -> bytes:
    """Return the archive for a kernel."""
    files: dict[str, tuple[int, bytes]] = {
        "init": (0o755, (_INIT % {"modules": " ".join(MODULES)}).encode()),
        "agent": (0o755, (_AGENT % {"port": PORT}).encode()),
        "bin/busybox": (0o755, busybox),
        "etc/passwd": (0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
        "etc/group": (0o644, b"root:x:0:\nnogroup:x:65534:\n"),
    }
    for name in (*MODULES, *MORE_MODULES):
        path = kernel.module(name)
        if path is not None:
            files[f"modules/{name}.ko"] = (0o644, path.read_bytes())
    folders = ("bin", "dev", "proc", "sys", "etc", "tmp", "run", "root", "modules", "mnt")
    return archive(folders, files)


def archive(folders: tuple[str, ...], files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Return a newc archive.

    :param files: by path: the permissions, and the content
    """
    parts: list[bytes] = []
    for number, (name, mode, data) in enumerate([
        *((folder, stat.S_IFDIR | 0o755, b"") for folder in folders),
        *((path, stat.S_IFREG | mode, data) for path, (mode, data) in files.items()),
        ("TRAILER!!!", 0, b""),
    ], 1):
        text = name.encode() + b"\0"
        values = (number, mode, 0, 0, 2 if stat.S_ISDIR(mode) else 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
        head = b"070701" + b"".join(b"%08X" % value for value in values) + text
        parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]
    return b"".join(parts)


# ---- busybox -------------------------------------------------------------------------------------------------


def find_busybox(machine: str, say: Callable[[str], None] = lambda _: None) -> bytes:
    """Return a busybox that needs no libraries: this machine's, or the one of Debian's package, which is fetched.

    :raises GuestError: it cannot be had here
    """
    import platform

    found = shutil.which("busybox")
    if found is not None and platform.machine() == machine:
        data = Path(found).read_bytes()
        if is_static(data):
            return data
    kept = cache_folder() / f"busybox-{machine}"
    with locked(kept):
        if not kept.is_file():
            say("fetching busybox-static (some 1 MB, once)")
            with tempfile.TemporaryDirectory(dir=kept.parent) as work:
                arch = next((arch for arch, name in MACHINES.items() if name == machine), "amd64")
                apt = Apt(Path(work), arch, ("bookworm", "trixie"))
                got: list[bytes] = []
                unpack(apt.download("busybox-static"), lambda member, file: got.append(file.read())
                       if file is not None and Path(member.name).name == "busybox" else None)
                if not got or not is_static(got[0]):
                    raise GuestError("the package busybox-static holds no static busybox")
                made = Path(work) / "busybox"
                made.write_bytes(got[0])
                made.rename(kept)
    return kept.read_bytes()


def is_static(program: bytes) -> bool:
    """Tell whether an ELF program runs without libraries: no program header of it is a PT_INTERP (elf(5))."""
    if program[:4] != b"\x7fELF" or len(program) < 64 or program[5] != 1:
        return False
    if program[4] == 2:
        start, size, count = *struct.unpack_from("<Q", program, 32), *struct.unpack_from("<HH", program, 54)
    else:
        start, size, count = *struct.unpack_from("<I", program, 28), *struct.unpack_from("<HH", program, 42)
    if start + size * count > len(program):
        return False
    return all(struct.unpack_from("<I", program, start + size * k)[0] != _PT_INTERP for k in range(count))

"""Kernels for guests: a file, this machine's own, or one of Debian's packages, fetched once and kept in the cache.

Nothing is installed and nobody needs to be root: a package is downloaded with a private apt state (its own lists, its
own cache, nobody else's packages) whose sources are the Debian mirror that this machine uses, and only the image and
the few modules that a guest wants are taken out of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import platform
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from taskscope.errors import UsageError
from taskscope.labs.guest.errors import GuestError

#: modules that a guest loads if its kernel has them as such, in the order in which they need each other
MODULES: Final = (
    "virtio", "virtio_ring", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_mmio",
    "virtio_console", "qemu_fw_cfg",
)
#: modules that a lab may load
MORE_MODULES: Final = (
    "loop", "nbd", "vhost_iotlb", "vhost", "vsock", "vmw_vsock_virtio_transport_common", "vhost_vsock",
)
#: kernels by the name that ``--on guest:NAME`` gives them: (architecture of Debian, pattern of the package, suites)
FETCHED: Final = {
    "6.1": ("amd64", r"linux-image-6\.1\.0-\d+-cloud-amd64", ("bookworm",)),
    "6.12": ("amd64", r"linux-image-6\.12\.[\w.+]*-cloud-amd64", ("bookworm-backports", "trixie")),
    "arm64": ("arm64", r"linux-image-6\.1\.0-\d+-cloud-arm64", ("bookworm",)),
    "armhf": ("armhf", r"linux-image-6\.1\.0-\d+-armmp", ("bookworm",)),
}
#: by architecture of Debian: what ``uname -m`` says
MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l"}
#: counts up when more is taken out of a package
_KEPT: Final = 2
#: seconds for apt
_APT_SECONDS: Final = 180


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that a guest can boot.

    :param name: how it was asked for
    :param release: what ``uname -r`` says
    :param machine: what ``uname -m`` says
    :param image: vmlinuz
    :param modules: a folder that has the modules as ``NAME.ko``
    """

    name: str
    release: str
    machine: str
    image: Path
    modules: Path

    def module(self, name: str) -> Path | None:
        """Return the file of a module; None if the kernel has it built in, or not at all."""
        path = self.modules / f"{name}.ko"
        return path if path.is_file() else None


def find_kernel(name: str = "6.1", say: Callable[[str], None] = lambda _: None) -> Kernel:
    """Find a kernel, and fetch it where it must be.

    :param name: ``6.1``, ``6.12``, ``arm64`` or ``armhf`` (Debian's packages), ``host`` (this machine's), or the path
        of a vmlinuz
    :param say: takes a sentence for people
    :raises UsageError: there is no such name
    :raises GuestError: it cannot be had here; the message says what helps
    """
    if name in FETCHED:
        return _fetched(name, say)
    if name == "host":
        release = os.uname().release
        path = next((p for p in (Path(f"/boot/vmlinuz-{release}"), Path(f"/lib/modules/{release}/vmlinuz"))
                     if p.is_file()), None)
        if path is None:
            raise GuestError(f"this machine has no file of the kernel that it runs ({release}); try --on guest:6.1")
        return _of_file("host", path)
    if "/" in name or Path(name).is_file():
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"there is no kernel {name}")
        return _of_file(name, path)
    raise UsageError(f"there is no kernel {name!r}; it is {', '.join(FETCHED)}, host, or the path of a vmlinuz")


def cache_folder() -> Path:
    """Return the folder in which kernels and programs are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "taskscope" / "guests"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder of the cache: two processes that want the same kernel fetch it once."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(folder.name + ".lock").open("w")
    except OSError as e:
        raise GuestError(f"the cache {folder.parent} cannot be written: {e.strerror}; name another folder: "
                         "XDG_CACHE_HOME=…") from e
    with lock as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# ---- from a file ---------------------------------------------------------------------------------------------


def release_of(image: bytes) -> str | None:
    """Return the release that a vmlinuz names (the setup header's kernel_version, Documentation/arch/x86/boot.rst)."""
    if image[0x202:0x206] != b"HdrS":
        return None
    at = int.from_bytes(image[0x20E:0x210], "little")
    text = image[at + 0x200:at + 0x300].split(b"\0", 1)[0].decode("ascii", "replace")
    return text.split(" ", 1)[0] or None


def _of_file(name: str, path: Path) -> Kernel:
    with path.open("rb") as file:
        release = release_of(file.read(1 << 16))
    if release is None:
        raise GuestError(f"{path} is no bzImage of an x86 kernel; give the vmlinuz of one")
    found = next((p for p in (path.parent / "modules" / release, path.parent.parent / "lib/modules" / release,
                              Path("/lib/modules") / release) if p.is_dir()), None)
    folder = cache_folder() / f"modules-{release}.{_KEPT}"
    with locked(folder):
        if not folder.is_dir():
            made = Path(tempfile.mkdtemp(dir=folder.parent))
            if found is not None:
                for one in found.rglob("*.ko*"):
                    _keep_module(one.name, one.open("rb"), made)
            made.rename(folder)
    return Kernel(name, release, platform.machine(), path, folder)


def _keep_module(file_name: str, file: IO[bytes] | None, folder: Path) -> None:
    name, _, packed = file_name.partition(".ko")
    if file is None or name.replace("-", "_") not in (*MODULES, *MORE_MODULES):
        return
    with file:
        data = file.read()
    if packed == ".xz":
        data = lzma.decompress(data)
    elif packed == ".zst":
        import zstandard

        data = zstandard.ZstdDecompressor().stream_reader(data).read()
    elif packed:
        return
    (folder / f"{name.replace('-', '_')}.ko").write_bytes(data)


# ---- from Debian ---------------------------------------------------------------------------------------------


def _fetched(name: str, say: Callable[[str], None]) -> Kernel:
    folder = cache_folder() / f"linux-{name}.{_KEPT}"
    with locked(folder):
        # A file that is empty was damaged since: it is fetched anew.
        if not all(path.is_file() and path.stat().st_size for path in (folder / "release", folder / "vmlinuz")):
            _fetch(name, folder, say)
    return Kernel(name, (folder / "release").read_text(), MACHINES[FETCHED[name][0]], folder / "vmlinuz",
                  folder / "modules")


def _fetch(name: str, folder: Path, say: Callable[[str], None]) -> None:
    arch, pattern, suites = FETCHED[name]
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        apt = Apt(Path(work), arch, suites)
        package = apt.newest(pattern)
        say(f"fetching {package} (some 30 MB, once)")
        made = Path(work) / "kernel"
        (made / "modules").mkdir(parents=True)
        unpack(apt.download(package), lambda member, file: _keep(member, file, made))
        if not (made / "release").is_file():
            raise GuestError(f"the package {package} holds no kernel")
        made.rename(folder)


def _keep(member: tarfile.TarInfo, file: IO[bytes] | None, folder: Path) -> None:
    path = Path(member.name)
    if path.parent.name == "boot" and path.name.startswith("vmlinuz-") and file is not None:
        (folder / "vmlinuz").write_bytes(file.read())
        (folder / "release").write_text(path.name.removeprefix("vmlinuz-"))
    elif ".ko" in path.name:
        _keep_module(path.name, file, folder / "modules")


def unpack(package: Path, keep: Callable[[tarfile.TarInfo, IO[bytes] | None], None]) -> None:
    """Hand each file of a Debian package to ``keep(member, file)``."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    keep(member, archive.extractfile(member))
    if process.returncode:
        raise GuestError(f"dpkg-deb cannot read {package.name}")


class Apt:
    """A private state of apt: lists and cache of its own, for one architecture.

    :param work: a folder that is thrown away afterwards
    :param suites: of Debian; those that the mirror lacks are passed over
    :raises GuestError: this machine uses no Debian mirror, or it cannot be reached
    """

    def __init__(self, work: Path, arch: str, suites: tuple[str, ...]) -> None:
        if shutil.which("apt-get") is None:
            raise GuestError("there is no apt-get here to fetch a kernel with; give one: --on guest:/path/to/vmlinuz")
        self.work = work
        for name in ("lists/partial", "cache/archives/partial"):
            (work / name).mkdir(parents=True)
        (work / "status").touch()
        (work / "sources.list").write_text("".join(f"{source} {suite} main\n" for source in _mirror()
                                                   for suite in suites))
        self.options = [
            f"-oAPT::Architecture={arch}", f"-oAPT::Architectures={arch}", f"-oDir::State::lists={work / 'lists'}",
            f"-oDir::State::status={work / 'status'}", f"-oDir::Cache={work / 'cache'}",
            f"-oDir::Etc::sourcelist={work / 'sources.list'}", "-oDir::Etc::sourceparts=/dev/null",
            "-oAcquire::Retries=2", "-oAcquire::http::Timeout=20", "-oAcquire::https::Timeout=20",
            *(["-oAPT::Sandbox::User=root"] if os.geteuid() == 0 else []),
        ]
        self._run("apt-get", "update", allowed=(0, 100))

    def _run(self, *command: str, allowed: tuple[int, ...] = (0,)) -> str:
        try:
            done = subprocess.run([command[0], *self.options, *command[1:]], cwd=self.work, capture_output=True,
                                  text=True, timeout=_APT_SECONDS, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as e:
            raise GuestError(f"{' '.join(command[:2])} took more than {_APT_SECONDS} s: is the mirror "
                             "reachable?") from e
        if done.returncode not in allowed:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise GuestError(f"{' '.join(command[:2])} fails: {''.join(last)}")
        return done.stdout

    def newest(self, pattern: str) -> str:
        """Return the newest package whose name fits; a signed one where there is one."""
        names = self._run("apt-cache", "pkgnames", "linux-image-").split()
        fits = [name for name in names if re.fullmatch(rf"{pattern}(-unsigned)?", name)]
        if not names:
            raise GuestError("the Debian mirror of this machine cannot be reached; it is needed once for each kernel. "
                             "Or give one: --on guest:/path/to/vmlinuz")
        if not fits:
            raise GuestError(f"the mirror of this machine has no package {pattern}; give a kernel: "
                             "--on guest:/path/to/vmlinuz")
        return max(fits, key=lambda n: (_version(n), not n.endswith("-unsigned")))

    def download(self, package: str) -> Path:
        """Download a package; return the file."""
        self._run("apt-get", "download", package)
        return next(self.work.glob(f"{package}_*.deb"))


def _version(name: str) -> list[int]:
    return [int(word) for word in re.findall(r"\d+", name.removesuffix("-unsigned"))]


def _mirror() -> list[str]:
    """Return the beginnings of ``deb`` lines for the Debian mirror that this machine uses."""
    try:
        said = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"],
                              capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    uris = [words[0] for line in said.splitlines() if len(words := line.split(" ")) == 3
            and words[2] == "main" and re.search(r"/debian/?$", words[0])]
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if not uris or not keyring.is_file():
        raise GuestError("this machine uses no Debian mirror from which a kernel could be fetched (or knows none until "
                         "apt-get update); give one: --on guest:/path/to/vmlinuz")
    return [f"deb [signed-by={keyring}] {uri}" for uri in dict.fromkeys(uris)][:1]

"""Records on the running kernel: an instance of tracefs, its `trace` text, and a copy of its raw pages to read back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

TRACEFS = Path("/sys/kernel/tracing")


def need_tracefs() -> None:
    """Skip a test where events cannot be recorded."""
    if os.geteuid() != 0:
        pytest.skip("recording needs root")
    if not (TRACEFS / "instances").is_dir() or not (TRACEFS / "events/sched").is_dir():
        pytest.skip("no tracefs with events is mounted at /sys/kernel/tracing")


def record(
    folder: Path,
    events: Iterable[str],
    work: Callable[[], None],
    *,
    options: dict[str, str] | None = None,
    filters: dict[str, str] | None = None,
    triggers: dict[str, str] | None = None,
    buffer_kb: int = 4096,
) -> bytes:
    """Record events while `work` runs.

    :param folder: where a copied tracefs is left
    :param events: ``system/name`` or ``system``
    :param options: tracefs options by name; hash-ptr is switched off, because a hash is not in the records
    :param filters: filter by event
    :param triggers: trigger by event
    :return: the kernel's own text of the same records
    """
    name = f"taskscope-test-{os.getpid()}-{os.urandom(3).hex()}"
    top = TRACEFS / "instances" / name
    top.mkdir()
    try:
        _write(top / "tracing_on", "0")
        _write(top / "buffer_size_kb", str(buffer_kb))
        for option, value in {"hash-ptr": "0", **(options or {})}.items():
            if (top / "options" / option).exists():
                _write(top / "options" / option, value)
        for event, text in (filters or {}).items():
            _write(top / "events" / event / "filter", text)
        for event, text in (triggers or {}).items():
            _write(top / "events" / event / "trigger", text)
        for event in events:
            _write(top / "events" / event / "enable", "1")
        _write(top / "tracing_on", "1")
        work()
        _write(top / "tracing_on", "0")
        for event in events:
            _write(top / "events" / event / "enable", "0")
        text = (top / "trace").read_bytes()
        _copy(top, folder)
        return text
    finally:
        _write(top / "tracing_on", "0")
        _write(top / "events" / "enable", "0")
        for event in triggers or {}:
            _write(top / "events" / event / "trigger", "!" + (triggers or {})[event])
        top.rmdir()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _copy(top: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for cpu in sorted((top / "per_cpu").iterdir()):
        out = folder / "per_cpu" / cpu.name
        out.mkdir(parents=True)
        (out / "stats").write_bytes((cpu / "stats").read_bytes())
        (out / "trace_pipe_raw").write_bytes(_drain(cpu / "trace_pipe_raw"))
    (folder / "trace_clock").write_bytes((top / "trace_clock").read_bytes())
    names = ["saved_cmdlines", "printk_formats"]
    # The kernel keeps the table for as long as it runs, whoever asked for it; `trace` shows it where it was asked for.
    option = top / "options" / "record-tgid"
    if option.exists() and option.read_text().strip() == "1":
        names.append("saved_tgids")
    for name in names:
        if (TRACEFS / name).exists():
            (folder / name).write_bytes((TRACEFS / name).read_bytes())
    (folder / "kallsyms").write_bytes(Path("/proc/kallsyms").read_bytes())
    for path in (TRACEFS / "events").glob("*/*/format"):
        out = folder / path.relative_to(TRACEFS)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(path.read_bytes())
    for name in ("header_page", "header_event"):
        shutil.copyfile(TRACEFS / "events" / name, folder / "events" / name)


def _drain(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    parts: list[bytes] = []
    try:
        while True:
            try:
                part = os.read(fd, 4096)
            except BlockingIOError:
                break
            if not part:
                break
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)

"""``taskscope export``: one option for the format and the end of the window, files whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lives_json import run_inside
from taskscope.recording import Recording


def export(*args: str | Path) -> tuple[int, bytes, str]:
    """Run the command."""
    return run_inside("export", *map(str, args))


def test_to_is_a_format_and_a_time(data: Path, tmp_path: Path) -> None:
    """--to with a format and --to with a time may stand together, in any order, in any spelling of a time."""
    recording = data / "d08-signals.dat"
    trace = Recording.open(recording)
    sizes = []
    for n, window in enumerate((["--to", "+1.5"], ["--to=1500ms"], ["--to", f"{trace.start + 1_500_000_000}ns"])):
        late = window == ["--to=1500ms"]
        for order in ([*window, "--to", "trace.dat"], ["--to", "trace.dat", *window]):
            file = tmp_path / f"{n}{len(sizes)}.dat"
            code, out, err = export(recording, *order, "-o", file)
            assert (code, out) == (0, b""), err
            assert err.startswith("taskscope: wrote ")
            part = Recording.open(file)
            assert len(part) == 0 if late else trace.start <= part.end <= trace.start + 1_500_000_000
            sizes.append(len(part))
    assert sizes[0] == sizes[1] == sizes[4] == sizes[5] < len(trace)


@pytest.mark.parametrize(("args", "says"), [
    (["--to", "perfeto", "-o", "x"], "--to perfeto: neither a format (parquet,"),
    (["-o", "x"], "which format?"),
    (["--to", "+1", "-o", "x"], "which format?"),
    (["--to", "dot", "--to", "csv", "-o", "x"], "two formats: dot, csv"),
    (["--to", "dot", "--to", "1", "--to", "2", "-o", "x"], "two times: 1, 2"),
    (["--to", "dot", "--to", "1x", "-o", "x"], "--to: '1x' is no time"),
    (["--to", "dot", "--from", "+1", "--to", "+0.5", "-o", "x"], "--to +0.5 is before --from +1"),
    (["--to", "csv", "-p", "201", "-o", "x"], "--to csv writes whole tables"),
    (["--to", "csv", "--to", "+1", "-o", "x"], "--to csv writes whole tables"),
    (["--to", "story", "--table", "lives", "-p", "201", "-o", "x"], "--table is for parquet, jsonl, csv"),
    (["--to", "story", "-o", "x"], "a story of whom?"),
    (["--to", "story", "-p", "99", "-o", "x"], "no task has pid 99"),
    (["--to", "trace.dat", "-p", "99", "-o", "x"], "no task has pid 99"),
    (["--to", "systrace", "-p", "99", "-o", "-"], "no task has pid 99"),
    (["--to", "trace.dat", "-o", "-"], "a trace.dat needs a file"),
    (["--to", "dot", "-o", "."], "is a folder, and dot is one file"),
    (["--to", "dot", "-o", "no/such"], "there is no folder no"),
])
def test_what_cannot_be(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], says: str
) -> None:
    """What does not go together is said in one line, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    code, out, err = export("-i", data / "d08-signals.dat", *args)
    assert (code, out) == (2, b"")
    assert says in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["perfetto", "systrace", "trace.dat", "dot", "story"])
def test_nothing_is_replaced_unasked(data: Path, tmp_path: Path, form: str) -> None:
    """A file that is there stays, unless --force is given; no part of a file is left beside it."""
    if form == "perfetto":
        pytest.importorskip("perfetto", reason="perfetto is not installed")
    file = tmp_path / "mine"
    file.write_text("precious")
    command = ["-i", data / "d08-signals.dat", "--to", form, "-p", "201", "-o", file]
    code, _, err = export(*command)
    assert code == 2
    assert "--force" in err
    assert file.read_text() == "precious"
    assert export(*command, "--force")[0] == 0
    assert file.read_bytes() != b"precious"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("form", ["perfetto", "systrace", "dot", "story"])
def test_stdout_gets_what_a_file_gets(data: Path, tmp_path: Path, form: str) -> None:
    """-o - writes the same bytes to stdout."""
    if form == "perfetto":
        pytest.importorskip("perfetto", reason="perfetto is not installed")
    file = tmp_path / "x"
    command = ["-i", data / "d08-signals.dat", "--to", form, "-p", "201,195", "--from", "+0.1", "--to", "+1", "-o"]
    assert export(*command, file)[0] == 0
    code, out, err = export(*command, "-")
    assert (code, out, err) == (0, file.read_bytes(), "")


def test_a_part_can_be_cut_again(data: Path, tmp_path: Path) -> None:
    """A part is a recording like any other: cut at once or in two steps, it is the same."""
    once, step, twice = (tmp_path / f"{n}.dat" for n in ("once", "step", "twice"))
    recording = data / "d12-overrun.dat"
    window = ["--from", "159.26", "--to", "159.28", "--to", "trace.dat", "-q"]
    assert export("-i", recording, *window, "-p", "250", "-o", once)[0] == 0
    assert export("-i", recording, *window, "-o", step)[0] == 0
    assert export("-i", step, *window, "-p", "250", "-o", twice)[0] == 0
    first, second = Recording.open(once), Recording.open(twice)
    assert b"".join(first.report()) == b"".join(second.report()) != b""
    assert first.lost == second.lost != ()

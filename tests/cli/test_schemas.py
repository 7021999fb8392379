"""What `--json` prints fits the schemas, and the schemas leave nothing open."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import DATA, ROOT, run_cli
from lives_json import run_inside
from taskscope.cli.main import VERBS
from taskscope.cli.schemas import SCHEMAS, schema

EXAMPLE = ROOT / "examples" / "recordings" / "raspbian_proc.dat"
DUMP = DATA / "vmcore" / "debian12-amd64.kdump"
OF_LIVES = ("lives", "report", "sched", "kills --all", "forks", "tree", "ps", "ps -L --at +0.1", "tree --at +0.1")
OF_MOMENTS = ("ps -L", "ps", "tree", "blocked", "cpus")


@cache
def validator(verb: str) -> Any:
    """Return the validator of a command's schema."""
    found = schema(verb)
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def objects(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema of an object with keys of its own, at whatever depth."""
    if isinstance(part, dict):
        if "properties" in part:
            yield part
        for value in part.values():
            yield from objects(value)
    elif isinstance(part, list):
        for value in part:
            yield from objects(value)


def lines(verb: str, *args: str | os.PathLike[str], status: int = 0) -> list[dict[str, Any]]:
    """Run a command with --json, hold each line to its schema, and return the rows."""
    if "--core" in args:
        pytest.importorskip("drgn", reason="drgn is not installed")
    code, out, err = run_inside(*verb.split(), "--json", *map(str, args))
    assert code == status, err
    assert out.isascii()
    return held(verb.split()[0], out.decode().splitlines())


def held(verb: str, out: list[str]) -> list[dict[str, Any]]:
    """Hold each line, of very many the first, to its schema, keys in the schema's order; return the rows."""
    rows = [json.loads(line) for line in out[:3000]]
    for row in rows:
        problems = [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in validator(verb).iter_errors(row)]
        assert problems == [], row
        kinds = [kind for kind in validator(verb).schema.get("oneOf", [validator(verb).schema])
                 if set(row) <= set(kind["properties"])]
        assert list(row) in [[key for key in kind["properties"] if key in row] for kind in kinds]
    return rows


def test_every_command_with_json_has_a_schema() -> None:
    """The commands that take --json are those of `SCHEMAS`."""
    takes = {verb for verb, (module, _) in VERBS.items() for parameter in importlib.import_module(module).command.params
             if "--json" in parameter.opts}
    assert takes == set(SCHEMAS)


@pytest.mark.parametrize("verb", SCHEMAS)
def test_the_schemas_are_schemas_and_leave_nothing_open(verb: str) -> None:
    """A schema is valid JSON Schema 2020-12, is named and told; no object may have keys besides, nor miss one."""
    found = schema(verb)
    assert found["$schema"].endswith("2020-12/schema")
    assert found["$id"].startswith("urn:taskscope:" + verb)
    validator(verb)
    for part in objects(found):
        assert part["additionalProperties"] is False
        assert set(part["properties"]) - set(part["required"]) <= {"kernel_stack"}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("verb", [verb for verb in SCHEMAS if "oneOf" not in SCHEMAS[verb]()])
def test_a_line_without_a_key_or_with_one_more_does_not_fit(verb: str) -> None:
    """Each key of a real line is needed, and another one is refused."""
    row = sample(verb)
    assert validator(verb).is_valid(row)
    for key in validator(verb).schema["required"]:
        assert not validator(verb).is_valid({name: value for name, value in row.items() if name != key}), key
    assert not validator(verb).is_valid({**row, "another": 1})


def sample(verb: str) -> dict[str, Any]:
    """Return a real line of a command."""
    args: dict[str, tuple[Any, ...]] = {
        "life": ("-i", EXAMPLE, "157"), "ps": ("--core", DUMP), "task": ("--core", DUMP, "tracee"),
        "stack": ("--core", DUMP, "vfork-parent"), "cpus": ("--core", DUMP), "blocked": ("--core", DUMP),
        "decode": ("wait", "9"), "check": ()}
    if verb == "diff":
        return lines("diff", f"{EXAMPLE}@+9", f"{EXAMPLE}@+12", status=1)[0]
    if verb == "compare":
        return lines("compare", DATA / "d05-zombie.dat", DATA / "d03-shellexec.dat", status=1)[0]
    return lines(verb, *args.get(verb, ("-i", EXAMPLE)))[0]


@pytest.mark.parametrize("name", ["d06-threads.dat", "d08-signals.dat", "d10-subreaper.dat", "d11-oom.dat",
                                  "d12-overrun.dat", "d16-text-tgid.trace.txt", "d32-execthread-612.dat",
                                  "d50-signals-be64.dat"])
@pytest.mark.parametrize("verb", OF_LIVES)
def test_lines_of_recordings_fit(verb: str, name: str) -> None:
    """Every line that is told of real recordings fits."""
    rows = lines(verb, "-q", "-i", DATA / name)
    assert rows or verb.startswith(("kills", "forks"))


@pytest.mark.parametrize("verb", [*OF_MOMENTS, "ps -L --stacks"])
def test_lines_of_a_dump_fit(verb: str) -> None:
    """Every line that is told of a crash dump fits."""
    assert lines(verb, "--core", DUMP)


@pytest.mark.parametrize("task", ["init", "tracee", "spinner", "kthreadd", "zombie-kill9"])
def test_descriptors_of_a_dump_fit(task: str) -> None:
    """Descriptors and stacks of tasks that run, sleep, are traced or dead fit; with -v all members, too."""
    assert lines("task", "--core", DUMP, task)
    assert lines("task", "-v", "--core", DUMP, task)[0]["every"]
    assert lines("stack", "--core", DUMP, task)


def test_lines_of_a_32_bit_dump_fit(tmp_path: Path) -> None:
    """Saved registers of 32-bit ARM, which stand in thread_info, fit too."""
    import lzma

    core, btf, symbols = (tmp_path / name for name in ("core", "btf", "System.map"))
    for path in (core, btf, symbols):
        path.write_bytes(lzma.decompress((DATA / "vmcore" / f"debian12-armhf.{path.name}.xz").read_bytes()))
    named = ("--core", core, "--btf", btf, "--symbols", symbols)
    rows = lines("ps -L --stacks", *named)
    assert any(row["thread_info"] and row["thread_info"]["cpu_context"] for row in rows)
    assert lines("task", *named, "kthreadd")[0]["thread_info_members"]["cpu_context.pc"].startswith("0x")


@pytest.mark.parametrize("verb", OF_MOMENTS)
def test_lines_of_proc_fit(verb: str) -> None:
    """Every line that is told of this machine's /proc fits."""
    ran = run_cli(*verb.split(), "--json", "-q")
    assert held(verb.split()[0], ran.out.splitlines())


@pytest.mark.parametrize("verb", ["task", "stack"])
def test_this_very_task_fits(verb: str) -> None:
    """So do a descriptor and a stack out of /proc."""
    if verb == "stack" and os.geteuid() != 0:
        pytest.skip("/proc/PID/stack is root's")
    ran = run_cli(verb, str(os.getpid()), "--json", "-q")
    assert held(verb, ran.out.splitlines())[0]["pid"] == os.getpid()


@pytest.mark.parametrize("flavour", ["4.19-arm", "6.18-x86_64"])
def test_lines_of_the_model_fit(flavour: str, tmp_path: Path) -> None:
    """What the executable kernel's machines keep of their tasks fits."""
    import taskscope

    path = tmp_path / "x.dat"
    with taskscope.boot(flavour=flavour) as k:
        k.trace()
        k.spawn("bash", "-c", "sleep 100")
        k.run(s=0.5)
        k.save(path)
    for verb in (*(verb.replace("+0.1", "+0.005") for verb in OF_LIVES), "task", "stack"):
        assert lines(verb, "-i", path, *(["sleep"] if verb in ("task", "stack") else [])) or "kills" in verb


@pytest.mark.parametrize("args", [("list",), ("zombie",), ("zombie", "--mutant"), ("decode",),
                                  ("zombie", "--flavour", "all")])
def test_labs_fit(args: tuple[str, ...]) -> None:
    """The list of labs, runs that pass and a run that does not fit."""
    rows = lines("lab", *args, status=1 if "--mutant" in args else 0)
    assert len(rows) == (3 if "all" in args else len(rows))


def test_an_allowed_or_equal_comparison_fits() -> None:
    """A recording compared with itself is equal, and fits."""
    row = lines("compare", EXAMPLE, EXAMPLE)[0]
    assert (row["verdict"], row["difference"]) == ("equal", None)


@pytest.mark.parametrize("words", [("clone", "0x01200011", "17"), ("wait", "9", "1792"), ("syscall", "120"),
                                   ("pf", "0x40"), ("state", "2"), ("preempt", "0x100")])
def test_decoded_values_fit(words: tuple[str, ...]) -> None:
    """Values of every shape fit."""
    assert len(lines("decode", *words)) >= len(words) - 1


@pytest.mark.parametrize("verb", SCHEMAS)
def test_man_prints_the_schema(verb: str) -> None:
    """`taskscope man VERB --schema` prints what the tests hold the lines to."""
    code, out, _ = run_inside("man", verb, "--schema")
    assert code == 0
    assert json.loads(out) == schema(verb)


@pytest.mark.parametrize("args", [("--schema",), ("timeline", "--schema")])
def test_man_has_schemas_of_commands_with_json_only(args: tuple[str, ...]) -> None:
    """Where there is no --json the error names the commands that have it."""
    code, _, err = run_inside("man", *args)
    assert code == 2
    assert "lives" in err
    assert "decode" in err

"""``taskscope decode``: the command line around `taskscope.abi.decode`."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from conftest import Ran, run_cli
from taskscope.cli.decode import command
from taskscope.errors import UsageError

Cli = Callable[..., Ran]


def out(*args: str) -> str:
    """Run the command inside this process and return what it prints."""
    result = CliRunner().invoke(command, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_value_becomes_names() -> None:
    """The examples of the help do what they say."""
    assert "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD" in out("clone", "0x01200011")
    assert out("syscall", "arm", "120").split() == ["syscall", "arm", "120", "0x78", "clone", "sys_clone"]
    assert "TASK_UNINTERRUPTIBLE|TASK_NOLOAD" in out("state", "0x402", "--kernel", "4.19")
    assert "Linux 4.19" in out("state", "0x402", "--kernel", "4.19")


def test_a_negative_number_is_a_value() -> None:
    """-11 is an error number, not an option; options may stand anywhere."""
    assert "EAGAIN" in out("errno", "-11")
    assert json.loads(out("--json", "sicode", "-6"))["text"] == "SI_TKILL"
    assert "deadline" in out("prio", "-1")


def test_json_is_one_object_a_value() -> None:
    """--json prints one object a line, with every bit."""
    records = [json.loads(line) for line in out("pf", "0x200000", "0x4", "--json").splitlines()]
    assert [r["value"] for r in records] == [0x200000, 4]
    assert records[1] == {
        "kind": "pf", "input": "0x4", "of": None, "kernel": "6.1", "value": 4, "hex": "0x4", "text": "PF_EXITING",
        "meaning": "", "notes": [],
        "parts": [{"value": 4, "hex": "0x4", "name": "PF_EXITING", "meaning": "in do_exit()"}],
    }


def test_the_architecture_may_be_an_option() -> None:
    """--arch does what an architecture as first value does."""
    assert out("syscall", "--arch", "aarch64", "clone") == out("syscall", "arm64", "clone")
    assert out("tif", "0x2", "--arch", "armv7l") == out("tif", "arm", "0x2")


def test_help_ends_in_three_examples() -> None:
    """--help lists the kinds and ends in three examples, in 80 columns."""
    text = out("--help")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "prev_state" in text
    examples = text[text.index("Examples:"):].splitlines()[1:]
    commands = [line.strip() for line in examples if line.strip().startswith("taskscope ")]
    assert len(commands) == 3
    for line in commands:
        _, verb, *args = line.split()
        assert verb == "decode"
        assert out(*args)


def test_mistakes_are_usage_errors() -> None:
    """An unknown kind or name is a UsageError that names what comes near."""
    for args, near in ((("clnoe", "1"), "clone"), (("clone", "CLONE_THRED"), "CLONE_THREAD"),
                       (("signal", "SIGKIL"), "SIGKILL")):
        with pytest.raises(UsageError, match=near):
            CliRunner().invoke(command, args, catch_exceptions=False)


def test_the_exit_code_of_a_mistake_is_2() -> None:
    """Through the real command line a mistake is one line on stderr and exit code 2."""
    for args in (("decode", "signal", "SIGKIL"), ("decode", "clnoe", "1"), ("decode",), ("decode", "clone"),
                 ("decode", "pf", "1", "--kernel", "new")):
        ran = run_cli(*args)
        assert ran.code == 2
        assert ran.out == b""
        assert ran.err.startswith(b"taskscope: ")
        assert b"Traceback" not in ran.err
    ran = run_cli("decode", "signal", "9")
    assert (ran.code, ran.err) == (0, b"")
    assert b"SIGKILL" in ran.out


def test_decode_is_quick() -> None:
    """Decoding starts no heavy library: a whole run takes a fraction of a second."""
    best = min(run_cli("decode", "clone", "0x01200011").seconds for _ in range(3))
    assert best < 1.0

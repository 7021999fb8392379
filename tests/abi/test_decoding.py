"""decode(): from numbers to names and back, whatever a person types; and how the answer looks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi import decoded, wait
from taskscope.abi.decode import KINDS, Decoded, Part, decode, kind_of, lines
from taskscope.abi.era import KERNELS
from taskscope.abi.errno import ERRNO
from taskscope.abi.syscalls import table
from taskscope.errors import UsageError

# A machine under load must not fail a test by being slow.
SETTINGS = settings(deadline=None)

WORDS64 = st.integers(0, (1 << 64) - 1)


def one(kind: str, *words: str, arch: str | None = None, kernel: str | tuple[int, int] | None = None) -> Decoded:
    """Decode what gives one record."""
    record, = decode(kind, words, arch=arch, kernel=kernel)
    return record


@pytest.mark.parametrize("kind", ["clone", "pf", "state", "syscall_work", "sigset"])
@SETTINGS
@given(value=WORDS64, kernel=st.sampled_from(KERNELS))
def test_flag_words_are_read_back(kind: str, value: int, kernel: tuple[int, int]) -> None:
    """The text of any 64-bit flag word gives the word again, and its parts cover every bit."""
    record = one(kind, hex(value), kernel=kernel)
    assert record.value == value
    assert one(kind, record.text, kernel=kernel).value == value
    assert one(kind, record.text.lower(), kernel=kernel).value == value
    covered = 0
    for part in record.parts:
        assert part.value is not None
        covered |= part.value
    assert covered == value


@SETTINGS
@given(WORDS64, st.sampled_from(KERNELS), st.sampled_from(["arm", "arm64", "x86", "s390", "armv7l", "i686"]))
def test_thread_flags_are_read_back(value: int, kernel: tuple[int, int], arch: str) -> None:
    """The text of thread_info.flags gives the word again, for every architecture."""
    record = one("tif", arch, str(value), kernel=kernel)
    assert record.value == value
    assert one("tif", record.text, arch=arch, kernel=kernel).value == value


@SETTINGS
@given(st.integers(0, (1 << 33) - 1), st.sampled_from([None, "arm", "arm64", "x86_64", "s390x"]))
def test_preempt_counts_are_read_back(value: int, arch: str | None) -> None:
    """The text of a preempt_count gives the count again."""
    record = one("preempt", bin(value), arch=arch)
    assert record.value == value
    assert one("preempt", record.text, arch=arch).value == value


@SETTINGS
@given(st.integers(0, 0xFFFF), st.sampled_from(KERNELS))
def test_flag_columns_are_read_back(value: int, kernel: tuple[int, int]) -> None:
    """The text of a flags column gives a column that looks the same."""
    record = one("traceflags", oct(value), kernel=kernel)
    assert record.value == value
    assert one("traceflags", record.text, kernel=kernel).text == record.text
    assert one("traceflags", str(value & 255), str(value >> 8), kernel=kernel).value == value


@SETTINGS
@given(st.one_of(
    st.integers(0, 255).map(wait.exited), st.just(wait.CONTINUED), st.integers(1, 64).map(wait.stopped),
    st.builds(wait.killed, st.integers(1, 64), st.booleans()), st.integers(0, 0xFFFFFF),
))
def test_wait_statuses_are_read_back(status: int) -> None:
    """The text of a wait status gives the status again, also of a word that is none."""
    record = one("wait", hex(status))
    assert record.value == status
    assert one("wait", record.text).value == one("wait", record.text.lower()).value == status


@SETTINGS
@given(st.integers(0, 0x1FF), st.sampled_from(KERNELS))
def test_prev_states_are_read_back(value: int, kernel: tuple[int, int]) -> None:
    """Where a prev_state has letters of its own, they give the value again."""
    record = one("prev_state", str(value), kernel=kernel)
    assert record.value == value
    if kernel != (4, 14) and "0x" not in record.text:
        assert one("prev_state", record.text, kernel=kernel).value == value


@pytest.mark.parametrize(("kind", "values"), [
    ("signal", range(1, 65)), ("errno", ERRNO), ("policy", (0, 1, 2, 3, 5, 6, 7, 9, 0x40000001)),
    ("prio", range(-1, 145)), ("exit", range(256)),
])
def test_single_values_are_read_back(kind: str, values: range) -> None:
    """The name of a signal, an error, a policy, a priority gives its number again."""
    for value in values:
        record = one(kind, str(value))
        assert (record.value, one(kind, record.text).value) == (value, value)


@pytest.mark.parametrize("arch", ["arm", "arm64", "x86_64", "i386", "s390x"])
def test_system_calls_are_read_back(arch: str) -> None:
    """Every call of an architecture decodes both ways, also under its function's name."""
    for number, call in table(arch).by_number.items():
        assert one("syscall", arch, str(number)).text == call.name
        if call.abi is None:
            assert one("syscall", arch, call.name.upper()).value == number
            assert one("syscall", f"sys_{call.name}", arch=arch).value == number


@pytest.mark.parametrize(("kind", "words", "value", "text"), [
    ("clone", ["0x01200011"], 0x1200011, "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD"),
    ("clone", ["vm|vfork|chld"], 0x4111, "CLONE_VM|CLONE_VFORK|SIGCHLD"),
    ("clone", ["CLONE_VM,fs files"], 0x700, "CLONE_VM|CLONE_FS|CLONE_FILES"),
    ("clone", ["0x80"], 0x80, "CLONE_NEWTIME"),
    ("clone", ["0"], 0, "0"),
    ("pf", ["0x00400040"], 0x400040, "PF_FORKNOEXEC|PF_RANDOMIZE"),
    ("pf", ["kthread"], 0x200000, "PF_KTHREAD"),
    ("tif", ["arm", "_TIF_NEED_RESCHED"], 2, "TIF_NEED_RESCHED"),
    ("wait", ["0x0009"], 9, "SIGKILL"),
    ("wait", ["exit=3"], 0x300, "exit:3"),
    ("wait", ["SEGV|core"], 0x8B, "SIGSEGV|core"),
    ("syscall", ["arm", "120"], 120, "clone"),
    ("syscall", ["x86_64", "clone"], 56, "clone"),
    ("syscall", ["amd64", "__NR_exit_group"], 231, "exit_group"),
    ("syscall", ["x86_64", "__x64_sys_newuname"], 63, "uname"),
    ("signal", ["SIGKILL"], 9, "SIGKILL"),
    ("signal", ["kill"], 9, "SIGKILL"),
    ("signal", ["sigpoll"], 29, "SIGIO"),
    ("state", ["0x402"], 0x402, "TASK_UNINTERRUPTIBLE|TASK_NOLOAD"),
    ("state", ["idle"], 0x402, "TASK_UNINTERRUPTIBLE|TASK_NOLOAD"),
    ("state", ["t"], 8, "__TASK_TRACED"),
    ("state", ["T"], 4, "__TASK_STOPPED"),
    ("state", ["running"], 0, "TASK_RUNNING"),
    ("prev_state", ["R+"], 0x100, "R+"),
    ("prev-state", ["128"], 0x80, "I"),
    ("errno", ["-11"], 11, "EAGAIN"),
    ("errno", ["0xfffffffffffffe00"], 512, "ERESTARTSYS"),
    ("errno", ["ewouldblock"], 11, "EAGAIN"),
    ("sicode", ["SIGSEGV", "1"], 1, "SEGV_MAPERR"),
    ("sicode", ["11", "2"], 2, "SEGV_ACCERR"),
    ("sicode", ["-6"], -6, "SI_TKILL"),
    ("sicode", ["cld_dumped"], 3, "CLD_DUMPED"),
    ("sicode", ["0x605"], 0x605, "PTRACE_EVENT_EXIT"),
    ("prio", ["nice:-5"], 115, "nice:-5"),
    ("prio", ["rt=99"], 0, "rt:99"),
    ("policy", ["fifo"], 1, "SCHED_FIFO"),
    ("traceflags", ["1", "2"], 0x201, "d..2."),
    ("traceflags", ["dNh2."], 0x22D, "dNh2."),
    ("traceflags", ["dL..3"], 0x3023, "dL..3"),
    ("preempt", ["hardirq_offset|preempt:2"], 0x10002, "PREEMPT=2|HARDIRQ=1"),
    ("sigset", ["0000000000010002"], 0x10002, "SIGINT|SIGCHLD"),
    ("exit", ["SIGKILL"], 137, "137"),
    ("exit", ["-1"], 255, "255"),
])
def test_examples(kind: str, words: list[str], value: int, text: str) -> None:
    """Values as people meet them are decoded, in every spelling that is allowed."""
    record = one(kind, *words)
    assert (record.value, record.text) == (value, text)


@pytest.mark.parametrize(("word", "value"), [
    ("0x1F", 31), ("0X1f", 31), ("0b101", 5), ("0o17", 15), ("017", 17), ("0009", 9), ("+3", 3), (" 7 ", 7),
    (hex((1 << 64) - 1), (1 << 64) - 1), (bin((1 << 64) - 1), (1 << 64) - 1),
])
def test_numbers_in_every_base(word: str, value: int) -> None:
    """Numbers are read in decimal and with 0x, 0o, 0b; leading zeros alone are decimal."""
    assert one("pf", word).value == value


def test_one_kernel_is_not_another() -> None:
    """The same bits have other names in other kernels, and the answer says which kernel it speaks of."""
    assert one("pf", "0x10", kernel="4.19").text == "PF_VCPU"
    assert one("pf", "0x10").text == "PF_IO_WORKER"
    assert one("pf", "PF_VCPU", kernel="4.19").value == 0x10
    assert one("pf", "PF_VCPU").value == 0x1
    assert one("tif", "arm", "0x10", kernel="4.19").text == "TIF_SYSCALL_TRACE"
    assert one("tif", "arm", "0x10", kernel="6.1").text == "TIF_NOTIFY_SIGNAL"
    assert one("state", "parked", kernel="4.9").value == 0x200
    assert one("state", "0x402", kernel="4.9").meaning.startswith("ps shows D")
    assert one("pf", "1", kernel="6.3.1-arch1").kernel == "6.1 (for 6.3)"
    assert one("wait", "9", kernel="4.19").kernel is None


def test_bits_without_a_name_are_shown() -> None:
    """A bit that the kernel does not name is shown as such, with the names it has elsewhere."""
    record = one("pf", "0x4000")
    assert record.text == "0x4000"
    assert record.parts[0].name == "?"
    assert "from 6.6: PF_USER_WORKER" in record.parts[0].meaning
    assert "PF_USED_ASYNC" in record.parts[0].meaning


def test_without_an_architecture_all_answer() -> None:
    """Nobody guesses the architecture: without one, each that knows the value answers."""
    assert [r.of for r in decode("syscall", ["clone"])] == ["arm", "arm64", "x86_64", "i386", "s390x"]
    assert [r.of for r in decode("syscall", ["fork"])] == ["arm", "x86_64", "i386", "s390x"]
    assert [r.of for r in decode("tif", ["2"])] == ["arm", "arm64", "x86", "s390"]
    assert [r.of for r in decode("tif", ["TIF_SVE"])] == ["arm64"]
    assert len(decode("sicode", ["1"])) == 8


@pytest.mark.parametrize(("kind", "words", "message"), [
    ("clnoe", ["1"], r"no kind of value; did you mean clone\?"),
    ("clone", ["CLONE_THRED"], "CLONE_THREAD"),
    ("clone", ["vmm"], "CLONE_VM"),
    ("pf", ["PF_EXITTING"], "PF_EXITING"),
    ("pf", ["-1"], "negative"),
    ("pf", ["0x1ffffffffffffffff"], "64 bits"),
    ("pf", ["1" * 100_000], "64 bits"),
    ("pf", [""], "neither a number nor a name"),
    ("pf", ["x" * 100_000], "neither a number nor a name"),
    ("signal", ["SIGKIL"], "SIGKILL"),
    ("signal", ["65"], "no signal 65"),
    ("signal", ["0"], "no signal 0"),
    ("syscall", ["arm", "clnoe"], "clone"),
    ("syscall", ["arm", "9999"], "highest known is 469"),
    ("syscall", ["9999"], "no architecture has"),
    ("syscall", ["mips", "120"], "'mips' is no architecture"),
    ("syscall", ["arm"], "nothing to decode"),
    ("tif", ["mips", "0x2"], "'mips' is no known architecture"),
    ("tif", ["arm"], "nothing to decode"),
    ("tif", ["arm", "TIF_SVE"], "neither"),
    ("errno", ["EAGIAN"], "EAGAIN"),
    ("sicode", ["SIGSEGV", "CLD_EXITED"], "belongs to SIGCHLD"),
    ("wait", ["SIGFOO"], "neither"),
    ("wait", ["exit:300"], "0 to 255"),
    ("prio", ["nice:20"], "no priority"),
    ("prev_state", ["Q"], "neither"),
    ("traceflags", ["zzz"], "no flags column"),
    ("traceflags", ["0x100", "2"], "one byte each"),
    ("preempt", ["HARDIRQ=99"], "depth from 0 to 15"),
    ("state", ["TASK_RUNING"], "TASK_RUNNING"),
    ("state", ["_"], "neither"),
    ("clone", [], "nothing to decode"),
])
def test_mistakes_are_answered_with_near_names(kind: str, words: list[str], message: str) -> None:
    """What cannot be read is a UsageError of one line that names what was meant."""
    with pytest.raises(UsageError, match=message) as caught:
        decode(kind, words)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_mistakes_in_options() -> None:
    """An unknown architecture or kernel is a UsageError too."""
    with pytest.raises(UsageError, match="known are arm"):
        decode("syscall", ["clone"], arch="mips")
    with pytest.raises(UsageError, match="no kernel version"):
        decode("pf", ["1"], kernel="latest")


@settings(SETTINGS, max_examples=1000)
@given(st.sampled_from(sorted(KINDS)), st.lists(st.one_of(
    st.text(max_size=12), st.integers(-(1 << 65), 1 << 65).map(str), WORDS64.map(hex),
    st.sampled_from(["arm", "x86", "SIGKILL", "A|B", "||", "0x", "-", "_", "d..2.", "nice:", "exit:", "stopped:"]),
), max_size=4))
def test_no_input_does_more_than_fail_politely(kind: str, words: list[str]) -> None:
    """Whatever is typed gives records, or a UsageError; records fit into JSON and into 80 columns."""
    try:
        records = decode(kind, words)
    except UsageError:
        return
    assert records
    for record in records:
        json.dumps(record.as_json())
    for line in lines(records):
        assert len(line) <= 80
        assert line == line.rstrip()


def test_all_meanings_fit_80_columns() -> None:
    """With every bit set, for every kernel and architecture, no line of the text is wider than 80 columns."""
    everything = hex((1 << 64) - 1)
    for kernel in KERNELS:
        for kind in ("clone", "pf", "state", "syscall_work", "sigset", "tif", "preempt"):
            for line in lines(decode(kind, [everything], kernel=kernel)):
                assert len(line) <= 80, line
    for kind, values in (("signal", range(1, 65)), ("errno", ERRNO), ("prio", range(-2, 142)), ("exit", range(256))):
        for line in lines(decode(kind, [str(value) for value in values])):
            assert len(line) <= 80, line
    for arch in ("arm", "x86_64"):
        for line in lines(decode("syscall", [arch, *map(str, table(arch).by_number)])):
            assert len(line) <= 80, line


def test_the_text_of_a_flag_word() -> None:
    """A flag word is shown as a block: what it is, its names, one bit a line."""
    assert list(lines(decode("clone", ["0x01200011"]))) == [
        "clone  0x1200011  18874385",
        "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD",
        "  0x00200000  CLONE_CHILD_CLEARTID  at exit clear the tid in the child's memory",
        "                                    and wake its futex",
        "  0x01000000  CLONE_CHILD_SETTID    store the child's tid in the child's memory",
        "  0x00000011  SIGCHLD               sent to the parent when the child exits",
        "what glibc's fork() asks for",
    ]


def test_the_text_of_single_values_is_a_table() -> None:
    """Single values are one line each, aligned, for awk: kind, architecture, decimal, hexadecimal, name, meaning."""
    found = [line.split() for line in lines(decode("syscall", ["wait4"]))]
    assert found == [
        ["syscall", "arm", "114", "0x72", "wait4", "sys_wait4"],
        ["syscall", "arm64", "260", "0x104", "wait4", "sys_wait4"],
        ["syscall", "x86_64", "61", "0x3d", "wait4", "sys_wait4"],
        ["syscall", "i386", "114", "0x72", "wait4", "sys_wait4"],
        ["syscall", "s390x", "114", "0x72", "wait4", "sys_wait4"],
    ]


def test_lines_break_between_names_and_words() -> None:
    """Long lists of names break after the bar, meanings at spaces, with the next line under the first."""
    record = Decoded("k", "x", 1, "|".join(["LONG_NAME"] * 9), parts=(Part(1, "NAME", "word " * 30),))
    shown = list(decoded.lines([record], 40))
    assert all(len(line) <= 40 for line in shown)
    assert shown[1].endswith("|")
    first = next(number for number, line in enumerate(shown) if line.startswith(" "))
    assert [len(line) - len(line.lstrip()) for line in shown[first:]] == [2, *[16] * (len(shown) - first - 1)]


def test_every_kind_is_described() -> None:
    """Each kind is found under its name in any spelling, and has a summary for the help."""
    for name, kind in KINDS.items():
        assert kind_of(name.upper()) is kind_of(name.replace("_", "-")) is kind
        assert kind.summary


def test_import_is_light() -> None:
    """Decoding needs nothing beyond the standard library, and loads no table that it does not need."""
    code = ("import sys; before = set(sys.modules); from taskscope.abi import decode; "
            "new = {m for m in set(sys.modules) - before}; "
            "print([m for m in new if m.split('.')[0] in ('numpy', 'polars', 'rich', 'click', 'dataclasses', 'inspect')"
            " or m.startswith('taskscope.abi.syscalls.') or m == 'taskscope.abi.threadinfo'])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"

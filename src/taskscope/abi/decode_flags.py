"""Reading flag words and other values made of bits; see `taskscope.abi.decode`."""

from __future__ import annotations

from collections.abc import Iterable

from taskscope.abi import preempt as preempt_count
from taskscope.abi import state as task_state
from taskscope.abi.arch import ARCHES, FAMILIES, family_of
from taskscope.abi.decoded import Decoded, Part
from taskscope.abi.era import KERNELS, Names, Version, checked, version_text
from taskscope.abi.sched import CLONE_FLAGS, CSIGNAL, PROCESS_FLAGS
from taskscope.abi.signal import MEANINGS, Signal, signal_name, signal_number
from taskscope.abi.signal import sigset as signals_of
from taskscope.abi.traceflags import COLUMNS, TRACE_FLAGS, flags_of_text, flags_text, four_columns
from taskscope.abi.words import cut, is_plain_decimal, lookup, near, number_of, split_flags, unknown
from taskscope.errors import UsageError


def _basis(kernel: Version) -> str:
    used = version_text(checked(kernel))
    return used if kernel == checked(kernel) else f"{used} (for {version_text(kernel)})"


def _positive(kind: str, word: str, value: int) -> int:
    if value < 0:
        raise UsageError(f"{kind}: {word} is negative, and flags are not")
    return value


def _read(kind: str, word: str, values: dict[str, int], prefixes: tuple[str, ...]) -> int:
    """Read ``A|B|0x40`` by the names in `values`."""
    total = 0
    for item in split_flags(word) or [word]:
        value = number_of(item)
        if value is None:
            value = lookup(item, values, prefixes)
        if value is None:
            raise unknown(kind, item, values, prefixes)
        total |= _positive(kind, item, value)
    return total


def _named(names: Names, kernel: Version) -> dict[str, int]:
    """All names with values: those of `kernel` first, then those that only other kernels have."""
    values = {r.name: r.value for r in names.at(kernel)}
    for r in names:
        values.setdefault(r.name, r.value)
    return values


def _flags(kind: str, names: Names, word: str, kernel: Version, of: str | None = None) -> Decoded:
    value = _read(kind, word, _named(names, kernel), (names.prefix,))
    found, rest = names.split(value, kernel)
    parts = []
    for r in found:
        others = _elsewhere(names, r.value, kernel)
        parts.append(Part(r.value, r.name, r.meaning + (f" ({others})" if others else "")))
    for bit in _bits(rest):
        others = _elsewhere(names, bit, kernel)
        parts.append(Part(bit, "?", f"no name in Linux {version_text(checked(kernel))}"
                          + (f"; {others}" if others else "")))
    parts.sort(key=lambda part: part.value or 0)
    return Decoded(kind, word, value, names.text(value, kernel), of=of, kernel=_basis(kernel), parts=tuple(parts),
                   notes=_none_set(value))


def _elsewhere(names: Names, bit: int, kernel: Version) -> str:
    return "; ".join(f"{other.span}: {other.name}" for other in names.others(bit, kernel))


def _bits(value: int) -> list[int]:
    return [1 << bit for bit in range(value.bit_length()) if value >> bit & 1]


def _none_set(value: int) -> tuple[str, ...]:
    return () if value else ("no bit is set",)


#: clone flags that everybody meets, signal included
_WELL_KNOWN = {
    0x0120_0011: "what glibc's fork() asks for",
    0x4111: "what vfork() and posix_spawn() ask for",
    0x3D_0F00: "what pthread_create() asks for",
    0x80_0700: "a kernel thread, as kthreadd creates it",
    0x80_0711: "a kernel thread, as kthreadd creates it",
}


def clone(word: str) -> Decoded:
    """Read clone flags; the low byte is the exit signal, or CLONE_NEWTIME."""
    values = {r.name: r.value for r in CLONE_FLAGS}
    total = 0
    for item in split_flags(word) or [word]:
        value = number_of(item)
        if value is None:
            value = lookup(item, values, (CLONE_FLAGS.prefix,))
        if value is None:
            value = signal_number(item)
        if value is None:
            raise unknown("clone", item, [*values, *Signal.__members__], (CLONE_FLAGS.prefix, "SIG"))
        total |= _positive("clone", item, value)
    flags, low = total & ~CSIGNAL, total & CSIGNAL
    names, parts = [], []
    found, rest = CLONE_FLAGS.split(flags | low & 0x80, (999, 0))
    for r in found:
        names.append(r.name)
        parts.append(Part(r.value, r.name, r.meaning))
    parts += [Part(bit, "?", "no clone flag") for bit in _bits(rest)]
    if rest:
        names.append(f"{rest:#x}")
    signal = low & 0x7F
    if signal:
        known = signal <= 64
        names.append(signal_name(signal))
        parts.append(Part(signal, signal_name(signal) if known else "?",
                          "sent to the parent when the child exits" if known else "no signal has this number"))
    notes = list(_none_set(total))
    if total in _WELL_KNOWN:
        notes.append(_WELL_KNOWN[total])
    if is_plain_decimal(word):
        notes.append(f"read as decimal; events print clone_flags in hexadecimal without 0x: try 0x{word.strip()}")
    return Decoded("clone", word, total, "|".join(names) or "0", parts=tuple(parts), notes=tuple(notes))


def process_flags(word: str, kernel: Version) -> Decoded:
    """Read PF_* flags."""
    return _flags("pf", PROCESS_FLAGS, word, kernel)


def syscall_work(word: str, kernel: Version) -> Decoded:
    """Read SYSCALL_WORK_* flags."""
    from taskscope.abi.threadinfo import SYSCALL_WORK

    return _flags("syscall_work", SYSCALL_WORK, word, kernel)


def thread_flags(words: list[str], arch: str | None, kernel: Version) -> list[Decoded]:
    """Read TIF_* flags of one architecture, or of each that is known."""
    from taskscope.abi.threadinfo import THREAD_FLAGS, work_masks

    names = {r.name for table in THREAD_FLAGS.values() for r in table}
    words, arch = _take_arch("tif", words, arch, names, "TIF_")
    families = [family_of(arch)] if arch else list(FAMILIES)
    records = []
    for word in words:
        first_error: UsageError | None = None
        found = []
        for family in families:
            assert family is not None
            try:
                record = _flags("tif", THREAD_FLAGS[family], word, kernel, family)
            except UsageError as error:
                # A name that one architecture lacks is no mistake as long as another has it.
                first_error = first_error or error
                continue
            # TIF_SIGPENDING itself is the number of the bit, _TIF_SIGPENDING the bit.
            parts = tuple(part._replace(meaning=f"bit {(part.value or 1).bit_length() - 1}: {part.meaning}")
                          for part in record.parts)
            masks = [f"in {name}: {THREAD_FLAGS[family].text(record.value & mask, kernel)}"
                     for name, mask in work_masks(family, kernel).items() if record.value & mask]
            found.append(record._replace(parts=parts, notes=(*record.notes, *masks)))
        if not found and first_error:
            raise first_error
        records += found
    return records


def _take_arch(kind: str, words: list[str], arch: str | None, names: Iterable[str],
               prefix: str = "") -> tuple[list[str], str | None]:
    """Take an architecture off the front of the words; `names` are what else a first word may be."""
    first = words[0]
    if family_of(first):
        arch, words = first, words[1:]
    elif len(words) > 1 and first.isalnum() and number_of(first) is None and lookup(
            first, dict.fromkeys(names, 0), (prefix,)) is None:
        raise UsageError(f"{kind}: {cut(first)!r} is no known architecture{near(first, [*ARCHES, *FAMILIES])}; "
                         f"known are {', '.join(ARCHES)}")
    if not words:
        raise UsageError(f"{kind}: nothing to decode after {arch}")
    return words, arch


def state(word: str, kernel: Version) -> Decoded:
    """Read a raw task state: a number, names, or the letter that ps shows."""
    combined = task_state.combined(kernel)
    letters = {"R": 0, "I": combined["TASK_IDLE"]}
    for r in task_state.TASK_STATES.at(kernel):
        letter = task_state.state_letter(r.value, 0, kernel)
        if letter not in letters:
            letters[letter] = r.value
    if word in letters:
        value = letters[word]
    else:
        names = combined | _named(task_state.TASK_STATES, kernel)
        value = _read("state", word, names, ("TASK_", "__TASK_", "EXIT_"))
    record = _flags("state", task_state.TASK_STATES, str(value), kernel)
    letter = task_state.state_letter(value, 0, kernel)
    notes = [f"{name} is {' with '.join(reversed(task_state.TASK_STATES.text(bits, kernel).split('|')))}"
             for name, bits in combined.items() if bits == value and bits.bit_count() > 1]
    if value == 0:
        record = record._replace(text="TASK_RUNNING")
    meaning = f"ps shows {letter}: {task_state.LETTER_MEANINGS[letter]}"
    if letter == "R" and "TASK_DEAD" in record.text:
        meaning = "ps shows Z or X, which exit_state decides"
    return record._replace(input=word, meaning=meaning, notes=tuple(notes))


def prev_state(word: str, kernel: Version) -> Decoded:
    """Read sched_switch's prev_state: a number, or letters as the event prints them."""
    value = number_of(word)
    if value is None:
        body, plus = word.removesuffix("+"), word.endswith("+")
        letters = {task_state.prev_state_text(bit, kernel): bit for bit in
                   [0, *(1 << n for n in range(11 if checked(kernel) < (4, 14) else 8))]}
        if checked(kernel) == (4, 14):
            letters = {letter: index for index, letter in enumerate(task_state.LETTERS)}
        value = 0
        for item in body.split("|"):
            if item not in letters:
                raise unknown("prev_state", word, [letter for letter in letters if letter.isalpha()])
            value |= letters[item]
        value |= task_state.preempted_bit(kernel) if plus else 0
    _positive("prev_state", word, value)
    text = task_state.prev_state_text(value, kernel)
    letter = task_state.prev_state_letter(value, kernel)
    meaning = task_state.LETTER_MEANINGS[letter] if letter else "no state"
    if value & task_state.preempted_bit(kernel):
        meaning += ", preempted"
    notes = []
    if letter and letter != text.rstrip("+"):
        notes.append(f"the event prints {text}; the state is {letter}")
    if value == 0x80 and checked(kernel) > (4, 14):
        notes.append("the raw state has another bit 0x80, TASK_DEAD: see decode state")
    return Decoded("prev_state", word, value, text, meaning, kernel=_basis(kernel), notes=tuple(notes))


def sigset(word: str) -> Decoded:
    """Read a signal mask; 16 digits are taken as /proc prints it, in hexadecimal."""
    text = word.strip()
    bare = len(text) == 16 and all(c in "0123456789abcdefABCDEF" for c in text)
    value = int(text, 16) if bare else None
    if value is None:
        value = 0
        for item in split_flags(word) or [word]:
            number = number_of(item)
            if number is None:
                signal = signal_number(item)
                if signal is None:
                    raise unknown("sigset", item, Signal.__members__, ("SIG",))
                number = 1 << signal - 1
            value |= _positive("sigset", item, number)
    signals = signals_of(value)
    names = [signal_name(signal) if signal not in (32, 33) else f"{1 << signal - 1:#x}" for signal in signals]
    parts = tuple(Part(1 << signal - 1, signal_name(signal), f"signal {signal}: " + MEANINGS[Signal(signal)]
                       if signal < 32 else f"signal {signal}: real-time") for signal in signals)
    return Decoded("sigset", word, value, "|".join(names) or "0", parts=parts, notes=_none_set(value))


# name, shift, what it says when it counts, and when it is 0
_FIELDS = (
    ("PREEMPT", preempt_count.PREEMPT_SHIFT, "preempt_disable() {}", "preemption is not disabled"),
    ("SOFTIRQ", preempt_count.SOFTIRQ_SHIFT, "", "in no softirq, none disabled"),
    ("HARDIRQ", preempt_count.HARDIRQ_SHIFT, "in a hard interrupt, {}", "in no hard interrupt"),
    ("NMI", preempt_count.NMI_SHIFT, "in an NMI, {}", "in no NMI"),
)
_OFFSETS = {"SOFTIRQ_DISABLE_OFFSET": preempt_count.SOFTIRQ_DISABLE_OFFSET,
            **{f"{field[0]}_OFFSET": 1 << field[1] for field in _FIELDS}}


def preempt(words: list[str], arch: str | None, kernel: Version) -> list[Decoded]:
    """Read preempt_count."""
    words, arch = _take_arch("preempt", words, arch, _OFFSETS)
    return [_preempt(word, family_of(arch) if arch else None, kernel) for word in words]


def _preempt(word: str, family: str | None, kernel: Version) -> Decoded:
    # Without an architecture, bit 31 is shown as what it is on the two that use it.
    inverted = preempt_count.NEED_RESCHED_BIT.get(family or "x86", 0)
    value = 0
    for item in split_flags(word) or [word]:
        number = number_of(item)
        if number is None:
            number = _preempt_item(item, inverted)
        value |= _positive("preempt", item, number)
    count = preempt_count.split(value, kernel, family or "x86")
    texts, parts = [], []
    for (name, shift, phrase, none), depth in zip(_FIELDS, count[:4], strict=True):
        meaning = phrase.format(f"{depth} deep") if depth else none
        if name == "SOFTIRQ" and depth:
            inside = ["in a softirq"] if depth & 1 else []
            inside += [f"local_bh_disable() {depth // 2} deep"] if depth > 1 else []
            meaning = ", ".join(inside)
        if depth:
            texts.append(f"{name}={depth}")
        parts.append(Part(depth << shift, f"{name}={depth}", meaning))
    if inverted and (family or value & inverted):
        where = "" if family else " (x86, s390)"
        due = "no reschedule is due" if value & inverted else "a reschedule is due"
        if value & inverted:
            texts.append("PREEMPT_NEED_RESCHED")
        parts.append(Part(value & inverted, "PREEMPT_NEED_RESCHED", f"inverted{where}: {due}"))
    parts += [Part(bit, "?", "no field of preempt_count") for bit in _bits(count.rest)]
    if count.rest:
        texts.append(f"{count.rest:#x}")
    macros = [f"{name}()" for name in ("in_task", "in_serving_softirq", "in_softirq", "in_hardirq", "in_nmi",
                                       "in_interrupt") if getattr(count, name)()]
    return Decoded("preempt", word, value, "|".join(texts) or "0", "true: " + ", ".join(macros), of=family,
                   kernel=_basis(kernel), parts=tuple(parts))


def _preempt_item(item: str, inverted: int) -> int:
    key = item.upper()
    if key in _OFFSETS:
        return _OFFSETS[key]
    if key in ("PREEMPT_NEED_RESCHED", "NEED_RESCHED") and inverted:
        return inverted
    for name, shift, _, _ in _FIELDS:
        field, sign, depth = key.replace(":", "=").partition("=")
        if field == name and sign:
            number = number_of(depth)
            top = 0xFF if shift < preempt_count.HARDIRQ_SHIFT else 0xF
            if number is None or not 0 <= number <= top:
                raise UsageError(f"preempt: {item} needs a depth from 0 to {top}")
            return number << shift
    raise unknown("preempt", item, [*_OFFSETS, "PREEMPT_NEED_RESCHED", *(f"{f[0]}=1" for f in _FIELDS)])


def trace_flags(words: list[str], kernel: Version) -> list[Decoded]:
    """Read ftrace's flags column: its text, or common_flags and perhaps common_preempt_count."""
    numbers = [number_of(word) for word in words]
    if len(words) == 2 and numbers[0] is not None and numbers[1] is not None:
        flags, count = numbers[0], numbers[1]
        if not (0 <= flags <= 0xFF and 0 <= count <= 0xFF):
            raise UsageError("traceflags: common_flags and common_preempt_count are one byte each")
        return [_trace_flags(" ".join(words), flags, count, kernel)]
    records = []
    for word, number in zip(words, numbers, strict=True):
        if number is not None:
            if not 0 <= number <= 0xFFFF:
                raise UsageError(f"traceflags: {word} is more than the two bytes common_flags and common_preempt_count")
            records.append(_trace_flags(word, number & 0xFF, number >> 8, kernel))
            continue
        pair, newest = flags_of_text(word, kernel), flags_of_text(word, KERNELS[-1])
        if pair is None and newest is not None:
            records.append(_trace_flags(word, *newest, KERNELS[-1]))
            continue
        if pair is None and len(word) > 5:
            value = _read("traceflags", word, _named(TRACE_FLAGS, kernel), (TRACE_FLAGS.prefix,))
            pair = value & 0xFF, value >> 8 & 0xFF
        if pair is None:
            raise UsageError(f"traceflags: {cut(word)!r} is no flags column; it looks like d..2. or dNh2.; "
                             "or give common_flags and common_preempt_count")
        records.append(_trace_flags(word, *pair, kernel))
    return records


def _trace_flags(word: str, flags: int, count: int, kernel: Version) -> Decoded:
    text = flags_text(flags, count, kernel)
    parts = []
    for (name, meanings), letter in zip(COLUMNS[:3], text[:3], strict=True):
        parts.append(Part(None, name, meanings[letter], letter))
    depths = [text[3:]] if four_columns(kernel) else list(text[3:])
    for (name, _), digits in zip(COLUMNS[3:], depths, strict=False):
        depth = 0 if digits == "." else int(digits, 16)
        capped = " or more" if depth == 15 and len(depths) == 2 else ""
        parts.append(Part(None, name, f"{depth} deep{capped}" if depth else "0", digits))
    return Decoded("traceflags", word, flags | count << 8, text,
                   f"common_flags {flags:#04x} {TRACE_FLAGS.text(flags, kernel)}, common_preempt_count {count:#04x}",
                   kernel=_basis(kernel), parts=tuple(parts))

r"""Lives as JSON Lines: the data contract of ``taskscope lives --json`` (docs/json.md).

One object a line, always all keys in one order, times in ns of the recording's clock, unknown is null.  The
output is pure ASCII: whatever a program put into its name, a terminal and a JSON parser get nothing but
characters and ``\uXXXX``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from json.encoder import encode_basestring_ascii

from taskscope.lives.life import Adoption, Birth, Exec, Exit, Life, Reaped, Signal, State, TaskRef

# Lives are many and have few distinct names: each is encoded once.  Formatting by hand instead of
# json.dumps() of a dict makes a recording of 100,000 lives a matter of a second.
_quote: Callable[[str], str] = encode_basestring_ascii

TIME_KEYS = tuple(s.name.lower() for s in State if s is not State.DEAD)


def _ref(ref: TaskRef | None) -> str:
    return "null" if ref is None else f'{{"pid":{ref[0]},"generation":{ref[1]}}}'


def _num(value: int | None) -> str:
    return "null" if value is None else str(int(value))


def _bool(value: bool | None) -> str:
    return "null" if value is None else "true" if value else "false"


def _text(value: str | None) -> str:
    return "null" if value is None else _quote(value)


def _texts(values: Iterable[str] | None) -> str:
    return "null" if values is None else f"[{','.join(map(_quote, values))}]"


def _born(born: Birth | None) -> str:
    if born is None:
        return "null"
    return (
        f'{{"at":{born.at},"by":{_ref(born.by)},"how":{_text(born.how)},"clone_flags":{_num(born.clone_flags)},'
        f'"exit_signal":{_num(born.exit_signal)},"stack":{_texts(born.stack)},"inferred":{_texts(born.inferred)}}}'
    )


def _exec(one: Exec) -> str:
    return f'{{"at":{one.at},"filename":{_quote(one.filename)},"old_pid":{one.old_pid}}}'


def _signal(one: Signal) -> str:
    return (
        f'{{"at":{one.at},"sig":{one.sig},"code":{one.code},"from":{_ref(one.sender)},"result":{one.result},'
        f'"delivered_at":{_num(one.delivered_at)}}}'
    )


def _exit(end: Exit | None) -> str:
    if end is None:
        return "null"
    return (
        f'{{"at":{end.at},"code":{_num(end.code)},"signal":{_num(end.signal)},"core":{_bool(end.core)},'
        f'"cause":{_text(end.cause)},"killer":{_ref(end.killer)},"stack":{_texts(end.stack)},'
        f'"inferred":{_texts(end.inferred)}}}'
    )


def _reaped(reaped: Reaped | None) -> str:
    if reaped is None:
        return "null"
    return f'{{"at":{_num(reaped.at)},"by":{_ref(reaped.by)},"inferred":{_texts(reaped.inferred)}}}'


def _adoption(one: Adoption) -> str:
    return f'{{"at":{_num(one.at)},"by":{_ref(one.by)},"inferred":{_texts(one.inferred)}}}'


def life_json(life: Life) -> str:
    """Return one life as one line of JSON, without the newline."""
    comms = ",".join([f'{{"at":{c.at},"comm":{_quote(c.comm)}}}' for c in life.comms])
    execs = ",".join(map(_exec, life.execs)) if life.execs else ""
    signals = ",".join(map(_signal, life.signals)) if life.signals else ""
    adopted = ",".join(map(_adoption, life.adopted)) if life.adopted else ""
    times = ",".join([f'"{key}":{life.time.get(key, 0)}' for key in TIME_KEYS])
    freed = "null" if life.freed is None else f'{{"at":{life.freed.at}}}'
    cpus = ",".join(map(str, life.cpus))
    return (
        f'{{"pid":{life.pid},"generation":{life.generation},"tgid":{_num(life.tgid)},"kind":{_text(life.kind)},'
        f'"comm":{_quote(life.comm)},"comms":[{comms}],"parent":{_ref(life.parent)},"born":{_born(life.born)},'
        f'"execs":[{execs}],"signals":[{signals}],"exit":{_exit(life.exit)},"reaped":{_reaped(life.reaped)},'
        f'"freed":{freed},"adopted":[{adopted}],"time":{{{times}}},'
        f'"switches":{{"voluntary":{life.switches.voluntary},"involuntary":{life.switches.involuntary}}},'
        f'"wakeups":{life.wakeups},"migrations":{life.migrations},"cpus":[{cpus}],"gaps":{life.gaps},'
        f'"inferred":{_texts(life.inferred)}}}'
    )


def lives_jsonl(lives: Iterable[Life], block: int = 2000) -> Iterator[bytes]:
    """Yield lives as JSON Lines, in blocks of about `block` lines.

    :param lives: in the order in which they are to be printed
    """
    lines: list[str] = []
    for life in lives:
        lines.append(life_json(life))
        if len(lines) >= block:
            yield ("\n".join(lines) + "\n").encode("ascii")
            lines.clear()
    if lines:
        yield ("\n".join(lines) + "\n").encode("ascii")


def dumps(value: object) -> str:
    """Encode any other record as one line of JSON in the same manner: compact, ASCII, no NaN."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)

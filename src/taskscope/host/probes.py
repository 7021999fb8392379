"""All probes, in the order in which people read them, asked side by side so that none makes the others wait."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence

from taskscope.host import guests, memory, recording, tools
from taskscope.host.answer import Answer, Host

Probe = Callable[[Host], Answer]

#: seconds after which a probe that has not answered is given up: a file system that hangs must not hang the check
PATIENCE = 2.0

_GROUPS = (recording, memory, guests, tools)


def _name(probe: Probe) -> str:
    return {"qmp": "qemu.qmp"}.get(probe.__name__, probe.__name__.replace("_", "-"))


#: name -> (group, probe)
PROBES: dict[str, tuple[str, Probe]] = {_name(probe): (module.GROUP, probe)
                                        for module in _GROUPS for probe in module.PROBES}


def look(host: Host | None = None, names: Sequence[str] | None = None, patience: float = PATIENCE) -> list[Answer]:
    """Ask the probes.

    :param names: which of `PROBES`, all by default; the answers come in the order of `PROBES`
    :param patience: seconds in which all must have answered
    :return: an answer for each; ``unknown`` for one that did not answer in time
    """
    host = host or Host()
    asked = [name for name in PROBES if names is None or name in names]
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def ask(name: str) -> None:
        group, probe = PROBES[name]
        try:
            answers.put(probe(host))
        except Exception as e:
            answers.put(Answer(name, group, "unknown", f"the probe failed: {type(e).__name__}: {e}"))

    for name in asked:
        # Daemons: one that hangs in the kernel does not keep the program from ending.
        threading.Thread(target=ask, args=(name,), daemon=True).start()
    found: dict[str, Answer] = {}
    until = time.monotonic() + patience
    while len(found) < len(asked):
        try:
            answer = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        found[answer.name] = answer
    return [found.get(name) or Answer(name, PROBES[name][0], "unknown", f"no answer within {patience:g} s")
            for name in asked]

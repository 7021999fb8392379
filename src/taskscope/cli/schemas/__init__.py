"""What `--json` prints, as JSON Schema: the contract that the manual shows and the tests hold.

`SCHEMAS` has the schema of one line for each command that has the option.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from taskscope.cli.schemas import moments, others, recorded
from taskscope.cli.schemas.build import Schema

#: command -> what makes the schema of one line of its --json; in the order of the manual
SCHEMAS: Final[dict[str, Callable[[], Schema]]] = {
    "lives": recorded.lives, "life": partial(recorded.lives, "life"), "report": recorded.report,
    "record": recorded.follow, "sched": recorded.sched, "kills": recorded.kills, "forks": recorded.forks,
    "ps": moments.ps, "tree": moments.tree, "task": moments.task, "stack": moments.stack, "cpus": moments.cpus,
    "blocked": moments.blocked, "diff": moments.diff, "lab": others.lab, "compare": others.compare,
    "check": others.check, "decode": others.decode,
}


def schema(verb: str) -> Schema:
    """Return the schema of one line that a command prints with ``--json`` (of record with ``--follow``).

    :param verb: one of `SCHEMAS`
    """
    return SCHEMAS[verb]()

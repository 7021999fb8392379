"""Parts of which the schemas are made, as JSON Schema 2020-12 (https://json-schema.org/draft/2020-12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

NS = "ns of the recording's clock"
INFERRED = "what was concluded rather than recorded, a sentence each"


def _of(kind: str, about: str, **more: Any) -> Schema:
    return {"type": kind, **({"description": about} if about else {}),
            **{name: value for name, value in more.items() if value is not None}}


def integer(about: str = "", *, least: int | None = None, most: int | None = None) -> Schema:
    """Return a whole number's schema."""
    return _of("integer", about, minimum=least, maximum=most)


def count(about: str = "") -> Schema:
    """Return that of a number that is not negative."""
    return integer(about, least=0)


def text(about: str = "") -> Schema:
    """Return that of a text."""
    return _of("string", about)


def address(about: str = "") -> Schema:
    """Return that of an address: hexadecimal, since JSON readers round numbers beyond 2^53."""
    return _of("string", about, pattern="^0x[0-9a-f]+$")


def flag(about: str = "") -> Schema:
    """Return that of a truth value."""
    return _of("boolean", about)


def word(*words: str | None, about: str = "") -> Schema:
    """Return that of one of several words."""
    return {"enum": list(words), **({"description": about} if about else {})}


def array(items: Schema, about: str = "") -> Schema:
    """Return that of a list."""
    return _of("array", about, items=items)


def record(keys: Mapping[str, Schema], about: str = "", *, optional: tuple[str, ...] = ()) -> Schema:
    """Return that of an object which has exactly these keys, those that are optional perhaps."""
    return _of("object", about, properties=dict(keys), required=[key for key in keys if key not in optional],
               additionalProperties=False)


def mapping(values: Schema, about: str = "") -> Schema:
    """Return that of an object with any keys."""
    return _of("object", about, additionalProperties=values)


def maybe(schema: Schema, about: str = "") -> Schema:
    """Return that of a value or null.

    :param about: what null says, or what the key is for
    """
    told = about or schema.get("description", "")
    if "enum" in schema:
        made = {**schema, "enum": [*schema["enum"], None]}
    elif schema.get("type") in ("integer", "string", "boolean"):
        made = {**schema, "type": [schema["type"], "null"]}
    else:
        made = {"anyOf": [schema, {"type": "null"}]}
    return {**made, **({"description": told} if told else {})}


def refers(name: str, about: str = "") -> Schema:
    """Return that of a part that stands under ``$defs``."""
    return {"$ref": f"#/$defs/{name}", **({"description": about} if about else {})}


def one_line(verb: str, schema: Schema, about: str, **defs: Schema) -> Schema:
    """Return a whole schema: of one line that a command prints.

    :param defs: its parts that `refers` names
    """
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:taskscope:{verb.replace(' --', '-')}:1",
            "title": f"One line of `taskscope {verb} --json`", "description": about}
    rest = {key: value for key, value in schema.items() if key != "description"}
    return {**head, **rest, **({"$defs": defs} if defs else {})}


def life(about: str = "") -> Schema:
    """Return the reference to a life of a recording; its part is `LIFE`."""
    return refers("life", about)


#: which life of a recording
LIFE = record({"pid": count(), "generation": count("how many tasks bore this pid before it in the recording")},
              "Which life: a pid and its generation.")
KINDS = ("process", "thread", "kthread", "idle")
HOW = ("fork", "vfork", "clone", "thread", "kthread")
CAUSES = ("exit", "signal", "group_exit", "exec", "oom")
STATES = ("running", "runnable", "sleeping", "blocked", "stopped", "traced", "parked", "idle", "zombie", "unknown")


def stack(about: str = "kernel call stack, innermost first; null where it was not recorded") -> Schema:
    """Return a call stack's schema."""
    return maybe(array(text()), about)


def inferred() -> Schema:
    """Return the schema of what was concluded."""
    return array(text(), INFERRED)


def times() -> Schema:
    """Return the schema of how long a task was in each state."""
    return record({state: count("ns" if state != "unknown" else "ns in gaps") for state in STATES},
                  "how long it was in each state within the recording")


def switches() -> Schema:
    """Return the schema of the switches away from a task."""
    return record({"voluntary": count(), "involuntary": count()}, "switches away from the task")

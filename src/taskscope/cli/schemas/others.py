"""The schemas of lab, compare, check and decode."""

from __future__ import annotations

from taskscope.cli.schemas.build import Schema, array, count, flag, integer, maybe, one_line, record, text, word

_VERDICT = word("equal", "allowed", "differs", about="allowed: another schedule of the model shows the same race")


def lab() -> Schema:
    """Return the schema of ``lab --json``."""
    check = record({"what": text("what must be seen"), "passed": flag(),
                    "seen": maybe(text("what was seen instead; null: it passed"))})
    run = record({
        "name": text(), "flavour": text("of the model, or the one whose names this kernel has"),
        "machine": text("model, host, guest:KERNEL or dump:FILE"), "release": maybe(text("of a real kernel")),
        "mutant": maybe(text("the line that was changed; null: none")), "passed": flag("all was seen that must be"),
        "crash": maybe(text("how the model's kernel fell over, or the lab")),
        "checks": array(check), "output": array(text(), "what it showed, text of one or more lines each"),
    }, "A run.")
    listed = record({
        "name": text(), "title": text(), "machines": array(word("model", "host", "guest"), "where it runs"),
        "flavours": array(text(), "of the model"), "question": text(), "look": text("what to look at"),
        "answer": text(),
        "needs": array(word("events", "functions", "/proc", "memory"), "what it looks with on real kernels"),
        "real_note": maybe(text("what a real kernel shows otherwise")),
        "mutant": text("the line that --mutant changes"),
        "mutant_of": text("where that is in the model: file:function"),
    }, "With `list`: a lab.")
    compared = record({
        "name": text(), "compared": {**array(text(), "two machines"), "minItems": 2, "maxItems": 2},
        "verdict": maybe(_VERDICT, "null: it has no task of its own that could be compared"),
        "schedules": count("of the model that were looked at"), "text": text("for people"),
    }, "With `--on all`, after the runs: two machines.")
    kinds = [{"title": title, **one} for title, one in (("a run", run), ("list", listed), ("compared", compared))]
    return one_line("lab", {"oneOf": kinds}, "A run of a lab, a lab of the list, or a comparison of two runs.")


def compare() -> Schema:
    """Return the schema of ``compare --json``."""
    act = record({"at": integer("ns of its recording's clock"), "what": text(),
                  "stack": array(text(), "how it came to it, innermost first; empty: not recorded")}, "An act.")
    difference = record({"role": text("whose act it is"), "index": count("acts of that task that are equal before it"),
                         "a": maybe(act, "in the first; null: nothing more"), "b": maybe(act, "in the second")})
    keys = {"a": text("the first, as it was named"), "b": text(), "lab": maybe(text()), "verdict": _VERDICT,
            "schedules": count("of the model that were looked at for a race"),
            "broken": array(text(), "promises of the kernel's order that one of them does not keep"),
            "difference": maybe(difference, "the first one, also where it is allowed")}
    return one_line("compare", record(keys), "How two recordings, or two machines, compare.")


def check() -> Schema:
    """Return the schema of ``check --json``."""
    keys = {"name": text("what `--need` takes"), "group": text(), "works": maybe(flag("as a whole; null: not known")),
            "state": word("yes", "no", "partly", "unknown"), "detail": text(), "remedy": maybe(text())}
    return one_line("check", record(keys), "One thing that this machine can do, or cannot.")


def decode() -> Schema:
    """Return the schema of ``decode --json``."""
    part = record({"value": maybe(integer("the bits it takes; null: it is not made of bits")), "hex": maybe(text()),
                   "name": text(), "meaning": text()})
    keys = {"kind": text(), "input": text("as it was given"),
            "of": maybe(text("the architecture or the signal that the value belongs to")),
            "kernel": maybe(text("whose table was used; null: it holds for all")), "value": integer(), "hex": text(),
            "text": text("the names, so written that the same kind reads them back"), "meaning": text(),
            "parts": array(part, "its bits and fields"), "notes": array(text())}
    return one_line("decode", record(keys), "One value and what it means.")

"""What came of a lab, as lines, as JSON and as a page: `run_lines`, `compared`, `listing`, `lab_page`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from taskscope.errors import UsageError
from taskscope.labs.catalog import TITLES, get
from taskscope.labs.lab import Run, run_lab
from taskscope.labs.on import compare_runs
from taskscope.views.json import dumps


def run_lines(
    run: Run, *, answer: bool = False, mutant: bool = False, as_json: bool = False, quiet: bool = False
) -> Iterator[str]:
    """Yield the question, what was shown, what was checked.

    :param answer: the answer, too
    :param mutant: it ran with its mutant, which is named
    :param as_json: all of it as one line of JSON
    :param quiet: only what was checked
    """
    lab = run.lab
    if as_json:
        yield _json(run, mutant)
        return
    where = run.flavour if run.machine is None else f"{run.place}, {run.machine.release}"
    yield f"{lab.name}: {lab.title} ({where})"
    if not quiet:
        yield f"\nQuestion: {_wrapped(lab.question)}\nLook at:  {_wrapped(lab.look)}\n"
        if mutant and run.machine is None:
            changed = lab.mutant_of(run.flavour)
            yield f"Mutant:   {changed.name} ({changed.function.replace(':', ': ')}())\n"
        elif mutant:
            yield "Mutant:   one expectation is a wrong one\n"
        yield from run.output
    for check in run.checks:
        yield f"{'ok  ' if check.passed else 'FAIL'} {_wrapped(check.what, 5)}"
        if not check.passed and check.seen:
            yield f"     seen: {check.seen[:400]}"
    if run.crash is not None:
        yield f"FAIL {_wrapped(run.crash, 5)}"
    if answer:
        yield f"\nAnswer: {_wrapped(lab.answer)}"
    if answer and lab.real_note:
        yield f"\nOn a real kernel:\n          {_wrapped(lab.real_note)}"


def _json(run: Run, mutant: bool) -> str:
    lab = run.lab
    return dumps(
        {
            "name": lab.name,
            "flavour": run.flavour,
            "machine": run.place,
            "release": None if run.machine is None else run.machine.release,
            "mutant": lab.mutant_of(run.flavour).name if mutant else None,
            "passed": run.passed,
            "crash": run.crash,
            "checks": [
                {"what": c.what, "passed": c.passed, "seen": None if c.passed else c.seen} for c in run.checks
            ],
            "output": run.output,
        }
    )


def compared(runs: Iterable[Run], *, as_json: bool = False) -> Iterator[tuple[str, bool]]:
    """Compare the model with each real kernel: yield what came of it, and whether it is equal or allowed."""
    runs = list(runs)
    models = {run.flavour: run for run in runs if run.place == "model"}
    for run in runs:
        if run.place == "model":
            continue
        model = models.get(run.flavour)
        if model is None:
            model = models[run.flavour] = run_lab(run.lab, run.flavour)
        verdict, schedules, text = None, 0, "nothing to compare: no task of its own"
        if model.kept and run.kept:
            found = compare_runs(model, run)
            verdict, schedules, text = found.verdict, found.schedules, str(found)
        shown = f"A model {run.flavour}, B {run.place} ({run.real.release}): {text}"
        if as_json:
            shown = dumps({"name": run.lab.name, "compared": [f"model {run.flavour}", run.place],
                           "verdict": verdict, "schedules": schedules, "text": text})
        yield shown, verdict != "differs"


def listing(*, as_json: bool = False) -> Iterator[str]:
    """Yield the labs: name, machines, title."""
    width = max(map(len, TITLES))
    if not as_json:
        yield f"{'NAME':<{width}}  ON   TITLE  (on M the model, H this host, G a guest)"
    for name, title in TITLES.items():
        lab = get(name)
        if as_json:
            yield dumps(
                {
                    "name": name,
                    "title": title,
                    "machines": list(lab.machines),
                    "flavours": list(lab.flavours),
                    "question": lab.question,
                    "look": lab.look,
                    "answer": lab.answer,
                    "needs": list(lab.needs),
                    "real_note": lab.real_note or None,
                    "mutant": lab.mutant.name,
                    "mutant_of": lab.mutant.function,
                }
            )
        else:
            letters = "".join(one[0].upper() if one in lab.machines else "-" for one in ("model", "host", "guest"))
            yield f"{name:<{width}}  {letters}  {title}"


def lab_page(runs: Sequence[Run]) -> str:
    """Return the recordings that the runs kept as one page for a browser, with the question and what was checked.

    :raises UsageError: none was kept
    """
    from taskscope.views.timeline.pack import pack
    from taskscope.views.timeline.page import page

    packed = []
    for run in runs:
        lab = {"question": run.lab.question, "look": run.lab.look, "answer": run.lab.answer,
               "checks": [[check.what, check.passed, check.seen[:200]] for check in run.checks]}
        packed += [pack(kept.recording.lives, f"{run.lab.name}, {run.place} {run.flavour}", lab=lab)
                   for kept in run.kept]
    if not packed:
        raise UsageError(f"lab {runs[0].lab.name} keeps no recording of its own: there is nothing to draw")
    return page(packed)


def _wrapped(text: str, indent: int = 10) -> str:
    """Break a text to 80 columns, continued under its first line, which begins at a column."""
    blanks = " " * indent
    return textwrap.fill(text, 80, initial_indent=blanks, subsequent_indent=blanks).lstrip()

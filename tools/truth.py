"""Hold the executable kernel against this host's kernel: random programs or rules, transcripts compared.

Each random program runs on the host in a PID namespace (without root: a user namespace around it, or under a subreaper)
and on the model under many schedules with its invariants checked; every transcript must be the one that the reference
expects.  What differs is shrunk and printed.  Exit code 0: nothing differs, 1: something does.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from taskscope.labs.truth import build, compare
from taskscope.labs.truth.host import HostRunner, best_mode
from taskscope.labs.truth.program import Program, Transcript

EXAMPLES = """examples:
  tools/truth.py --count 10000             10,000 programs, on the host and under 20 schedules of the model
  tools/truth.py --first 4711 --count 1 --show    one program with its transcripts
  tools/truth.py --on host --count 2000    the generator and the reference against the host alone
  tools/truth.py --racy --count 10000      is what the host says of races among what the model says?
  tools/truth.py --rules                   all conformance rules, on the host and on every flavour of the model
  tools/truth.py --rules --record tests/golden/rules   write down what this host says, for machines that are none such
  tools/truth.py --rules --mutants         kernels with one line changed: is each noticed by its rule?
  tools/truth.py --rules wait exec.keeps_pid --show   some of them, with what they say"""
#: programs of one piece of work
PIECE = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """What to compare, and how."""

    on: str
    schedules: int
    mode: str
    flavour: str
    cpus: int
    #: how many of the schedules each program meets
    each: int
    #: programs may become other users'
    root: bool


def runners(plan: Plan, host: HostRunner | None, turn: int = 0) -> dict[str, compare.Runner]:
    """Return what runs programs, by name.

    :param turn: which of the schedules come first, where a program does not meet all
    """
    found: dict[str, compare.Runner] = {}
    if host is not None:
        found["host"] = host.run_all
    if plan.on in ("model", "all"):
        from taskscope.labs.truth.model import ModelRunner

        for n in range(min(plan.each, plan.schedules)):
            schedule = (turn * plan.each + n) % plan.schedules
            found[f"model/{schedule}"] = ModelRunner(schedule, flavour=plan.flavour, cpus=plan.cpus).run_all
    return found


def check(seeds: Sequence[str], plan: Plan, turn: int) -> list[str]:
    """Compare the programs of some seeds; return a report for each that differs."""
    host = HostRunner(plan.mode) if plan.on in ("host", "all") else None  # type: ignore[arg-type]
    try:
        todo = runners(plan, host, turn)
        programs = [build.program(seed, root=plan.root) for seed in seeds]
        return [report(found, todo, plan) for found in compare.compare(programs, todo) if found is not None]
    finally:
        if host is not None:
            host.close()


def race(seeds: Sequence[str], plan: Plan, turn: int) -> list[str]:
    """Run the racy programs of some seeds; a report for each whose transcript no schedule of the model gives."""
    from taskscope.labs.truth import races, sets

    del turn
    with HostRunner(plan.mode) as host:  # type: ignore[arg-type]
        programs = [races.race(seed) for seed in seeds]
        found = sets.outcomes(programs, host.run_all, plan.schedules, plan.flavour)
        return [one.text() for one in found if not one.found]


def end_with_parent() -> None:
    """Let this process be killed when the one that started it ends: prctl(PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, ctypes.c_ulong(signal.SIGKILL))


def report(found: compare.Divergence, todo: dict[str, compare.Runner], plan: Plan) -> str:
    """Shrink a program that differs and write it down."""
    bad = {name: todo[name] for name in found.transcripts if name in todo and
           found.transcripts[name] != found.program.expected}
    one = dict(list(bad.items())[:1])

    def differs(program: Program) -> bool:
        return next(iter(compare.compare([program], one))) is not None

    small = compare.shrink(build.random_steps(found.program.seed), differs, root=plan.root)
    again = next(iter(compare.compare([small], {**todo}))) or found
    names = sorted({*again.transcripts} - {"reference"}, key=list(again.transcripts).index)
    shown = {name: again.transcripts[name] for name in ["reference", *names]}
    # Schedules that say the same are one column.
    columns: dict[str, Transcript] = {}
    for name, lines in shown.items():
        if lines not in columns.values():
            columns[name] = lines
    return (f"program {found.program.seed}: {', '.join(bad)} differ from the reference; shrunk:\n"
            f"{compare.Divergence(small, columns).text(fences=True)}")


def show(seeds: Sequence[str], plan: Plan) -> None:
    """Print programs with their transcripts."""
    host = HostRunner(plan.mode) if plan.on in ("host", "all") else None  # type: ignore[arg-type]
    try:
        for seed in seeds:
            program = build.program(seed, root=plan.root)
            found = {"reference": program.expected}
            for name, run in runners(plan, host).items():
                found[name] = next(iter(run([program])))
            print(compare.Divergence(program, found).text(fences=True))
    finally:
        if host is not None:
            host.close()


def hold_rules(names: Sequence[str], schedules: int, *, show: bool) -> int:
    """Compare rules; return the exit code."""
    from taskscope.labs.truth import rules as rules_
    from taskscope.labs.truth.rules import compare as sides
    from taskscope.labs.truth.rules import host

    found = rules_.load(names)
    start = time.monotonic()
    if show:
        for name, lines in host.run(found).items():
            print(name, *lines, sep="\n    ")
    wrong = sides.check(found, range(schedules))
    print(*wrong, sep="\n\n")
    bad = len({one.rule.name for one in wrong})
    seconds = time.monotonic() - start
    print(f"{len(found)} rules on the host and on the model ({schedules} schedules): {bad} differ; {seconds:.1f} s")
    return 1 if wrong else 0


def record_rules(names: Sequence[str], folder: Path) -> int:
    """Write down what this host says to the rules of whole groups; return the exit code."""
    from taskscope.labs.truth.rules import GROUPS, group, host, recorded

    for name in names or GROUPS:
        recorded.write(folder / f"{name}.txt", host.run(group(name)), os.uname().release)
    return 0


def change_kernels(names: Sequence[str]) -> int:
    """Play rules on kernels with one line changed; return the exit code."""
    from taskscope.labs.truth.rules import mutants

    start = time.monotonic()
    todo = [change for change in mutants.CHANGES
            if not names or change.rule in names or change.rule.partition(".")[0] in names]
    missed = [change for change in todo if not mutants.noticed(change)]
    for change in missed:
        print(f"{change.rule} does not notice: {change.mutant.function}: {change.mutant.old} -> {change.mutant.new}")
    print(f"{len(todo)} changed kernels: {len(missed)} not noticed; {time.monotonic() - start:.1f} s")
    return 1 if missed else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0], epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, metavar="N", help="how many programs (500)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the seed of the first (0)")
    parser.add_argument("--schedules", type=int, metavar="N",
                        help="schedules of the model each (20; of races at most: 20,000)")
    parser.add_argument("--each", type=int, metavar="N", help="schedules that each program meets, in turn (all)")
    parser.add_argument("--on", choices=("all", "host", "model"), default="all", help="what runs them (all)")
    parser.add_argument("--mode", choices=("pid", "user", "sub"), help="what holds processes together on the host")
    parser.add_argument("--flavour", default="4.19-arm", help="of the model (4.19-arm)")
    parser.add_argument("--cpus", type=int, default=2, help="of the model (2)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that work")
    parser.add_argument("--racy", action="store_true",
                        help="racy programs: up to --schedules of the model, until one gives what the host gave")
    parser.add_argument("--show", action="store_true", help="print the programs and all their transcripts")
    parser.add_argument("--rules", nargs="*", metavar="RULE",
                        help="play conformance rules instead: all, those of a group, or single ones")
    parser.add_argument("--mutants", action="store_true",
                        help="with --rules: change one line of the kernel at a time; a rule must notice")
    parser.add_argument("--record", metavar="DIR", type=Path,
                        help="with --rules: write down what this host says, a file for each group")
    args = parser.parse_args()
    if args.rules is not None and args.record:
        return record_rules(args.rules, args.record)
    if args.rules is not None and args.mutants:
        return change_kernels(args.rules)
    if args.rules is not None:
        return hold_rules(args.rules, args.schedules or 20, show=args.show)
    args.schedules = args.schedules or (20_000 if args.racy else 20)
    mode = args.mode or best_mode()
    root = args.on == "model" or (os.getuid() == 0 and mode == "pid")
    each = min(args.each or args.schedules, args.schedules)
    plan = Plan(args.on, args.schedules, mode, args.flavour, args.cpus, each, root)
    seeds = [str(seed) for seed in range(args.first, args.first + args.count)]
    if args.show:
        show(seeds, plan)
        return 0
    start = time.monotonic()
    done = differ = 0
    pieces = [seeds[n : n + PIECE] for n in range(0, len(seeds), PIECE)]
    pool = None
    if args.jobs > 1:
        pool = ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn"), initializer=end_with_parent)
    with pool or nullcontext():
        run = race if args.racy else check
        found = (pool.map if pool else map)(run, pieces, [plan] * len(pieces), range(len(pieces)))
        for piece, reports in zip(pieces, found, strict=True):
            done += len(piece)
            differ += len(reports)
            for text in reports:
                print(text, flush=True)
            if sys.stderr.isatty():
                print(f"\r{done:,} of {len(seeds):,} programs, {differ} differ", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - start
    model = f"under {plan.each} of {plan.schedules} schedules of the model"
    host = f"on the host ({plan.mode})"
    what = {"host": host, "model": model, "all": f"{host} and {model}"}[plan.on]
    if args.racy:
        what = f"{host} and under up to {plan.schedules} schedules of the model"
    print(f"{done:,} programs {what}: {differ} differ; {seconds:.0f} s", flush=True)
    return 1 if differ else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""``--py``: the Python program that gives the answer of a command with its options.

One function a command puts the program together, of what ``import taskscope`` gives and of the functions that make the
command's own output; so its output is the command's, as it is in a pipe.  What a person typed goes in as literals.
Nothing is read: a program can be made before there is a recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.cli.options import Common

Given = dict[str, Any]


class Code(str):
    """Text that stands in a program as it is; every other argument becomes a literal."""

    __slots__ = ()


class Program:
    """A program in the making: what it imports, and its lines."""

    def __init__(self, common: Common) -> None:
        self.common = common
        self._modules: set[str] = set()
        self._names: dict[str, set[str]] = {}
        self._lines: list[str] = []

    def use(self, module: str, *names: str) -> None:
        """Import names of a module, or the module itself."""
        if names:
            self._names.setdefault(module, set()).update(names)
        else:
            self._modules.add(module)

    def add(self, *lines: str) -> None:
        """Add lines."""
        self._lines += lines

    def lines(self) -> Iterator[str]:
        """Yield the lines of the whole program."""
        froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self._names.items())]
        standard = [f"import {module}" for module in sorted(self._modules)]
        standard += [line for line in froms if not line.startswith("from taskscope")]
        if standard:
            yield from (*standard, "")
        yield from ("import taskscope", *(line for line in froms if line.startswith("from taskscope")), "")
        yield from self._lines

    # ---- what many programs do --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the recording as ``t``."""
        common = self.common
        if common.input == "-":
            raise UsageError("--py: a program cannot read this stdin again; name a file: -i FILE")
        self.add(f"t = {call('taskscope.open', common.input or 'trace.dat', buffer=common.buffer)}")

    def window(self) -> Given:
        """Return ``--from`` and ``--to`` as arguments."""
        ends = (("after", self.common.after, "first"), ("before", self.common.before, "last"))
        return {name: Code(f"t.time({text!r}, {edge!r})") for name, text, edge in ends if text is not None}

    def choose(self, **more: Any) -> Code:
        """Return the call that chooses lives by ``-p``, ``--from`` and ``--to``."""
        return call("t.lives.choose", pids=self.common.pids, **more, **self.window())

    def moment(self) -> tuple[Code, ...]:
        """Put ``--at`` into ``at``, as the last moment that is shown so, and return it as argument; none without."""
        at = self.common.at
        if at is None:
            return ()
        self.add(f"at = min(max(t.time({at!r}, 'last'), t.start), t.end)")
        return (Code("at"),)

    def snapshot(self, **more: Any) -> None:
        """Read the tasks of one moment as ``s``, of whichever source was named.

        :param more: what `taskscope.snapshot` takes besides the source
        """
        from taskscope.cli.source import source_of

        source = source_of(self.common)
        if source is None:
            self.open()
            at = self.moment()
            self.add(f"s = {call('t.tasks', *at)}")
        else:
            named = {key: getattr(source, key) for key in ("guest", "live", "btf", "symbols", "vmlinux", "pause")}
            self.add(f"s = {call('taskscope.snapshot', *([source.core] if source.core else []), **named, **more)}")
        if self.common.pids:
            self.use("dataclasses", "replace")
            self.add(f"pids = {_literal(self.common.pids)}",
                     "s = replace(s, tasks=tuple(x for x in s.tasks if x.pid in pids or x.tgid in pids))")

    def paint(self) -> Given:
        """Return the colours that ``--color always`` asks for as arguments."""
        if self.common.color != "always":
            return {}
        self.use("taskscope.views.text", "Paint")
        return {"paint": Code("Paint(True)")}

    def table(self, module: str, function: str, *arguments: Any, indent: str = "", **more: Any) -> None:
        """Print the lines of a table."""
        self.use(module, function)
        self.add(f"{indent}for line in {call(function, *arguments, **more, **self.paint())}:",
                 f"{indent}    print(line)")

    def data(self, module: str, function: str, *arguments: Any, **more: Any) -> None:
        """Write blocks of bytes."""
        self.use("sys")
        self.use(module, function)
        self.add(f"sys.stdout.buffer.writelines({call(function, *arguments, **more)})")


def call(function: str, *arguments: Any, **named: Any) -> Code:
    """Write a call; named arguments that say nothing (None, False, empty) are left out.

    >>> call("f", "x", Code("y"), pids=(1,), wide=False)
    "f('x', y, pids=[1])"
    """
    said = [f"{key}={_literal(value)}" for key, value in named.items() if value not in (None, False, ())]
    return Code(f"{function}({', '.join([*map(_literal, arguments), *said])})")


def _literal(value: Any) -> str:
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


# ---- the commands ---------------------------------------------------------------------------------------------------

def _lives(p: Program, given: Given) -> None:
    p.open()
    p.add(f"chosen = {p.choose(kinds=given['kinds'])}")
    if p.common.json:
        p.data("taskscope.views.json", "lives_jsonl", Code("chosen"))
    else:
        p.table("taskscope.views.lives_table", "lives_table", Code("t.lives"), Code("chosen"),
                wide=p.common.verbose > 0)


def _life(p: Program, given: Given) -> None:
    p.open()
    p.add(f"found = {call('t.lives.named', given['task'])}")
    if p.common.json:
        p.data("taskscope.views.json", "lives_jsonl", Code("found"))
        return
    p.use("taskscope.views.story", "told")
    story = call("told", Code("life"), Code("t.lives"), color=p.common.color == "always", verbose=p.common.verbose > 0)
    p.add(f'print("\\n\\n\\n".join({story} for life in found))')


def _sched(p: Program, given: Given) -> None:
    p.open()
    p.use("taskscope.views.sched", "SchedStats", "order_by")
    chosen = p.choose()
    p.add(f"chosen = {chosen}" if p.common.pids else f"chosen = [x for x in {chosen} if x.kind != 'idle']",
          f"stats = {call('SchedStats', Code('t.lives'), **p.window())}",
          f"ordered = {call('order_by', Code('stats'), Code('chosen'), given['sort'])}")
    if p.common.json:
        p.data("taskscope.views.sched", "sched_json", Code("stats"), Code("ordered"))
        return
    p.table("taskscope.views.sched", "sched_table", Code("stats"), Code("ordered"), wide=p.common.verbose > 0)
    p.add(f"worst = stats.worst(chosen, {given['worst']})", "if worst:", "    print()")
    p.table("taskscope.views.sched", "worst_table", Code("stats"), Code("worst"), indent="    ")


def _kills(p: Program, given: Given) -> None:
    p.open()
    p.use("taskscope.views.kills", "kills")
    p.add(f"found = {call('kills', p.choose(), every=given['every'], deaths=given['deaths'])}")
    _within(p, "found", "x.at")
    if p.common.json:
        p.data("taskscope.views.kills", "kills_json", Code("found"))
    else:
        p.table("taskscope.views.kills", "kills_table", Code("t.lives"), Code("found"))


def _forks(p: Program, _given: Given) -> None:
    p.open()
    if p.common.pids:
        p.add(str(p.choose()) + "  # a pid that is not there is an error")
    p.add("chosen = [x for x in t.lives if x.born]")
    _within(p, "chosen", "x.born.at")
    if p.common.pids:
        p.add(f"pids = {_literal(p.common.pids)}",
              "chosen = [x for x in chosen if x.pid in pids or (x.born.by and x.born.by.pid in pids)]")
    if p.common.json:
        p.data("taskscope.views.forks", "forks_json", Code("chosen"))
    else:
        p.table("taskscope.views.forks", "forks_table", Code("t.lives"), Code("chosen"), wide=p.common.verbose > 0)


def _within(p: Program, name: str, at: str) -> None:
    """Keep what lies between ``--from`` and ``--to``."""
    for key, end in p.window().items():
        p.add(f"{key} = {end}", f"{name} = [x for x in {name} if {at} {'>=' if key == 'after' else '<='} {key}]")


def _tree(p: Program, given: Given) -> None:
    from taskscope.cli.source import source_of

    module, task = "taskscope.views.tree", given["task"]
    recorded = source_of(p.common) is None
    if recorded:
        p.open()
        p.use(module, "life_nodes", "link")
        at = p.moment()
        then = (*at, Code("t.lives.at(at)")) if at else ()
        p.add(f"nodes = {call('life_nodes', Code('t.lives'), *then)}", "roots = link(nodes)")
    else:
        p.snapshot()
        p.use(module, "link", "snapshot_nodes")
        p.add("nodes = snapshot_nodes(s)", "roots = link(nodes)")
    if task is not None:
        p.use(module, "pick")
        refs = "n.ref for n in nodes if n.ref.pid in pids"
        if recorded:
            refs = str(call("t.life", task)) + ".ref"
        else:
            p.add(f"pids = {{x.pid for x in s.tasks if {task!r} in (str(x.pid), x.comm) and x.kind != 'idle'}}")
        p.add(f"roots = pick(nodes, {{{refs}}})")
    if not p.common.json:
        p.table(module, "tree_table", Code("roots"))
    elif recorded:
        p.data(module, "tree_json", Code("roots"), Code("t.lives"))
    else:
        p.use(module, "walk")
        p.use("dataclasses", "replace")
        p.add("shown = {node.ref.pid for node, *_ in walk(roots)}",
              "s = replace(s, tasks=tuple(x for x in s.tasks if x.pid in shown))")
        p.data("taskscope.views.descriptors", "ps_json", Code("s"))


def _ps(p: Program, given: Given) -> None:
    module = "taskscope.views.ps"
    if given["catalog"]:
        p.use("taskscope.views.ps_columns", "COLUMNS")
        p.add("for name, column in sorted(COLUMNS.items()):", "    print(f'{name:<16} {column.header}')")
        return
    letters = "".join(name for name, on in given.items() if on is True and len(name) == 1)
    if p.common.json:
        p.snapshot(stacks=given["stacks"])
        threads = {} if "L" in letters else {"threads": Code("False")}
        p.data("taskscope.views.descriptors", "ps_json", Code("s"), stacks=given["stacks"], **threads)
        return
    p.snapshot(names=p.common.input is None)
    form = call("sysv", letters) if set(letters) - {"e"} else Code("ELY")
    if given["chosen"]:
        p.use(module, "Form", "chosen_columns")
        columns = ", ".join(f"*chosen_columns({text!r})" for text in given["chosen"])
        form = call("Form", Code(f"({columns},)"), forest="h" if "H" in letters else None, threads="L" in letters)
    elif given["bsd"] is not None:
        form = call("bsd", given["bsd"])
    p.use(module, *({form.partition("(")[0]} - {"Form"}))
    p.add(f"form = {form}")
    if given["sort"]:
        p.use(module, "sort_keys")
        p.use("dataclasses", "replace")
        p.add(f"form = {call('replace', Code('form'), sort=call('sort_keys', given['sort']))}")
    p.table(module, "ps_table", Code("s"), Code("form"), **({"header": Code("False")} if given["bare"] else {}))


def _cpus(p: Program, _given: Given) -> None:
    _of_moment(p, "cpus")


def _blocked(p: Program, _given: Given) -> None:
    _of_moment(p, "blocked", stacks=p.common.json and p.common.input is None)


def _of_moment(p: Program, what: str, **more: Any) -> None:
    p.snapshot(**more)
    if p.common.json:
        p.data("taskscope.views.cpus", f"{what}_json", Code("s"))
    else:
        p.table("taskscope.views.cpus", f"{what}_table", Code("s"))


def _report(p: Program, given: Given) -> None:
    p.open()
    p.use("taskscope.views.filters", "select")
    arguments: Given = {}
    if given["filters"]:
        p.use("taskscope.views.filters", "parse_filter")
        arguments["filters"] = tuple(call("parse_filter", f) for f in given["filters"])
    arguments |= {"pids": p.common.pids, "cpus": p.common.cpus, **p.window()}
    p.add(f"rows = {call('select', Code('t'), **arguments)}")
    stacks = "without_stacks" if given["no_stacks"] else "with_stacks" if given["filters"] or p.common.pids else None
    if stacks is not None:
        p.use("taskscope.views.report", stacks)
        p.add(f"rows = {stacks}(t, rows)")
    if p.common.json:
        stack = {"stacks": Code("False")} if given["no_stacks"] else {}
        p.data("taskscope.views.report", "report_json", Code("t"), Code("rows"), **stack)
    else:
        p.data("taskscope.views.report", "report_text", Code("t"), Code("rows"), then=given["comm"] == "then")


def _export(p: Program, given: Given) -> None:
    from taskscope.cli.export import format_and_time

    form, p.common.before = format_and_time(given["to"])
    output: Any = given["output"]
    p.open()
    if output == "-":
        p.use("sys")
        output = Code("sys.stdout.buffer")
    elif output.endswith("/"):
        p.use("pathlib", "Path")
        p.add(f"Path({output!r}).mkdir(parents=True, exist_ok=True)")
    p.add(str(call("t.export", form, output, table=given["table"], pids=p.common.pids, **p.window(),
                   verbose=p.common.verbose > 0, force=given["force"])))


def _described(p: Program, given: Given) -> None:
    """Put the descriptors that were asked for into ``found``, the architecture into ``arch``."""
    from taskscope.cli.source import source_of

    source = source_of(p.common)
    if source is None:
        p.use("taskscope.snapshot.saved", "read_tasks")
        p.add(f"saved = {call('read_tasks', p.common.input)}",
              f"found = [d for d in saved.tasks if {given['task']!r} in (str(d.row.pid), d.row.comm)]",
              "arch = saved.arch")
        return
    p.use("taskscope.source", "Source")
    named = {key: getattr(source, key) for key in ("core", "guest", "live", "btf", "symbols", "vmlinux", "pause")}
    details = call(f"{call('Source', **named)}.details", given["task"], every=bool(p.common.verbose))
    p.add(f"found, arch, wounds = {details}")


def _task(p: Program, given: Given) -> None:
    _described(p, given)
    if p.common.json:
        p.use("sys")
        p.use("taskscope.views.task", "task_json")
        p.add("sys.stdout.buffer.writelines(task_json(one) for one in found)")
        return
    p.use("taskscope.views.task", "task_lines")
    p.add('print("\\n\\n".join("\\n".join(task_lines(one, arch)) for one in found))')


def _stack(p: Program, given: Given) -> None:
    _described(p, given)
    p.use("taskscope.views.task", "stack_lines")
    p.add("for one in found:", "    print(*stack_lines(one), sep='\\n')")


#: the commands that have programs
PROGRAMS: dict[str, Callable[[Program, Given], None]] = {
    "lives": _lives, "life": _life, "sched": _sched, "kills": _kills, "forks": _forks, "tree": _tree, "ps": _ps,
    "task": _task, "stack": _stack, "cpus": _cpus, "blocked": _blocked, "report": _report, "export": _export,
}


def program(verb: str, common: Common, given: Given) -> Iterator[str]:
    """Yield the lines of the program of a command.

    :param given: the command's own options
    :raises UsageError: there is none: the input is stdin, or is not named
    """
    made = Program(common)
    PROGRAMS[verb](made, given)
    return made.lines()

"""Programs of the commands that show the tasks of a moment.

One function a command puts the program together, of what ``import taskscope`` gives and of the functions that make the
command's own output; so its output is the command's, as it is in a pipe.
"""

from __future__ import annotations

from typing import Any

from taskscope.cli.programs.program import Code, Given, Program, call


def tree(p: Program, given: Given) -> None:
    """Put the tree of tasks together."""
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


def ps(p: Program, given: Given) -> None:
    """Make the process table."""
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


def cpus(p: Program, _given: Given) -> None:
    """Show what each CPU runs."""
    _of_moment(p, "cpus")


def blocked(p: Program, _given: Given) -> None:
    """Show who runs or is in D."""
    _of_moment(p, "blocked", stacks=p.common.json and p.common.input is None)


def _of_moment(p: Program, what: str, **more: Any) -> None:
    p.snapshot(**more)
    if p.common.json:
        p.data("taskscope.views.cpus", f"{what}_json", Code("s"))
    else:
        p.table("taskscope.views.cpus", f"{what}_table", Code("s"))


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


def _each_as_json(p: Program, function: str) -> None:
    p.use("sys")
    p.use("taskscope.views.task", function)
    p.add(f"sys.stdout.buffer.writelines({function}(one) for one in found)")


def task(p: Program, given: Given) -> None:
    """Show descriptors."""
    _described(p, given)
    if p.common.json:
        _each_as_json(p, "task_json")
        return
    p.use("taskscope.views.task", "task_lines")
    p.add('print("\\n\\n".join("\\n".join(task_lines(one, arch)) for one in found))')


def stack(p: Program, given: Given) -> None:
    """Show stacks."""
    _described(p, given)
    if p.common.json:
        _each_as_json(p, "stack_json")
        return
    p.use("taskscope.views.task", "stack_lines")
    p.add("for one in found:", "    print(*stack_lines(one), sep='\\n')")


def diff(p: Program, given: Given) -> None:
    """Compare two moments."""
    p.use("sys")
    p.use("taskscope.moments", "moment")
    p.use("taskscope.views.diff", "diff")
    opened = (Code(f"lambda path: {call('taskscope.open', Code('path'), buffer=p.common.buffer)}"),) \
        if p.common.buffer is not None else ()
    p.add(*(f"{side} = {call('moment', given[named], *opened)}" for side, named in (("a", "first"), ("b", "second"))),
          "changes = diff(a, b)")
    if p.common.json:
        p.data("taskscope.views.diff", "diff_json", Code("changes"))
    else:
        p.table("taskscope.views.diff", "diff_lines", Code("changes"))
    p.add("sys.exit(3 if a.wounds or b.wounds else 1 if changes else 0)")

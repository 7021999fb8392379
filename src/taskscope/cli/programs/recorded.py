"""Programs of the commands that read a recording.

One function a command puts the program together, of what ``import taskscope`` gives and of the functions that make the
command's own output; so its output is the command's, as it is in a pipe.
"""

from __future__ import annotations

from typing import Any

from taskscope.cli.programs.program import Code, Given, Program, call, literal


def lives(p: Program, given: Given) -> None:
    """List lives."""
    p.open()
    p.add(f"chosen = {p.choose(kinds=given['kinds'])}")
    if p.common.json:
        p.data("taskscope.views.json", "lives_jsonl", Code("chosen"))
    else:
        p.table("taskscope.views.lives_table", "lives_table", Code("t.lives"), Code("chosen"),
                wide=p.common.verbose > 0)


def life(p: Program, given: Given) -> None:
    """Tell a life."""
    p.open()
    p.add(f"found = {call('t.lives.named', given['task'])}")
    if p.common.json:
        p.data("taskscope.views.json", "lives_jsonl", Code("found"))
        return
    p.use("taskscope.views.story", "told")
    story = call("told", Code("life"), Code("t.lives"), color=p.common.color == "always", verbose=p.common.verbose > 0)
    p.add(f'print("\\n\\n\\n".join({story} for life in found))')


def sched(p: Program, given: Given) -> None:
    """Add up where the time went."""
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


def kills(p: Program, given: Given) -> None:
    """List signals."""
    p.open()
    p.use("taskscope.views.kills", "kills")
    p.add(f"found = {call('kills', p.choose(), every=given['every'], deaths=given['deaths'])}")
    _within(p, "found", "x.at")
    if p.common.json:
        p.data("taskscope.views.kills", "kills_json", Code("found"))
    else:
        p.table("taskscope.views.kills", "kills_table", Code("t.lives"), Code("found"))


def forks(p: Program, _given: Given) -> None:
    """List births."""
    p.open()
    if p.common.pids:
        p.add(str(p.choose()) + "  # a pid that is not there is an error")
    p.add("chosen = [x for x in t.lives if x.born]")
    _within(p, "chosen", "x.born.at")
    if p.common.pids:
        p.add(f"pids = {literal(p.common.pids)}",
              "chosen = [x for x in chosen if x.pid in pids or (x.born.by and x.born.by.pid in pids)]")
    if p.common.json:
        p.data("taskscope.views.forks", "forks_json", Code("chosen"))
    else:
        p.table("taskscope.views.forks", "forks_table", Code("t.lives"), Code("chosen"), wide=p.common.verbose > 0)


def _within(p: Program, name: str, at: str) -> None:
    """Keep what lies between ``--from`` and ``--to``."""
    for key, end in p.window().items():
        p.add(f"{key} = {end}", f"{name} = [x for x in {name} if {at} {'>=' if key == 'after' else '<='} {key}]")


def report(p: Program, given: Given) -> None:
    """Print events."""
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


def export(p: Program, given: Given) -> None:
    """Write for other tools."""
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


def timeline(p: Program, given: Given) -> None:
    """Pack one recording, or two, into a page."""
    p.open()
    p.use("pathlib", "Path")
    p.use("taskscope.views.text", "escape")
    p.add("recordings = [t]")
    if given["beside"] is not None:
        p.add(f"recordings.append({call('taskscope.open', given['beside'], buffer=p.common.buffer)})")
    if given["serve"]:
        p.use("sys")
        p.use("taskscope.views.timeline.pack", "Pages")
        p.use("taskscope.views.timeline.server", "TimelineServer")
        p.add("pages = [Pages(one.lives, escape(Path(one.path).name or one.path)) for one in recordings]",
              f"with {call('TimelineServer', Code('pages'), given['port'])} as server:",
              '    print(f"http://127.0.0.1:{server.port}/  (Ctrl-C ends it)", file=sys.stderr)',
              "    server.serve_forever()")
        return
    p.use("taskscope.views.timeline.pack", "pack")
    p.use("taskscope.views.timeline.page", "page")
    p.add("text = page([pack(one.lives, escape(Path(one.path).name or one.path)) for one in recordings])")
    if given["output"] == "-":
        p.use("sys")
        p.add('sys.stdout.buffer.write(text.encode("utf-8"))')
    else:
        p.add(f"Path({given['output']!r}).write_text(text, 'utf-8')")


def compare(p: Program, given: Given) -> None:
    """Compare two recordings, or a lab on two machines."""
    a, b = given["a"], given["b"]
    if given["lab_name"] is not None:
        p.use("taskscope.labs.on", "compare_labs")
        p.add(f"found = {call('compare_labs', given['lab_name'], a, b)}")
    else:
        p.use("taskscope.labs.compare", "compare_recordings")
        p.add(f"found = {call('compare_recordings', call('taskscope.open', a), call('taskscope.open', b))}")
    if given["as_json"]:
        p.use("taskscope.views.json", "dumps")
        named = {"a": a, "b": b, "lab": given["lab_name"]}
        p.add(f"print(dumps({{**{named!r}, **found.as_json()}}))")
    else:
        p.use("taskscope.views.text", "escape")
        p.add(r'print("\n".join(escape(line) for line in str(found).splitlines()))')
    p.use("sys")
    p.add('sys.exit(1 if found.verdict == "differs" else 0)')

"""Programs of the commands that run or record something, and of those that ask about this host or a number."""

from __future__ import annotations

import shlex
from typing import Any

from taskscope.cli.programs.program import Code, Given, Program, call
from taskscope.errors import UsageError

#: what `taskscope run` has where nothing is said
_MACHINE = {"cpus": 2, "flavour": "4.19-arm", "seed": 0, "preempt": None, "threadirqs": False}


def run(p: Program, given: Given) -> None:
    """Boot a machine, run a program, look, save."""
    p.use("sys")
    said = {name: given[name] for name, usual in _MACHINE.items() if given[name] != usual}
    if given["schedule"]:
        # What a log is of need not be said again.
        p.use("taskscope.schedules", "order")
        options = f"**order({given['schedule']!r}).machine | {said!r}, schedule={given['schedule']!r}"
        p.add(f"with taskscope.boot({options}) as k:")
    else:
        p.add(f"with {call('taskscope.boot', **said)} as k:")
    inside: list[str] = []
    if given["output"]:
        inside.append(str(call("k.trace", *given["events"])))
    inside += ["k.machine.console_tty.sink = show", f"process = {_started(p, given)}",
               f"k.run(until=process, s={24 * 3600 if given['seconds'] is None else given['seconds']!r})",
               "if process.status is not None:",
               "    k.run(s=0.05)  # what its end sets off: reaping, RCU",
               "sys.stdout.flush()", "k.check_schedule()"]
    for text in given["then"]:
        inside += [f"for line in {_look(p, shlex.split(text), given['color'] == 'always')}:", "    print(line)"]
    if given["dmesg"]:
        inside.append("print(k.dmesg(), end='')")
    if given["output"]:
        inside.append(str(call("k.save", given["output"])))
    inside.append("code = process.exitcode or 0")
    p.add(*(f"    {line}" for line in inside), "sys.exit(code if code >= 0 else 128 - code)")
    p.before("def show(data):", "    sys.stdout.buffer.write(data)", "    sys.stdout.buffer.flush()", "", "")


def _started(p: Program, given: Given) -> Code:
    if given["line"] is not None:
        return call("k.spawn", "bash", "-c", given["line"])
    if not given["program"]:
        raise UsageError("run what? name a program, or give a shell line with -c LINE (not both)")
    name, *words = given["program"]
    if not name.endswith(".py"):
        return call("k.spawn", name, *words)
    p.use("pathlib", "Path")
    p.use("runpy")
    main = Code(f"runpy.run_path({name!r}, run_name='taskscope_program')['main']")
    return call("k.spawn", main, *words, name=Code(f"Path({name!r}).stem"))


def _look(p: Program, words: list[str], colour: bool) -> Code:
    """Return what gives the lines of one ``--then``."""
    paint: dict[str, Any] = {}
    if colour and words[0] in ("ps", "tree"):
        p.use("taskscope.views.text", "Paint")
        paint = {"paint": Code("Paint(True)")}
    if words[0] == "ps":
        p.use("taskscope.views.ps", "FORMS", "ps_table")
        style = words[1].lstrip("-") if words[1:] else "ely"
        return call("ps_table", Code("k.ps()"), Code(f"FORMS[{style!r}]"), **paint)
    if words[0] == "tree":
        p.use("taskscope.views.tree", "link", "snapshot_nodes", "tree_table")
        return call("tree_table", Code("link(snapshot_nodes(k.ps()))"), **paint)
    p.use("taskscope.views.task", f"{words[0]}_lines")
    arch = (Code("k.machine.flavour.arch"),) if words[0] == "task" else ()
    return call(f"{words[0]}_lines", Code(f"k.task({int(words[1])})"), *arch)


def record(p: Program, given: Given) -> None:
    """Record with tracefs."""
    p.use("sys")
    p.use("pathlib", "Path")
    path = {name: Code(f"Path({given[name]!r})") for name in ("recover", "output") if given[name] is not None}
    say = Code("lambda text: None") if given["quiet"] else Code("lambda text: print(text, file=sys.stderr)")
    if given["recover"] is not None:
        p.use("taskscope.ftrace.record_recover", "recover")
        p.add(f"result = {call('recover', path['recover'], path.get('output', Code('None')), say)}")
    else:
        _ordered(p, given, path.get("output", Code("Path('trace.dat')")), say)
    p.add("if result.failed:", "    sys.exit(1)", "if result.exit_code is not None:", "    sys.exit(result.exit_code)",
          "sys.exit(0 if result.signal is None else 128 + result.signal)")


def _following(p: Program, given: Given, everything: bool) -> Code:
    """Add what prints each happening, and return what an order takes for it."""
    p.use("taskscope.follow", "Following")
    path = given["follow_to"]
    out = Code("sys.stdout")
    if path not in (None, "-"):
        p.add(f"out = open({path!r}, 'w')")
        out = Code("out")
    elif path is None and given["command"]:
        out = Code("sys.stderr")
    if given["as_json"]:
        p.use("taskscope.views.follow", "json_line")
        shown = "json_line(one)"
    else:
        p.use("taskscope.ftrace.ring", "COUNTERS")
        p.use("taskscope.trace.source", "Clock")
        p.use("taskscope.views.follow", "header", "line")
        p.use("taskscope.views.times", "Times")
        clock = given["clock"]
        p.add(f"times = Times(Clock({clock!r}, 'cycles' if {clock!r} in COUNTERS else 'ns'))",
              f"print(header(), file={out}, flush=True)")
        shown = "line(one, times)"
    p.add("", "", "def tell(happenings):", "    for one in happenings:",
          f"        print({shown}, file={out}, flush=True)", "", "")
    following = call("Following", Code("tell"), everything=everything, pids=given["pids"], threads=given["threads"])
    return Code(f"{following}.start")


def _ordered(p: Program, given: Given, output: Code, say: Code) -> None:
    p.use("os")
    p.use("taskscope.ftrace.record", "Recorder")
    p.use("taskscope.ftrace.record_child", "calling_user")
    p.use("taskscope.ftrace.record_order", "Order")
    user = Code("caller")
    if given["user"] is not None:
        p.use("taskscope.ftrace.record_child", "named_user")
        user = call("named_user", given["user"])
    stacks = given["stacks"]
    usual = {"clock": "mono", "stacks": "rare", "file_version": 7}
    named = {name: given[name] for name in (
        "command", "pids", "children", "everything", "seconds", "events", "irq", "triggers", "probes", "functions",
        "buffer_kb", "clock", "compression")}
    named |= {"stacks": "rare" if stacks is None else "all" if stacks else "none",
              "file_version": int(given["file_version"])}
    if not (given["command"] or given["pids"]):
        named["everything"] = True
    if given["follow"] or given["follow_to"] is not None:
        named["follow"] = _following(p, given, bool(named["everything"]))
    named = {name: value for name, value in named.items() if value != usual.get(name)}
    p.add("caller = calling_user(os.environ)",
          "owner = (caller.uid, caller.gid) if caller else None",
          f"order = {call('Order', output=output, user=user, owner=Code('owner'), **named)}",
          f"result = Recorder(order, {say}).run()")


def lab(p: Program, given: Given) -> None:
    """Run a lab, print what came of it, compare."""
    from taskscope.cli.lab import machine_of

    as_json = given["as_json"]
    if given["name"] == "list":
        p.table("taskscope.labs.text", "listing", as_json=as_json)
        return
    on = machine_of(given["on"], given["kernel"])
    p.use("sys")
    p.use("taskscope.labs.catalog", "get")
    p.use("taskscope.labs.on", "play")
    p.use("taskscope.labs.text", "run_lines")
    named = {name: given[name] for name in ("flavour", "seed", "schedule", "mutant", "btf", "symbols", "vmlinux")}
    if named["flavour"] == "4.19-arm":
        del named["flavour"]
    named["seed"] = named["seed"] or None
    shown = {name: given[name] for name in ("answer", "mutant", "quiet")}
    p.add("runs = []", f"for run in {call('play', call('get', given['name']), on, **named)}:", "    runs.append(run)",
          f"    for line in {call('run_lines', Code('run'), as_json=as_json, **shown)}:", "        print(line)")
    if given["page"] is not None:
        p.use("pathlib", "Path")
        p.use("taskscope.labs.text", "lab_page")
        p.add(f"Path({given['page']!r}).write_text(lab_page(runs), 'utf-8')")
    p.add("good = all(run.passed for run in runs)")
    if given["on"] == "all" and not given["mutant"]:
        p.use("taskscope.labs.text", "compared")
        p.add(f"for text, verdict in {call('compared', Code('runs'), as_json=as_json)}:", "    print(text)",
              "    good = good and verdict")
    p.add("sys.exit(0 if good else 1)")


def check(p: Program, given: Given) -> None:
    """Ask what this host can do."""
    p.use("taskscope.host.probes", "look")
    needed = given["needed"]
    p.add(f"answers = {call('look', names=needed)}")
    if given["as_json"]:
        p.use("taskscope.views.json", "dumps")
        p.add("for answer in answers:", "    print(dumps(answer.as_json()))")
    else:
        p.table("taskscope.host.lines", "answer_lines", Code("answers"), **({"whole": Code("False")} if needed else {}))
    if needed:
        p.use("sys")
        p.add("sys.exit(0 if all(answer.works for answer in answers) else 1)")


def decode(p: Program, given: Given) -> None:
    """Say what numbers mean."""
    module = "taskscope.abi.decode"
    p.use(module, "decode")
    records = call("decode", given["kind"], list(given["words"]), arch=given["arch"], kernel=given["kernel"])
    if given["as_json"]:
        p.use("taskscope.views.json", "dumps")
        p.add(f"for record in {records}:", "    print(dumps(record.as_json()))")
    else:
        p.table(module, "lines", records)


def man(p: Program, given: Given) -> None:
    """Print a page, a completion script or a schema, which are about the command line."""
    module, name = "taskscope.cli.man", given["name"]
    if given["schemas"]:
        function, argument = "schema_text", name
    elif given["completion"] is not None:
        function, argument = "script", given["completion"]
    elif given["folder"] is not None:
        p.use(module, "write_all")
        p.add(str(call("write_all", given["folder"])))
        return
    else:
        function, argument = "manual", name
    p.use("sys")
    p.use(module, function)
    p.add(f"sys.stdout.write({call(function, argument)})")

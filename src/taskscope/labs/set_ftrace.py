"""Lab ``set-ftrace``: the notes' set_ftrace.sh, line by line."""

from __future__ import annotations

from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant

D = "/sys/kernel/debug/tracing"


def script(run: Run) -> str:
    """Return set_ftrace.sh as in the notes, with the names of the kernel at hand."""
    clone, fork = run.name("sys_clone"), run.name("_do_fork")
    return f"""#!/bin/bash
echo 0 > {D}/tracing_on
sleep 1
echo "tracing_off"
echo 0 > {D}/events/enable
sleep 1
echo "events disabled"
echo nop > {D}/current_tracer
echo function > {D}/current_tracer
sleep 1
echo "function tracer enabled"
echo {clone} do_exit > {D}/set_ftrace_filter
echo {fork} copy_process* >> {D}/set_ftrace_filter
sleep 1
echo "set_ftrace_filter enabled"
echo 1 > {D}/events/sched/sched_switch/enable
echo 1 > {D}/events/sched/sched_wakeup/enable
echo 1 > {D}/events/sched/sched_process_fork/enable
echo 1 > {D}/events/sched/sched_process_exit/enable
echo 1 > {D}/events/signal/enable
sleep 1
echo "event enabled"
echo 1 > {D}/options/func_stack_trace
echo 1 > {D}/options/sym-offset
echo "function stack trace enabled"
echo 1 > {D}/tracing_on
echo "tracing_on"
"""


GET = f"""#!/bin/bash
echo 0 > {D}/tracing_on
echo "ftrace off"
sleep 3
cp {D}/trace .
mv trace ftrace_log.c
"""


def on_real(run: Run) -> None:
    """Type both scripts on a real kernel's shell, run them around raspbian_proc, and read the log."""
    proc = run.real.program("raspbian_proc")
    text = script(run).replace("sleep 1", "sleep 0.1")
    get = GET.replace("sleep 3", "sleep 0.3").replace("#!/bin/bash", "#!/bin/sh")
    # With all 50,000 functions traced for a moment, as the script has it, an emulated machine would stand still.
    typed = run.real.type(f"""mount -t debugfs none /sys/kernel/debug 2>/dev/null
echo do_exit > {D}/set_ftrace_filter
cat > set_ftrace.sh <<'EOF'
{text.replace("#!/bin/bash", "#!/bin/sh")}EOF
cat > get_ftrace.sh <<'EOF'
{get}EOF
chmod +x set_ftrace.sh get_ftrace.sh
./set_ftrace.sh
{proc} > /dev/null &
pid=$!
sleep 4
kill -9 $pid
wait $pid
./get_ftrace.sh
echo "pid $pid"
echo "filter $(cat {D}/set_ftrace_filter | tr '\\n' ' ')"
echo "on $(cat {D}/tracing_on)"
echo nop > {D}/current_tracer; echo > {D}/set_ftrace_filter; echo 0 > {D}/events/enable
""")
    out = typed.output
    run.typed("./set_ftrace.sh; ./get_ftrace.sh", out)
    run.check("no line complains", not any(word in out for word in ("No such", "denied", "Invalid", "rror")), out)
    said = [line for line in out.splitlines() if "abled" in line or line.startswith("tracing_")]
    run.equal("every line of the script works", len(said), run.expect(7, 6))
    words = dict(line.split(" ", 1) for line in out.splitlines() if line.startswith(("pid ", "filter ", "on ")))
    pid = words["pid"]
    run.check("the filter holds the functions that the globs match",
              {"do_exit", run.name("_do_fork"), "copy_process"} <= set(words["filter"].split()), words["filter"])
    log = run.real.type("cat ftrace_log.c").output
    lines = log.splitlines()
    shown = [line for line in lines if f"-{pid} " in line or f"pid={pid}" in line]
    run.show([*lines[:11], *shown[:10]], "ftrace_log.c")
    run.check("the log is a function trace with its header",
              lines[0] == "# tracer: function" and any("TASK-PID" in line for line in lines[:12]), lines[:12])
    run.check(f"it has copy_process called by {run.name('_do_fork')}",
              any("copy_process" in line and run.name("_do_fork") in line for line in lines))
    run.check("a stack follows each function", any("<stack trace>" in line for line in lines))
    run.check(
        "the fork, the switches, the signal and the exit of raspbian_proc are in it",
        all(any(event in line and word in line for line in lines) for event, word in (
            ("sched_process_fork", f"child_pid={pid}"), ("sched_switch", f"next_pid={pid}"),
            ("signal_generate", f"pid={pid}"), ("sched_process_exit", f"pid={pid}"))),
    )
    run.check("what was not enabled is not in it", not any("task_newtask" in line for line in lines))
    import tempfile

    from taskscope.recording import Recording

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write(log)
        f.flush()
        recording = Recording.open(f.name)
        life = run.life(recording, int(pid))
        if life.born is not None and life.born.by is not None:
            run.keep(recording, {"proc": life.pid}, {"shell": life.born.by.pid})
        run.check("the copied text is a recording: taskscope tells the life from it",
                  life.exit is not None and life.exit.signal == 9, life.exit)
    run.equal("tracing is off again", words["on"].strip(), "0")


def scenario(run: Run) -> None:
    """Type both scripts into files, run them around raspbian_proc, and read the log."""
    k = run.boot()
    k.write("/tmp/set_ftrace.sh", script(run))
    k.write("/tmp/get_ftrace.sh", GET)
    terminal = k.terminal()
    terminal.type("cd /tmp")
    run.typed("chmod +x set_ftrace.sh get_ftrace.sh", terminal.type("chmod +x set_ftrace.sh get_ftrace.sh"))
    out = terminal.type("./set_ftrace.sh")
    run.typed("./set_ftrace.sh", out)
    said = [line for line in out.splitlines() if "abled" in line or "tracing" in line]
    run.equal(
        "every line of the script works",
        said,
        [
            "tracing_off",
            "events disabled",
            "function tracer enabled",
            "set_ftrace_filter enabled",
            "event enabled",
            "function stack trace enabled",
            "tracing_on",
        ],
    )
    run.check("no line complains", not any(word in out for word in ("No such", "denied", "Invalid", "error")), out)
    terminal.type("raspbian_proc &")
    proc = k.appears("raspbian_proc")
    k.run(s=7)
    terminal.type(f"kill -9 {proc}")
    run.typed("./get_ftrace.sh", terminal.type("./get_ftrace.sh"))
    log = k.read("/tmp/ftrace_log.c").decode()
    lines = log.splitlines()
    shown = [line for line in lines if f"-{proc} " in line or f"pid={proc}" in line or f"next_pid={proc}" in line]
    run.show([*lines[:11], *shown[:10]], "ftrace_log.c")
    filtered = k.read(f"{D}/set_ftrace_filter").decode().split()
    run.check(
        "the filter holds the functions that the globs match",
        {run.name("sys_clone"), "do_exit", run.name("_do_fork"), run.name("copy_process")} <= set(filtered),
        filtered,
    )
    run.check(
        "set_ftrace_filter takes only what available_filter_functions has",
        set(filtered) <= set(k.read(f"{D}/available_filter_functions").decode().split()),
    )
    run.check(
        "the log is a function trace with its header",
        lines[0] == "# tracer: function" and any("TASK-PID" in line for line in lines[:12]),
        lines[:12],
    )
    run.check(
        f"it has {run.name('copy_process')} called by {run.name('_do_fork')}",
        any(f"{run.name('copy_process')}" in line and f"<-{run.name('_do_fork')}" in line for line in lines)
        or any(run.name("copy_process") in line and run.name("_do_fork") in line for line in lines),
    )
    run.check(
        "a stack follows each function",
        any("<stack trace>" in line for line in lines) and any(line.startswith(" => ") for line in lines),
    )
    run.check(
        "the fork, the switches, the signal and the exit of raspbian_proc are in it",
        any("sched_process_fork" in line and f"child_pid={proc}" in line for line in lines)
        and any("sched_switch" in line and f"next_pid={proc}" in line for line in lines)
        and any("signal_generate" in line and f"pid={proc}" in line and "sig=9" in line for line in lines)
        and any("sched_process_exit" in line and f"pid={proc}" in line for line in lines),
    )
    run.check(
        "what was not enabled is not in it",
        not any("task_newtask" in line or "sched_waking:" in line for line in lines),
    )
    import tempfile

    from taskscope.recording import Recording

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write(log)
        f.flush()
        recording = Recording.open(f.name)
        life = run.life(recording, proc)
        run.keep(recording, {"proc": life.pid}, {"shell": terminal.process.pid or 0})
        run.check(
            "the copied text is a recording like one of a real kernel: taskscope tells the life from it",
            life.exit is not None and life.exit.signal == 9,
            life.exit,
        )
    run.equal("tracing is off again", k.read(f"{D}/tracing_on").decode().strip(), "0")


LAB = Lab(
    name="set-ftrace",
    title="the notes' set_ftrace.sh, line by line",
    question="What does each line of set_ftrace.sh and get_ftrace.sh do?",
    look="the scripts' output, and the log that they make",
    answer=(
        "tracing_on 0 stops recording; current_tracer function selects the function tracer, which patches the "
        "functions in set_ftrace_filter (> sets, >> adds; globs are matched against available_filter_functions); "
        "events/…/enable switches trace events on; options/func_stack_trace records the call stack behind each "
        "function; "
        "tracing_on 1 begins.  get_ftrace.sh stops it and copies trace, the buffer as text.  On kernels since 5.10 "
        "_do_fork is kernel_clone, and on x86-64 sys_clone is __x64_sys_clone: a filter with the old names is "
        "refused."
    ),
    scenario=scenario,
    real=on_real,
    places=("guest",),
    refused="its steps are functions, no events, and the function tracer is locked here; use --on guest",
    real_note=(
        "The notes' two scripts run as they are, with the names of the kernel at hand.  A host may have "
        "locked the function tracer."
    ),
    needs=("functions",),
    mutant=Mutant(
        "the filter's globs match nothing but themselves",
        "kernel.trace.trace_events_filter:glob_match",
        "re.fullmatch(_glob(pattern), text, re.DOTALL) is not None",
        "pattern == text",
    ),
)

"""The events of the scheduler: include/trace/events/sched.h, v4.19, and the shapes they have had until v6.18.

``trace_x()`` is the tracepoint that kernel code calls; ``trace_event_raw_event_x()`` the probe that writes the record;
``trace_raw_output_x()`` the text.  A switch and a wakeup are written right into the page, as they are most of a
recording.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.sched import TASK_IDLE, TASK_REPORT, Task
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import ring_buffer, trace_events

if TYPE_CHECKING:
    from taskscope.model.include.linux.pid import Pid

TASK_REPORT_IDLE: Final = TASK_REPORT + 1
TASK_REPORT_MAX: Final = TASK_REPORT_IDLE << 1
_MAX_HEAD: Final = (ring_buffer.MAX_DELTA << 5) - 1
_STATES: Final = "SDTtXZPI"
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF

# ---- tracepoints -----------------------------------------------------------------------------------------


def trace_sched_switch(preempt: bool, prev: Task, next: Task) -> None:
    """Trace a task switch, in __schedule()."""
    probes = machine.cur.tp.sched_switch
    if probes:
        for probe, data in probes:
            probe(data, preempt, prev, next)


def trace_sched_waking(p: Task) -> None:
    """Trace a wakeup in the context of the waker."""
    probes = machine.cur.tp.sched_waking
    if probes:
        for probe, data in probes:
            probe(data, p)


def trace_sched_wakeup(p: Task) -> None:
    """Trace that a task has become runnable."""
    probes = machine.cur.tp.sched_wakeup
    if probes:
        for probe, data in probes:
            probe(data, p)


def trace_sched_wakeup_new(p: Task) -> None:
    """Trace that a new task has become runnable."""
    probes = machine.cur.tp.sched_wakeup_new
    if probes:
        for probe, data in probes:
            probe(data, p)


def trace_sched_migrate_task(p: Task, dest_cpu: int) -> None:
    """Trace that a task goes to another CPU; task_cpu(p) is still the old one."""
    probes = machine.cur.tp.sched_migrate_task
    if probes:
        for probe, data in probes:
            probe(data, p, dest_cpu)


def trace_sched_process_free(p: Task) -> None:
    """Trace that a task_struct is given back."""
    probes = machine.cur.tp.sched_process_free
    if probes:
        for probe, data in probes:
            probe(data, p)


def trace_sched_process_exit(p: Task, group_dead: bool = False) -> None:
    """Trace that a task is exiting; `group_dead` is known since v6.16."""
    probes = machine.cur.tp.sched_process_exit
    if probes:
        for probe, data in probes:
            probe(data, p, group_dead)


def trace_sched_wait_task(p: Task) -> None:
    """Trace wait_task_inactive()."""
    probes = machine.cur.tp.sched_wait_task
    if probes:
        for probe, data in probes:
            probe(data, p)


def trace_sched_process_wait(pid: Pid | None) -> None:
    """Trace a wait for children, of one pid or (None) of any."""
    probes = machine.cur.tp.sched_process_wait
    if probes:
        for probe, data in probes:
            probe(data, pid)


def trace_sched_process_fork(parent: Task, child: Task) -> None:
    """Trace a fork."""
    probes = machine.cur.tp.sched_process_fork
    if probes:
        for probe, data in probes:
            probe(data, parent, child)


def trace_sched_process_exec(p: Task, old_pid: int, bprm: Any) -> None:
    """Trace that a task runs a new program; `bprm` is its struct linux_binprm."""
    probes = machine.cur.tp.sched_process_exec
    if probes:
        for probe, data in probes:
            probe(data, p, old_pid, bprm)


def trace_sched_prepare_exec(task: Task, bprm: Any) -> None:
    """Trace that an exec has come to the point of no return (v6.10)."""
    probes = machine.cur.tp.sched_prepare_exec
    if probes:
        for probe, data in probes:
            probe(data, task, bprm)


def trace_sched_stat_wait(tsk: Task, delay: int) -> None:
    """Trace the time (ns) that a task has waited for its CPU."""
    probes = machine.cur.tp.sched_stat_wait
    if probes:
        for probe, data in probes:
            probe(data, tsk, delay)


def trace_sched_stat_sleep(tsk: Task, delay: int) -> None:
    """Trace the time (ns) that a task has slept interruptibly."""
    probes = machine.cur.tp.sched_stat_sleep
    if probes:
        for probe, data in probes:
            probe(data, tsk, delay)


def trace_sched_stat_iowait(tsk: Task, delay: int) -> None:
    """Trace the time (ns) that a task has waited for IO."""
    probes = machine.cur.tp.sched_stat_iowait
    if probes:
        for probe, data in probes:
            probe(data, tsk, delay)


def trace_sched_stat_blocked(tsk: Task, delay: int) -> None:
    """Trace the time (ns) that a task has slept uninterruptibly."""
    probes = machine.cur.tp.sched_stat_blocked
    if probes:
        for probe, data in probes:
            probe(data, tsk, delay)


def trace_sched_stat_runtime(tsk: Task, runtime: int, vruntime: int) -> None:
    """Trace the time (ns) that a task has run since the last such event; `vruntime` is recorded until v6.8."""
    probes = machine.cur.tp.sched_stat_runtime
    if probes:
        for probe, data in probes:
            probe(data, tsk, runtime, vruntime)


def trace_sched_pi_setprio(tsk: Task, pi_task: Task | None) -> None:
    """Trace that a task gets the priority of one that waits for it."""
    probes = machine.cur.tp.sched_pi_setprio
    if probes:
        for probe, data in probes:
            probe(data, tsk, pi_task)


def trace_sched_process_hang(tsk: Task) -> None:
    """Trace a task that the hung task detector has found."""
    probes = machine.cur.tp.sched_process_hang
    if probes:
        for probe, data in probes:
            probe(data, tsk)


def trace_sched_kthread_stop(t: Task) -> None:
    """Trace a call of kthread_stop()."""
    probes = machine.cur.tp.sched_kthread_stop
    if probes:
        for probe, data in probes:
            probe(data, t)


def trace_sched_kthread_work_queue_work(worker: Any, work: Any) -> None:
    """Trace that a kthread_worker is given a work (v5.11)."""
    probes = machine.cur.tp.sched_kthread_work_queue_work
    if probes:
        for probe, data in probes:
            probe(data, worker, work)


def trace_sched_kthread_work_execute_start(work: Any) -> None:
    """Trace that a kthread_worker begins a work (v5.11)."""
    probes = machine.cur.tp.sched_kthread_work_execute_start
    if probes:
        for probe, data in probes:
            probe(data, work, work.func)


def trace_sched_kthread_work_execute_end(work: Any, function: Any) -> None:
    """Trace that a work's function has returned (v5.11); the work may be gone."""
    probes = machine.cur.tp.sched_kthread_work_execute_end
    if probes:
        for probe, data in probes:
            probe(data, work, function)


def trace_sched_kthread_stop_ret(ret: int) -> None:
    """Trace the return value of kthread_stop()."""
    probes = machine.cur.tp.sched_kthread_stop_ret
    if probes:
        for probe, data in probes:
            probe(data, ret)


def trace_sched_wake_idle_without_ipi(cpu: int) -> None:
    """Trace that an idle CPU that polls was woken by its flag alone."""
    probes = machine.cur.tp.sched_wake_idle_without_ipi
    if probes:
        for probe, data in probes:
            probe(data, cpu)


# ---- probes ----------------------------------------------------------------------------------------------


def __trace_sched_switch_state(preempt: bool, p: Task) -> int:
    # Preemption ignores the state: a preempted task has not been dequeued, whatever it was about to become.
    if preempt:
        return TASK_REPORT_MAX
    state = TASK_REPORT_IDLE if p.state == TASK_IDLE else (p.state | p.exit_state) & TASK_REPORT
    return 1 << state.bit_length() - 1 if state else 0


def trace_event_raw_event_sched_switch(file: TraceEventFile, preempt: bool, prev: Task, next: Task) -> None:
    """Write the record of a switch."""
    cur = machine.cur
    prev_pid = prev.pid
    next_pid = next.pid
    prev_comm = prev.comm16
    next_comm = next.comm16
    state = prev.state | prev.exit_state
    if preempt:
        state = TASK_REPORT_MAX
    elif state > 2:
        state = __trace_sched_switch_state(preempt, prev)
    if file.flags:
        trace_events.trace_event_buffer_commit(
            file, (prev_comm, prev_pid, prev.prio, state, next_comm, next_pid, next.prio)
        )
        return
    cmdlines = cur.savedcmd
    cmdlines[prev_pid] = prev_comm
    cmdlines[next_pid] = next_comm
    cpu_buffer = file.buffers[cur.cpu.id]
    ts = cur.now
    pos = cpu_buffer.pos
    head = (ts - cpu_buffer.write_stamp) << 5
    length = file.length
    end = pos + length
    if head > _MAX_HEAD or end > cpu_buffer.limit:
        pos = ring_buffer.rb_move_tail(cpu_buffer, ts, length)
        if pos < 0:
            return
        end = pos + length
        head = 0
    file.pack_into(
        cpu_buffer.page,
        pos,
        head | file.type_len,
        # __schedule() holds rq.lock, has preemption and interrupts off, and has cleared TIF_NEED_RESCHED.
        file.head | 0x0201_0000,
        prev_pid,
        prev_comm,
        prev_pid,
        prev.prio,
        state,
        next_comm,
        next_pid,
        next.prio,
    )
    cpu_buffer.pos = end
    cpu_buffer.write_stamp = ts
    cpu_buffer.entries += 1


def trace_event_raw_event_sched_wakeup_template(file: TraceEventFile, p: Task) -> None:
    """Write the record of a wakeup."""
    trace_events.trace_event_buffer_commit(file, (p.comm16, p.pid, p.prio, p.thread_info.cpu))


def trace_event_raw_event_sched_wakeup_success(file: TraceEventFile, p: Task) -> None:
    """Write the record of a wakeup with ``success``, always 1: old tools looked for it."""
    trace_events.trace_event_buffer_commit(file, (p.comm16, p.pid, p.prio, 1, p.thread_info.cpu))


def trace_event_raw_event_sched_migrate_task(file: TraceEventFile, p: Task, dest_cpu: int) -> None:
    """Write the record of a migration."""
    trace_events.trace_event_buffer_commit(file, (p.comm16, p.pid, p.prio, p.thread_info.cpu, dest_cpu))


def trace_event_raw_event_sched_process_template(file: TraceEventFile, p: Task) -> None:
    """Write the record of a task that is freed or waited for."""
    trace_events.trace_event_buffer_commit(file, (p.comm16, p.pid, p.prio))


def trace_event_raw_event_sched_process_exit(file: TraceEventFile, p: Task, group_dead: bool) -> None:
    """Write the record of an exit."""
    values = (p.comm16, p.pid, p.prio)
    with_group = len(file.event_call.fields) == len(values) + 1
    trace_events.trace_event_buffer_commit(file, (*values, group_dead) if with_group else values)


def trace_event_raw_event_sched_process_wait(file: TraceEventFile, pid: Pid | None) -> None:
    """Write the record of a wait."""
    current = machine.cur.cpu.curr
    trace_events.trace_event_buffer_commit(file, (current.comm16, pid.nr if pid is not None else 0, current.prio))


def trace_event_raw_event_sched_process_fork(file: TraceEventFile, parent: Task, child: Task) -> None:
    """Write the record of a fork."""
    trace_events.trace_event_buffer_commit(file, (parent.comm16, parent.pid, child.comm16, child.pid))


def trace_event_raw_event_sched_process_exec(file: TraceEventFile, p: Task, old_pid: int, bprm: Any) -> None:
    """Write the record of an exec."""
    trace_events.trace_event_buffer_commit(file, (bprm.filename, p.pid, old_pid))


def trace_event_raw_event_sched_prepare_exec(file: TraceEventFile, task: Task, bprm: Any) -> None:
    """Write the record of an exec that cannot go back."""
    trace_events.trace_event_buffer_commit(file, (bprm.interp, bprm.filename, task.pid, task.comm16))


def trace_event_raw_event_sched_stat_template(file: TraceEventFile, tsk: Task, delay: int) -> None:
    """Write the record of a delay."""
    trace_events.trace_event_buffer_commit(file, (tsk.comm16, tsk.pid, delay))


def trace_event_raw_event_sched_stat_runtime(file: TraceEventFile, tsk: Task, runtime: int, vruntime: int) -> None:
    """Write the record of time run, as v6.9 and later do."""
    del vruntime
    trace_events.trace_event_buffer_commit(file, (tsk.comm16, tsk.pid, runtime))


def trace_event_raw_event_sched_stat_vruntime(file: TraceEventFile, tsk: Task, runtime: int, vruntime: int) -> None:
    """Write the record of time run with the vruntime that it comes to, as v6.8 and earlier do."""
    cur = machine.cur
    cpu = cur.cpu
    curr = cpu.curr
    count = cpu.preempt_count
    if file.flags or count > 15 or curr.thread_info.flags & cur.tif_need_resched:
        trace_events.trace_event_buffer_commit(file, (tsk.comm16, tsk.pid, runtime, vruntime & _U64))
        return
    # trace_event_buffer_commit() of what is usual; update_curr() has interrupts off.
    cpu_buffer = file.buffers[cpu.id]
    ts = cur.now
    pos = cpu_buffer.pos
    head = (ts - cpu_buffer.write_stamp) << 5
    length = file.length
    if head > _MAX_HEAD or pos + length > cpu_buffer.limit:
        pos = ring_buffer.rb_move_tail(cpu_buffer, ts, length)
        if pos < 0:
            return
        head = 0
    file.pack_into(
        cpu_buffer.page,
        pos,
        head | file.type_len,
        file.head | count << 24 | 0x1_0000,
        curr.pid,
        tsk.comm16,
        tsk.pid,
        runtime,
        vruntime & _U64,
    )
    cpu_buffer.pos = pos + length
    cpu_buffer.write_stamp = ts
    cpu_buffer.entries += 1


def trace_event_raw_event_sched_pi_setprio(file: TraceEventFile, tsk: Task, pi_task: Task | None) -> None:
    """Write the record of an inherited priority."""
    newprio = min(tsk.normal_prio, pi_task.prio) if pi_task is not None else tsk.normal_prio
    trace_events.trace_event_buffer_commit(file, (tsk.comm16, tsk.pid, tsk.prio, newprio))


def trace_event_raw_event_sched_process_hang(file: TraceEventFile, tsk: Task) -> None:
    """Write the record of a task that hangs."""
    trace_events.trace_event_buffer_commit(file, (tsk.comm16, tsk.pid))


def trace_event_raw_event_sched_kthread_work_queue_work(file: TraceEventFile, worker: Any, work: Any) -> None:
    """Write the record of a work given to a kthread_worker."""
    cur = machine.cur
    values = tuple(trace_events.kernel_word(cur, thing) for thing in (work, work.func, worker))
    trace_events.trace_event_buffer_commit(file, values)


def trace_event_raw_event_sched_kthread_work_execute(file: TraceEventFile, work: Any, function: Any) -> None:
    """Write the record of the begin or the end of a kthread_worker's work."""
    cur = machine.cur
    values = (trace_events.kernel_word(cur, work), trace_events.kernel_word(cur, function))
    trace_events.trace_event_buffer_commit(file, values)


def trace_event_raw_event_sched_kthread_stop_ret(file: TraceEventFile, ret: int) -> None:
    """Write the record of a number."""
    trace_events.trace_event_buffer_commit(file, (ret,))


# ---- text ------------------------------------------------------------------------------------------------


def trace_raw_output_sched_switch(v: Any) -> str:
    """Print a switch."""
    prev_comm, prev_pid, prev_prio, state, next_comm, next_pid, next_prio = v
    letters = "|".join(c for i, c in enumerate(_STATES) if state >> i & 1) or "R"
    # Bits that no state is named for are printed as a number, as print_flags does.
    plus = "+" if state & TASK_REPORT_MAX else ""
    return (
        f"prev_comm={prev_comm} prev_pid={prev_pid} prev_prio={prev_prio} prev_state={letters}{plus} ==> "
        f"next_comm={next_comm} next_pid={next_pid} next_prio={next_prio}"
    )


def trace_raw_output_sched_process_exit(v: Any) -> str:
    """Print an exit of v6.16 and later."""
    return f"comm={v[0]} pid={v[1]} prio={v[2]} group_dead={'true' if v[3] else 'false'}"


# ---- declarations ----------------------------------------------------------------------------------------

_BITS: Final = "0x0000 | 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0020 | 0x0040"
_LONG_BITS: Final = (
    "0x00000000 | 0x00000001 | 0x00000002 | 0x00000004 | 0x00000008 | 0x00000010 | 0x00000020 | 0x00000040"
)


def _switch_fmt(bits: str, width: int) -> str:
    mask = f"(((({bits}) + 1) << 1) - 1)"
    states = ", ".join(f'{{ 0x{1 << i:0{width}x}, "{c}" }}' for i, c in enumerate(_STATES))
    return (
        '"prev_comm=%s prev_pid=%d prev_prio=%d prev_state=%s%s ==> next_comm=%s next_pid=%d next_prio=%d", '
        f"REC->prev_comm, REC->prev_pid, REC->prev_prio, (REC->prev_state & {mask}) ? "
        f'__print_flags(REC->prev_state & {mask}, "|", {states}) : "R", '
        f'REC->prev_state & ((({bits}) + 1) << 1) ? "+" : "", REC->next_comm, REC->next_pid, REC->next_prio'
    )


_SWITCH: Final = (
    "char prev_comm[16]; pid_t prev_pid; int prev_prio; long prev_state; char next_comm[16]; pid_t next_pid; "
    "int next_prio"
)
_COMM_PID_PRIO: Final = '"comm=%s pid=%d prio=%d", REC->comm, REC->pid, REC->prio'
_WAKEUP: Final = '"comm=%s pid=%d prio=%d target_cpu=%03d", REC->comm, REC->pid, REC->prio, REC->target_cpu'
_DELAY: Final = '"comm=%s pid=%d delay=%Lu [ns]", REC->comm, REC->pid, (unsigned long long)REC->delay'
_PAIR: Final = "; ".join(
    f"{t} {side}_{n}"
    for side in ("src", "dst")
    for t, n in (("pid_t", "pid"), ("pid_t", "tgid"), ("pid_t", "ngid"), ("int", "cpu"), ("int", "nid"))
)
_PAIR_FMT: Final = (
    '"'
    + " ".join(f"{p.split()[1]}=%d" for p in _PAIR.split("; "))
    + '", '
    + ", ".join(f"REC->{p.split()[1]}" for p in _PAIR.split("; "))
)


def _comm(name: str, rest: str, fmt: str, args: str, probe: Any) -> list[Declaration]:
    """Declare an event whose ``comm`` was an array before v6.14 and is a string since."""
    tail = f"; {rest}" if rest else ""
    return [
        Declaration(
            "sched",
            name,
            f"char comm[16]; pid_t pid{tail}",
            f'"comm=%s pid=%d{fmt}", REC->comm, REC->pid{args}',
            probe,
            None,
            before=(6, 14),
        ),
        Declaration(
            "sched",
            name,
            f"__data_loc char[] comm; pid_t pid{tail}",
            f'"comm=%s pid=%d{fmt}", __get_str(comm), REC->pid{args}',
            probe,
            None,
            since=(6, 14),
        ),
    ]


_PRIO: Final = ("int prio", " prio=%d", ", REC->prio")
EVENTS: Final = (
    Declaration(
        "sched",
        "sched_switch",
        _SWITCH,
        _switch_fmt(_BITS, 2),
        trace_event_raw_event_sched_switch,
        trace_raw_output_sched_switch,
        before=(4, 20),
    ),
    Declaration(
        "sched",
        "sched_switch",
        _SWITCH,
        _switch_fmt(_LONG_BITS, 8),
        trace_event_raw_event_sched_switch,
        trace_raw_output_sched_switch,
        since=(4, 20),
    ),
    *(
        Declaration(
            "sched",
            name,
            "char comm[16]; pid_t pid; int prio; int success; int target_cpu",
            _WAKEUP,
            trace_event_raw_event_sched_wakeup_success,
            None,
            before=(5, 14),
        )
        for name in ("sched_waking", "sched_wakeup", "sched_wakeup_new")
    ),
    *(
        Declaration(
            "sched",
            name,
            "char comm[16]; pid_t pid; int prio; int target_cpu",
            _WAKEUP,
            trace_event_raw_event_sched_wakeup_template,
            None,
            since=(5, 14),
        )
        for name in ("sched_waking", "sched_wakeup", "sched_wakeup_new")
    ),
    *_comm(
        "sched_migrate_task",
        "int prio; int orig_cpu; int dest_cpu",
        " prio=%d orig_cpu=%d dest_cpu=%d",
        ", REC->prio, REC->orig_cpu, REC->dest_cpu",
        trace_event_raw_event_sched_migrate_task,
    ),
    *_comm("sched_process_free", *_PRIO, trace_event_raw_event_sched_process_template),
    *_comm("sched_wait_task", *_PRIO, trace_event_raw_event_sched_process_template),
    *_comm("sched_process_wait", *_PRIO, trace_event_raw_event_sched_process_wait),
    *_comm("sched_kthread_stop", "", "", "", trace_event_raw_event_sched_process_hang),
    *_comm("sched_process_hang", "", "", "", trace_event_raw_event_sched_process_hang),
    *_comm(
        "sched_pi_setprio",
        "int oldprio; int newprio",
        " oldprio=%d newprio=%d",
        ", REC->oldprio, REC->newprio",
        trace_event_raw_event_sched_pi_setprio,
    ),
    Declaration(
        "sched",
        "sched_process_exit",
        "char comm[16]; pid_t pid; int prio",
        _COMM_PID_PRIO,
        trace_event_raw_event_sched_process_exit,
        None,
        before=(6, 16),
    ),
    Declaration(
        "sched",
        "sched_process_exit",
        "char comm[16]; pid_t pid; int prio; bool group_dead",
        '"comm=%s pid=%d prio=%d group_dead=%s", REC->comm, REC->pid, REC->prio, REC->group_dead ? "true" : "false"',
        trace_event_raw_event_sched_process_exit,
        trace_raw_output_sched_process_exit,
        since=(6, 16),
    ),
    Declaration(
        "sched",
        "sched_process_fork",
        "char parent_comm[16]; pid_t parent_pid; char child_comm[16]; pid_t child_pid",
        '"comm=%s pid=%d child_comm=%s child_pid=%d", REC->parent_comm, REC->parent_pid, REC->child_comm, '
        "REC->child_pid",
        trace_event_raw_event_sched_process_fork,
        None,
        before=(6, 14),
    ),
    Declaration(
        "sched",
        "sched_process_fork",
        "__data_loc char[] parent_comm; pid_t parent_pid; __data_loc char[] child_comm; pid_t child_pid",
        '"comm=%s pid=%d child_comm=%s child_pid=%d", __get_str(parent_comm), REC->parent_pid, '
        "__get_str(child_comm), REC->child_pid",
        trace_event_raw_event_sched_process_fork,
        None,
        since=(6, 14),
    ),
    Declaration(
        "sched",
        "sched_process_exec",
        "__data_loc char[] filename; pid_t pid; pid_t old_pid",
        '"filename=%s pid=%d old_pid=%d", __get_str(filename), REC->pid, REC->old_pid',
        trace_event_raw_event_sched_process_exec,
        None,
    ),
    Declaration(
        "sched",
        "sched_prepare_exec",
        "__data_loc char[] interp; __data_loc char[] filename; pid_t pid; __data_loc char[] comm",
        '"interp=%s filename=%s pid=%d comm=%s", __get_str(interp), __get_str(filename), REC->pid, __get_str(comm)',
        trace_event_raw_event_sched_prepare_exec,
        None,
        since=(6, 10),
    ),
    # CONFIG_SCHEDSTATS: 4.19 of the Raspberry Pi and Debian's 6.1 have it, the 6.18 here has not.
    *(
        Declaration(
            "sched",
            name,
            "char comm[16]; pid_t pid; u64 delay",
            _DELAY,
            trace_event_raw_event_sched_stat_template,
            None,
            before=(6, 14),
        )
        for name in ("sched_stat_wait", "sched_stat_sleep", "sched_stat_iowait", "sched_stat_blocked")
    ),
    Declaration(
        "sched",
        "sched_stat_runtime",
        "char comm[16]; pid_t pid; u64 runtime; u64 vruntime",
        '"comm=%s pid=%d runtime=%Lu [ns] vruntime=%Lu [ns]", REC->comm, REC->pid, '
        "(unsigned long long)REC->runtime, (unsigned long long)REC->vruntime",
        trace_event_raw_event_sched_stat_vruntime,
        None,
        before=(6, 9),
    ),
    Declaration(
        "sched",
        "sched_stat_runtime",
        "__data_loc char[] comm; pid_t pid; u64 runtime",
        '"comm=%s pid=%d runtime=%Lu [ns]", __get_str(comm), REC->pid, (unsigned long long)REC->runtime',
        trace_event_raw_event_sched_stat_runtime,
        None,
        since=(6, 14),
    ),
    Declaration(
        "sched",
        "sched_kthread_stop_ret",
        "int ret",
        '"ret=%d", REC->ret',
        trace_event_raw_event_sched_kthread_stop_ret,
        None,
    ),
    Declaration(
        "sched",
        "sched_wake_idle_without_ipi",
        "int cpu",
        '"cpu=%d", REC->cpu',
        trace_event_raw_event_sched_kthread_stop_ret,
        None,
    ),
    Declaration(
        "sched",
        "sched_kthread_work_queue_work",
        "void * work; void * function; void * worker",
        '"work struct=%p function=%ps worker=%p", REC->work, REC->function, REC->worker',
        trace_event_raw_event_sched_kthread_work_queue_work,
        None,
        since=(5, 11),
    ),
    *(
        Declaration(
            "sched",
            name,
            "void * work; void * function",
            '"work struct %p: function %ps", REC->work, REC->function',
            trace_event_raw_event_sched_kthread_work_execute,
            None,
            since=(5, 11),
        )
        for name in ("sched_kthread_work_execute_start", "sched_kthread_work_execute_end")
    ),
    # Not modelled: NUMA balancing; its events exist, as in the kernel, and stay silent.
    Declaration(
        "sched",
        "sched_move_numa",
        "pid_t pid; pid_t tgid; pid_t ngid; int src_cpu; int src_nid; int dst_cpu; int dst_nid",
        '"pid=%d tgid=%d ngid=%d src_cpu=%d src_nid=%d dst_cpu=%d dst_nid=%d", REC->pid, REC->tgid, REC->ngid, '
        "REC->src_cpu, REC->src_nid, REC->dst_cpu, REC->dst_nid",
        None,
        None,
    ),
    Declaration("sched", "sched_stick_numa", _PAIR, _PAIR_FMT, None, None, since=(5, 0)),
    Declaration("sched", "sched_swap_numa", _PAIR, _PAIR_FMT, None, None, since=(5, 0)),
    Declaration(
        "sched",
        "sched_skip_vma_numa",
        "unsigned long numa_scan_offset; unsigned long vm_start; unsigned long vm_end; enum numa_vmaskip_reason reason",
        '"numa_scan_offset=%lX vm_start=%lX vm_end=%lX reason=%s", REC->numa_scan_offset, REC->vm_start, REC->vm_end, '
        '__print_symbolic(REC->reason, { 0, "unsuitable" }, { 1, "shared_ro" }, { 2, "inaccessible" }, '
        '{ 3, "scan_delay" }, { 4, "pid_inactive" }, { 5, "ignore_pid_inactive" }, { 6, "seq_completed" })',
        None,
        None,
        since=(6, 8),
    ),
    Declaration(
        "sched",
        "sched_skip_cpuset_numa",
        "char comm[16]; pid_t pid; pid_t tgid; pid_t ngid; unsigned long mem_allowed[16]",
        '"comm=%s pid=%d tgid=%d ngid=%d mem_nodes_allowed=%*pbl", REC->comm, REC->pid, REC->tgid, REC->ngid, '
        "(1 << 10), REC->mem_allowed",
        None,
        None,
        since=(6, 17),
    ),
)

r"""What the body of a known event says: the kernel's print formats, as templates that read them backwards.

A template is the text of the event's TP_printk (include/trace/events/ of Linux 3.10 to 6.18) with ``{field:kind}``
where a field is printed, under the name that the binary record gives the field.  An event has several where kernels
differ, or where trace-cmd's plugins (libtraceevent 1.5 to 1.8) and ``report -R`` write it differently.

Kinds: ``d`` decimal, ``c`` the same in three digits, ``x`` hexadecimal with or without 0x, ``p`` a pointer or what
stands for it, ``s`` a comm (may hold anything), ``S`` a path (may hold anything and be long), ``w`` one word, ``v`` one
word that is a number in raw texts, ``a`` the arguments of a system call, ``t`` true or false, ``h`` handled or
unhandled, ``f`` a function's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

#: pattern of each kind.  A comm is bounded and a path is taken whole, so that no body is searched back and forth.
_PATTERNS = {
    "d": rb"(-?\d{1,20})", "c": rb"(\d{1,9})", "x": rb"((?:0x)?[0-9a-fA-F]{1,16})", "p": rb"(\S{1,255})",
    "s": rb"(.{0,79})", "S": rb"(.*?)", "w": rb"(\S{1,255})", "v": rb"(\S{1,255})", "a": rb"([0-9a-fx, -]{0,255})",
    "t": rb"(true|false|[01])", "h": rb"(handled|unhandled|[01])", "f": rb"(\S{1,255}(?: \[[^\s\]]{1,63}\])?)",
}

#: events, and indented below them their templates
_TABLE = """\
sched_switch
    prev_comm={prev_comm:s} prev_pid={prev_pid:d} prev_prio={prev_prio:d} prev_state={prev_state:v} ==> \
next_comm={next_comm:s} next_pid={next_pid:d} next_prio={next_prio:d}
    {prev_comm:s}:{prev_pid:d} [{prev_prio:d}] {prev_state:v} ==> {next_comm:s}:{next_pid:d} [{next_prio:d}]
    prev_comm={prev_comm:s} prev_pid={prev_pid:d} prev_prio={prev_prio:d} prev_state={prev_state:v} \
next_comm={next_comm:s} next_pid={next_pid:d} next_prio={next_prio:d}
sched_wakeup sched_wakeup_new sched_waking
    comm={comm:s} pid={pid:d} prio={prio:d} target_cpu={target_cpu:c}
    comm={comm:s} pid={pid:d} prio={prio:d} success={success:d} target_cpu={target_cpu:c}
    {comm:s}:{pid:d} [{prio:d}] CPU:{target_cpu:c}
    {comm:s}:{pid:d} [{prio:d}] success={success:d} CPU:{target_cpu:c}
sched_migrate_task
    comm={comm:s} pid={pid:d} prio={prio:d} orig_cpu={orig_cpu:d} dest_cpu={dest_cpu:d}
sched_process_fork
    comm={parent_comm:s} pid={parent_pid:d} child_comm={child_comm:s} child_pid={child_pid:d}
    parent_comm={parent_comm:s} parent_pid={parent_pid:d} child_comm={child_comm:s} child_pid={child_pid:d}
sched_process_exec
    filename={filename:S} pid={pid:d} old_pid={old_pid:d}
sched_prepare_exec
    interp={interp:S} filename={filename:S} pid={pid:d} comm={comm:s}
sched_process_exit
    comm={comm:s} pid={pid:d} prio={prio:d}
    comm={comm:s} pid={pid:d} prio={prio:d} group_dead={group_dead:t}
sched_process_free sched_process_wait sched_wait_task
    comm={comm:s} pid={pid:d} prio={prio:d}
sched_process_hang sched_kthread_stop
    comm={comm:s} pid={pid:d}
sched_stat_runtime
    comm={comm:s} pid={pid:d} runtime={runtime:d} [ns]
    comm={comm:s} pid={pid:d} runtime={runtime:d} [ns] vruntime={vruntime:d} [ns]
    comm={comm:s} pid={pid:d} runtime={runtime:d}
    comm={comm:s} pid={pid:d} runtime={runtime:d} vruntime={vruntime:d}
sched_stat_wait sched_stat_sleep sched_stat_iowait sched_stat_blocked
    comm={comm:s} pid={pid:d} delay={delay:d} [ns]
    comm={comm:s} pid={pid:d} delay={delay:d}
sched_pi_setprio
    comm={comm:s} pid={pid:d} oldprio={oldprio:d} newprio={newprio:d}
sched_skip_cpuset_numa
    comm={comm:s} pid={pid:d} tgid={tgid:d} ngid={ngid:d} mem_nodes_allowed={mem_allowed:w}
sched_skip_vma_numa
    numa_scan_offset={numa_scan_offset:x} vm_start={vm_start:x} vm_end={vm_end:x} reason={reason:w}
sched_kthread_work_queue_work
    work struct={work:p} function={function:f} worker={worker:p}
    work={work:p} function={function:f} worker={worker:p}
sched_kthread_work_execute_start sched_kthread_work_execute_end
    work struct {work:p}: function {function:f}
workqueue_activate_work workqueue_execute_start workqueue_execute_end
    work struct {work:p}: function {function:f}
    work struct {work:p}
    work struct={work:p} function={function:f}
    work struct {work:p} function={function:f}
    work={work:p} function={function:f}
    work={work:p}
task_newtask
    pid={pid:d} comm={comm:s} clone_flags={clone_flags:x} oom_score_adj={oom_score_adj:d}
task_rename
    pid={pid:d} oldcomm={oldcomm:s} newcomm={newcomm:s} oom_score_adj={oom_score_adj:d}
signal_generate
    sig={sig:d} errno={errno:d} code={code:d} comm={comm:s} pid={pid:d} grp={group:d} res={result:d}
    sig={sig:d} errno={errno:d} code={code:d} comm={comm:s} pid={pid:d} group={group:d} result={result:d}
    sig={sig:d} errno={errno:d} code={code:d} comm={comm:s} pid={pid:d}
signal_deliver
    sig={sig:d} errno={errno:d} code={code:d} sa_handler={sa_handler:x} sa_flags={sa_flags:x}
irq_handler_entry
    irq={irq:d} name={name:S}
irq_handler_exit
    irq={irq:d} ret={ret:h}
softirq_entry softirq_exit softirq_raise
    vec={vec:d} [action={:w}]
    vec={vec:d}
tasklet_entry tasklet_exit
    tasklet={tasklet:f} function={func:f}
    tasklet={tasklet:f} func={func:f}
workqueue_queue_work
    work struct={work:p} function={function:f} workqueue={workqueue:S} req_cpu={req_cpu:d} cpu={cpu:d}
    work={work:p} function={function:f} workqueue={workqueue:S} req_cpu={req_cpu:d} cpu={cpu:d}
mark_victim
    pid={pid:d}
    pid={pid:d} comm={comm:s} total-vm={total_vm:d}kB anon-rss={anon_rss:d}kB file-rss:{file_rss:d}kB \
shmem-rss:{shmem_rss:d}kB uid={uid:d} pgtables={pgtables:d}kB oom_score_adj={oom_score_adj:d}
    pid={pid:d} comm={comm:s} total_vm={total_vm:d} anon_rss={anon_rss:d} file_rss={file_rss:d} \
shmem_rss={shmem_rss:d} uid={uid:d} pgtables={pgtables:d} oom_score_adj={oom_score_adj:d}
oom_score_adj_update
    pid={pid:d} comm={comm:s} oom_score_adj={oom_score_adj:d}
reclaim_retry_zone
    node={node:d} zone={zone_idx:w} {:S}order={order:d} reclaimable={reclaimable:d} available={available:d} \
min_wmark={min_wmark:d} no_progress_loops={no_progress_loops:d} wmark_check={wmark_check:d}
    node={node:d} zone_idx={zone_idx:v} order={order:d} reclaimable={reclaimable:d} available={available:d} \
min_wmark={min_wmark:d} no_progress_loops={no_progress_loops:d} wmark_check={wmark_check:d}
compact_retry
    order={order:d} priority={priority:w} compaction_result={result:w} retries={retries:d} \
max_retries={max_retries:d} should_retry={ret:d}
    order={order:d} priority={priority:v} result={result:v} retries={retries:d} max_retries={max_retries:d} ret={ret:d}
timer_start
    timer={timer:p} function={function:f} expires={expires:d} [timeout={timeout:d}]
    timer={timer:p} function={function:f} expires={expires:d} [timeout={timeout:d}] \
bucket_expiry={bucket_expiry:d} cpu={cpu:d} idx={idx:d} flags={flags:S}
    timer={timer:p} function={function:f} expires={expires:d} [timeout={timeout:d}] cpu={cpu:d} idx={idx:d} \
flags={flags:S}
    timer={timer:p} function={function:f} expires={expires:d} [timeout={timeout:d}] flags={flags:w}
    timer={timer:p} function={function:f} expires={expires:d} now={now:v} flags={flags:v}
hrtimer_start
    hrtimer={hrtimer:p} function={function:f} expires={expires:d} softexpires={softexpires:d}
    hrtimer={hrtimer:p} function={function:f} expires={expires:d} softexpires={softexpires:d} mode={mode:w}
    hrtimer={hrtimer:p} function={function:f} expires={expires:d} softexpires={softexpires:d} mode={mode:w} \
was_armed={was_armed:d}
itimer_state
    which={which:d} expires={expires:d} it_value={value_sec:d}.{value_usec:d} \
it_interval={interval_sec:d}.{interval_usec:d}
    which={which:d} expires={expires:d} value_sec={value_sec:d} value_nsec={value_nsec:d} \
interval_sec={interval_sec:d} interval_nsec={interval_nsec:d}
sys_enter
    NR {id:d} ({args:a})
    id={id:d} args={args:S}
sys_exit
    NR {id:d} = {ret:d}
    id={id:d} ret={ret:d}
function
    {ip:f} <-{parent_ip:f}
    {ip:f} <-- {parent_ip:f}
    {ip:f}
    ip={ip:f} parent_ip={parent_ip:f}
    {ip:f}({:S}) <-{parent_ip:f}
print
    ip={ip:f} buf={buf:S}
    {ip:f}: {buf:S}
    {ip:f} <{:x}>: {buf:S}
    {buf:S}
bputs
    {ip:f}: {str:S}
    {ip:f} <{:x}>: {str:S}
    {str:S}
kernel_stack user_stack
    {:S}
"""


def _parse(table: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    names: list[str] = []
    for line in table.splitlines():
        if line.startswith(" "):
            found.update((name, (*found[name], line.strip())) for name in names)
        else:
            names = line.split()
            found.update((name, ()) for name in names)
    return found


TEMPLATES = _parse(_TABLE)

#: fields that a later kernel put behind the others
_MORE = rb"((?: [A-Za-z_]\w{0,63}=\S{1,255}){1,16}) {0,8}\Z"
_KEY = re.compile(rb" ([A-Za-z_]\w{0,63})=")
_SLOT = re.compile(r"\{(\w*):(\w)\}")


@dataclass(frozen=True)
class Template:
    """One compiled template: ``fields`` are (name, kind) in the order of the groups of its patterns."""

    text: str

    @cached_property
    def _slots(self) -> list[tuple[str, str]]:
        return [(m[1], m[2]) for m in _SLOT.finditer(self.text)]

    @cached_property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The named fields and their kinds."""
        return tuple((name, kind) for name, kind in self._slots if name)

    @cached_property
    def groups(self) -> tuple[int, ...]:
        """Where each field stands in what `lines` finds; 0 is an empty group, so that it is always a tuple."""
        return tuple(i for i, (name, _) in enumerate(self._slots, 1) if name)

    @cached_property
    def _source(self) -> bytes:
        literals = _SLOT.split(self.text)[::3]
        out = re.escape(literals[0].encode())
        last = max((i for i, (_, kind) in enumerate(self._slots) if kind == "S"), default=-1)
        for i, ((_, kind), after) in enumerate(zip(self._slots, literals[1:], strict=True)):
            part = _PATTERNS[kind]
            if i == last:
                # Up to the last place where what follows it stands.
                part = rb"(.*)"
            elif kind == "S":
                # Up to the first such place, which is never given up: two that may end anywhere would take for ever.
                out += b"(?>" + part + re.escape(after.encode()) + b")"
                continue
            out += part + re.escape(after.encode())
        return out

    @cached_property
    def witness(self) -> int | None:
        """The group that is never empty where `lines` matched; None: every line matches."""
        return next((i for i, (_, kind) in enumerate(self._slots, 1) if kind not in "sSa"), None)

    @cached_property
    def lines(self) -> re.Pattern[bytes]:
        """Pattern that finds every line of a text: the slots' groups, all empty for a line that does not match."""
        return re.compile(b"^(?:()" + self._source + rb" {0,8}$|.*)", re.MULTILINE)

    @cached_property
    def whole(self) -> re.Pattern[bytes]:
        """Pattern of one body, which may hold newlines."""
        return re.compile(b"()" + self._source + rb" {0,8}\Z", re.DOTALL)

    def longer(self, body: bytes) -> Template | None:
        """Return the template that also reads the ``key=value`` pairs behind what this one reads, None if none are."""
        m = re.match(self._source + _MORE, body, re.DOTALL)
        if m is None:
            return None
        keys = [k.decode() for k in _KEY.findall(m[m.re.groups])]
        return template(self.text + "".join(f" {k}={{{k}:v}}" for k in dict.fromkeys(keys)))


@lru_cache(maxsize=512)
def template(text: str) -> Template:
    """Return the compiled template of a text."""
    return Template(text)


def templates_of(name: str) -> tuple[Template, ...]:
    """Return the templates of an event, () if its name is not known."""
    return tuple(template(t) for t in TEMPLATES.get(name, ()))

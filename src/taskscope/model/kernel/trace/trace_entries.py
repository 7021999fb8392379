"""ftrace's own records, and the ids of all events (kernel/trace/trace_entries.h, v4.19 to v6.18).

An id is given out at boot in link order, so it differs with every build.  Those of 6.1 and 6.18 are what the two
kernels have (Debian's 6.1.0-56-cloud-amd64 and a 6.18.44); what no recording showed, and all of 4.19's, is numbered as
the files link.
"""

from __future__ import annotations

from typing import Final

from taskscope.abi.era import Version
from taskscope.model.include.linux.trace_events import Declaration

TRACE_FN: Final = 1
TRACE_STACK: Final = 4
TRACE_PRINT: Final = 5

_STACK: Final = (
    '"\\t=> {0}\\n\\t=> {0}\\n\\t=> {0}\\n" "\\t=> {0}\\n\\t=> {0}\\n\\t=> {0}\\n" "\\t=> {0}\\n\\t=> {0}\\n", '
)
_PS: Final = _STACK.format("%ps") + ", ".join(f"(void *)REC->caller[{i}]" for i in range(8))
_LX: Final = _STACK.format("(%08lx)") + ", ".join(f"REC->caller[{i}]" for i in range(8))
_SWITCH: Final = (
    "unsigned int prev_pid; unsigned int next_pid; unsigned int next_cpu; unsigned char prev_prio; "
    "unsigned char prev_state; unsigned char next_prio; unsigned char next_state"
)
_SWITCH_FMT: Final = (
    '"%u:%u:%u  ==X %u:%u:%u [%03u]", REC->prev_pid, REC->prev_prio, REC->prev_state, REC->next_pid, '
    "REC->next_prio, REC->next_state, REC->next_cpu"
)
_GRAPH_EXIT: Final = "unsigned int overrun; unsigned long long calltime; unsigned long long rettime"
_HWLAT: Final = (
    "u64 duration; u64 outer_duration; u64 nmi_total_ts; s64 tv_sec; long tv_nsec; unsigned int nmi_count; "
    "unsigned int seqnum"
)
_RW: Final = (
    "resource_size_t phys; unsigned long value; unsigned long pc; int map_id; unsigned char opcode; unsigned char width"
)


def _entry(
    name: str, fields: str, print_fmt: str, since: Version = (0, 0), before: Version = (1 << 30, 0)
) -> Declaration:
    return Declaration("ftrace", name, fields, print_fmt, None, None, since, before)


EVENTS: Final = (
    _entry(
        "function",
        "unsigned long ip; unsigned long parent_ip",
        '" %lx <-- %lx", REC->ip, REC->parent_ip',
        before=(5, 8),
    ),
    _entry(
        "function",
        "unsigned long ip; unsigned long parent_ip",
        '" %ps <-- %ps", (void *)REC->ip, (void *)REC->parent_ip',
        (5, 8),
        (6, 15),
    ),
    _entry(
        "function",
        "unsigned long ip; unsigned long parent_ip; unsigned long args[]",
        '" %ps <-- %ps", (void *)REC->ip, (void *)REC->parent_ip',
        (6, 15),
    ),
    _entry("kernel_stack", "int size; unsigned long caller[-]", _LX, before=(5, 8)),
    _entry("kernel_stack", "int size; unsigned long caller[8]", _PS, (5, 8)),
    _entry("user_stack", "unsigned int tgid; unsigned long caller[8]", _LX, before=(5, 8)),
    _entry("user_stack", "unsigned int tgid; unsigned long caller[8]", _PS, (5, 8)),
    _entry("print", "unsigned long ip; char buf[-]", '"%ps: %s", (void *)REC->ip, REC->buf', before=(5, 8)),
    _entry("print", "unsigned long ip; char buf[]", '"%ps: %s", (void *)REC->ip, REC->buf', (5, 8)),
    _entry("wakeup", _SWITCH, _SWITCH_FMT.replace("X", "+")),
    _entry("context_switch", _SWITCH, _SWITCH_FMT.replace("X", ">")),
    _entry(
        "bprint",
        "unsigned long ip; const char * fmt; u32 buf[-]",
        '"%ps: %s", (void *)REC->ip, REC->fmt',
        before=(5, 8),
    ),
    _entry("bprint", "unsigned long ip; const char * fmt; u32 buf[]", '"%ps: %s", (void *)REC->ip, REC->fmt', (5, 8)),
    _entry("bputs", "unsigned long ip; const char * str", '"%ps: %s", (void *)REC->ip, REC->str'),
    # What follows belongs to tracers that are not modelled; the kernel's formats stand in every recording all the same.
    _entry("funcgraph_entry", "unsigned long func; int depth", '"--> %lx (%d)", REC->func, REC->depth', before=(5, 8)),
    _entry(
        "funcgraph_entry",
        "unsigned long func; int depth",
        '"--> %ps (%d)", (void *)REC->func, REC->depth',
        (5, 8),
        (6, 15),
    ),
    _entry(
        "funcgraph_entry",
        "unsigned long func; unsigned int depth; unsigned long args[]",
        '"--> %ps (%u)", (void *)REC->func, REC->depth',
        (6, 15),
    ),
    _entry(
        "funcgraph_exit",
        "unsigned long func; unsigned long long calltime; unsigned long long rettime; unsigned long overrun; int depth",
        '"<-- %lx (%d) (start: %llx  end: %llx) over: %d", REC->func, REC->depth, REC->calltime, REC->rettime, '
        "REC->depth",
        before=(5, 8),
    ),
    _entry(
        "funcgraph_exit",
        f"unsigned long func; int depth; {_GRAPH_EXIT}",
        '"<-- %ps (%d) (start: %llx  end: %llx) over: %d", (void *)REC->func, REC->depth, REC->calltime, REC->rettime, '
        "REC->depth",
        (5, 8),
        (6, 15),
    ),
    _entry(
        "funcgraph_exit",
        f"unsigned long func; unsigned int depth; {_GRAPH_EXIT}",
        '"<-- %ps (%u) (start: %llx  end: %llx) over: %u", (void *)REC->func, REC->depth, REC->calltime, REC->rettime, '
        "REC->depth",
        (6, 15),
    ),
    _entry(
        "branch",
        "unsigned int line; char func[31]; char file[21]; char correct; char constant",
        '"%u:%s:%s (%u)%s", REC->line, REC->func, REC->file, REC->correct, REC->constant ? " CONSTANT" : ""',
    ),
    _entry(
        "mmiotrace_rw",
        _RW,
        '"%lx %lx %lx %d %x %x", (unsigned long)REC->phys, REC->value, REC->pc, REC->map_id, REC->opcode, REC->width',
    ),
    _entry(
        "mmiotrace_map",
        "resource_size_t phys; unsigned long virt; unsigned long len; int map_id; unsigned char opcode",
        '"%lx %lx %lx %d %x", (unsigned long)REC->phys, REC->virt, REC->len, REC->map_id, REC->opcode',
    ),
    _entry(
        "hwlat",
        f"{_HWLAT}; unsigned int count",
        '"cnt:%u\\tts:%010llu.%010lu\\tinner:%llu\\touter:%llu\\tcount:%d\\tnmi-ts:%llu\\tnmi-count:%u\\n", '
        "REC->seqnum, "
        "REC->tv_sec, REC->tv_nsec, REC->duration, REC->outer_duration, REC->count, REC->nmi_total_ts, REC->nmi_count",
        (5, 8),
    ),
    _entry("raw_data", "unsigned int id; char buf[]", '"id:%04x %08x", REC->id, (int)REC->buf[0]', (5, 8)),
    _entry(
        "func_repeats",
        "unsigned long ip; unsigned long parent_ip; u16 count; u16 top_delta_ts; u32 bottom_delta_ts",
        '" %ps <-%ps\\t(repeats:%u  delta: -%llu)", (void *)REC->ip, (void *)REC->parent_ip, REC->count, '
        "(((u64)(REC)->top_delta_ts << 32) | (REC)->bottom_delta_ts)",
        (5, 13),
    ),
    _entry(
        "osnoise",
        "u64 noise; u64 runtime; u64 max_sample; unsigned int hw_count; unsigned int nmi_count; "
        "unsigned int irq_count; unsigned int softirq_count; unsigned int thread_count",
        '"noise:%llu\\tmax_sample:%llu\\thw:%u\\tnmi:%u\\tirq:%u\\tsoftirq:%u\\tthread:%u\\n", '
        "REC->noise, REC->max_sample, "
        "REC->hw_count, REC->nmi_count, REC->irq_count, REC->softirq_count, REC->thread_count",
        (5, 14),
    ),
    _entry(
        "timerlat",
        "unsigned int seqnum; int context; u64 timer_latency",
        '"seq:%u\\tcontext:%d\\ttimer_latency:%llu\\n", REC->seqnum, REC->context, REC->timer_latency',
        (5, 14),
    ),
)

# ---- ids -------------------------------------------------------------------------------------------------

_FTRACE: Final = (
    "function=1 context_switch=2 wakeup=3 kernel_stack=4 print=5 bprint=6 mmiotrace_rw=7 mmiotrace_map=8 branch=9 "
    "funcgraph_exit=10 funcgraph_entry=11"
)
_IRQ: Final = "tasklet_exit tasklet_entry softirq_raise softirq_exit softirq_entry irq_handler_exit irq_handler_entry"
_WORKQUEUE: Final = "workqueue_execute_end workqueue_execute_start workqueue_activate_work workqueue_queue_work"
_TIMER_61: Final = (
    "tick_stop itimer_expire itimer_state hrtimer_cancel hrtimer_expire_exit hrtimer_expire_entry hrtimer_start "
    "hrtimer_init timer_cancel timer_expire_exit timer_expire_entry timer_start timer_init"
)
_TIMER_618: Final = (
    "tick_stop itimer_expire itimer_state hrtimer_cancel hrtimer_expire_exit hrtimer_expire_entry hrtimer_start "
    "hrtimer_setup timer_base_idle timer_cancel timer_expire_exit timer_expire_entry timer_start timer_init"
)
_OOM: Final = (
    "compact_retry skip_task_reaping finish_task_reaping start_task_reaping wake_reaper mark_victim "
    "reclaim_retry_zone oom_score_adj_update"
)
_SCHED_61: Final = (
    "sched_wake_idle_without_ipi sched_swap_numa sched_stick_numa sched_move_numa sched_process_hang "
    "sched_pi_setprio sched_stat_runtime sched_stat_blocked sched_stat_iowait sched_stat_sleep sched_stat_wait "
    "sched_process_exec sched_process_fork sched_process_wait sched_wait_task sched_process_exit "
    "sched_process_free sched_migrate_task sched_switch sched_wakeup_new sched_wakeup sched_waking "
    "sched_kthread_work_execute_end sched_kthread_work_execute_start sched_kthread_work_queue_work "
    "sched_kthread_stop_ret sched_kthread_stop"
)
_SCHED_618: Final = (
    "sched_wake_idle_without_ipi sched_skip_cpuset_numa sched_skip_vma_numa sched_swap_numa sched_stick_numa "
    "sched_move_numa sched_process_hang sched_pi_setprio sched_stat_runtime sched_prepare_exec sched_process_exec "
    "sched_process_fork sched_process_wait sched_wait_task sched_process_exit sched_process_free "
    "sched_migrate_task sched_switch sched_wakeup_new sched_wakeup sched_waking sched_kthread_work_execute_end "
    "sched_kthread_work_execute_start sched_kthread_work_queue_work sched_kthread_stop_ret sched_kthread_stop"
)
_SCHED_419: Final = (
    "sched_wake_idle_without_ipi sched_move_numa sched_process_hang sched_pi_setprio sched_stat_runtime "
    "sched_stat_blocked sched_stat_iowait sched_stat_sleep sched_stat_wait sched_process_exec sched_process_fork "
    "sched_process_wait sched_wait_task sched_process_exit sched_process_free sched_migrate_task sched_switch "
    "sched_wakeup_new sched_wakeup sched_waking sched_kthread_stop_ret sched_kthread_stop"
)

# system, first id, names in link order.  The end of a header is linked first: section __ftrace_events is filled
# backwards.
_IDS: Final[dict[str, tuple[tuple[str, int, str], ...]]] = {
    "4.19-arm": (
        ("raw_syscalls", 18, "sys_exit sys_enter"),
        ("task", 26, "task_rename task_newtask"),
        ("irq", 32, _IRQ),
        ("signal", 41, "signal_deliver signal_generate"),
        ("workqueue", 43, _WORKQUEUE),
        ("sched", 58, _SCHED_419),
        ("printk", 84, "console"),
        ("oom", 131, _OOM),
        ("timer", 110, _TIMER_61),
    ),
    "6.1-x86_64": (
        ("task", 126, "task_rename task_newtask"),
        ("irq", 141, _IRQ),
        ("signal", 182, "signal_deliver signal_generate"),
        ("workqueue", 256, _WORKQUEUE),
        ("sched", 296, _SCHED_61),
        ("printk", 335, "console"),
        ("raw_syscalls", 345, "sys_exit sys_enter"),
        ("timer", 368, _TIMER_61),
        ("oom", 501, _OOM),
    ),
    "6.18-x86_64": (
        ("task", 203, "task_prctl_unknown task_rename task_newtask"),
        ("irq", 219, _IRQ),
        ("signal", 260, "signal_deliver signal_generate"),
        ("workqueue", 334, _WORKQUEUE),
        ("ipi", 353, "ipi_send_cpumask ipi_send_cpu"),
        ("sched", 355, _SCHED_618),
        ("printk", 411, "console"),
        ("raw_syscalls", 442, "sys_exit sys_enter"),
        ("timer", 454, _TIMER_618),
        ("oom", 604, _OOM),
    ),
}
_FTRACE_IDS: Final = {
    "4.19-arm": f"{_FTRACE} user_stack=12 bputs=14 hwlat=15 raw_data=16",
    "6.1-x86_64": f"{_FTRACE} user_stack=12 bputs=14 hwlat=15 osnoise=16 timerlat=17 raw_data=18 func_repeats=19",
    "6.18-x86_64": f"{_FTRACE} user_stack=13 bputs=15 hwlat=16 osnoise=17 timerlat=18 raw_data=19 func_repeats=20",
}


def event_ids(flavour: str) -> dict[tuple[str, str], int]:
    """Return the ids that the events of a flavour have, by (system, name)."""
    ids = {
        ("ftrace", name): int(number)
        for name, _, number in (word.partition("=") for word in _FTRACE_IDS[flavour].split())
    }
    for system, first, names in _IDS[flavour]:
        ids.update({(system, name): first + i for i, name in enumerate(names.split())})
    return ids

"""The system of an event that is known by its name alone.

A folder of raw pages may hold all format files in one, and the text of a format file does not name its
system (the folder under ``events/`` does).  The table covers the systems whose events taskscope prints or
builds lives from; names and prefixes are those of the kernel's include/trace/events/ and
kernel/trace/trace_entries.h (4.19 to 6.18). What it does not know is "unknown": such an event is still
decoded and found by its name.
"""

from __future__ import annotations

import re

UNKNOWN = "unknown"

_EXACT = {
    # The records of the tracers, from trace_entries.h.
    "ftrace": "function funcgraph_entry funcgraph_retaddr_entry funcgraph_exit context_switch wakeup "
              "kernel_stack user_stack bprint print raw_data bputs mmiotrace_rw mmiotrace_map branch hwlat "
              "func_repeats osnoise timerlat",
    "oom": "oom_score_adj_update mark_victim reclaim_retry_zone wake_reaper start_task_reaping "
           "finish_task_reaping skip_task_reaping compact_retry",
    "raw_syscalls": "sys_enter sys_exit",
    "timer": "tick_stop itimer_state itimer_expire",
    "irq": "irq_handler_entry irq_handler_exit softirq_entry softirq_exit softirq_raise tasklet_entry tasklet_exit",
    "task": "task_newtask task_rename task_prctl_unknown",
    "signal": "signal_generate signal_deliver",
}
_BY_NAME = {name: system for system, names in _EXACT.items() for name in names.split()}

_BY_PREFIX = re.compile(r"(?:(?P<syscalls>sys_(?:enter|exit)_)|(?P<sched>sched_)|(?P<timer>(?:hr)?timer_)"
                        r"|(?P<workqueue>workqueue_)|(?P<cgroup>cgroup_)|(?P<cpuhp>cpuhp_)|(?P<block>block_)"
                        r")\w")


def system_of(name: str) -> str:
    """Return the system of the event `name`, `UNKNOWN` if the name does not tell.

    >>> system_of("sched_switch"), system_of("sys_enter_kill"), system_of("print"), system_of("my_probe")
    ('sched', 'syscalls', 'ftrace', 'unknown')
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    m = _BY_PREFIX.match(name)
    return m.lastgroup if m and m.lastgroup else UNKNOWN

"""Probes of what recording needs: rights, tracefs, events, triggers, tracers, names of addresses."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from taskscope.ftrace import functions
from taskscope.ftrace.functions import Support
from taskscope.host.answer import Answer, Host, error_name

GROUP = "recording"
#: capabilities(7): bit of CapEff
_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYSLOG": 34, "CAP_PERFMON": 38, "CAP_BPF": 39}
#: without these no life can be told
_EVENTS = ("sched/sched_switch", "sched/sched_process_fork", "sched/sched_process_exec", "sched/sched_process_exit",
           "sched/sched_process_free", "task/task_newtask", "signal/signal_generate", "signal/signal_deliver")
_AS_ROOT = "sudo taskscope check"


def root(host: Host) -> Answer:
    """Tell whether root asks, the real one and not that of a user namespace."""
    if not host.is_root:
        return Answer("root", GROUP, "no", f"uid {host.uid}: events, kernel addresses and kernel memory need root",
                      _AS_ROOT)
    words = (host.text("/proc/self/uid_map") or "").split()
    if words[:2] not in ([], ["0", "0"]):
        return Answer("root", GROUP, "partly", f"root of a user namespace, uid {words[1]} outside of it",
                      "run it outside of the container")
    return Answer("root", GROUP, "yes", "uid 0")


def capabilities(host: Host) -> Answer:
    """Tell which of the capabilities that tracing needs this process has (capabilities(7))."""
    lines = dict(line.partition(":")[::2] for line in (host.text("/proc/self/status") or "").splitlines())
    try:
        mask = int(lines["CapEff"], 16)
        last = int(host.text("/proc/sys/kernel/cap_last_cap") or "63")
    except (KeyError, ValueError):
        return Answer("capabilities", GROUP, "unknown", "/proc/self/status does not say")
    # CAP_PERFMON and CAP_BPF are there since v5.8; before, CAP_SYS_ADMIN stands for them.
    known = {name: bit for name, bit in _CAPABILITIES.items() if bit <= last}
    have = [name for name, bit in known.items() if mask >> bit & 1]
    missing = [name for name in known if name not in have]
    if not missing:
        return Answer("capabilities", GROUP, "yes", ", ".join(name.removeprefix("CAP_") for name in have))
    detail = f"without {', '.join(missing)}"
    remedy = "give the container these capabilities, or run it outside" if host.is_root else _AS_ROOT
    return Answer("capabilities", GROUP, "partly" if have else "no", detail, remedy)


def unlocked(host: Host) -> Answer:
    """Tell whether the kernel is locked down (kernel_lockdown(7))."""
    text = host.text("/sys/kernel/security/lockdown")
    if text is None:
        if host.path("/sys/kernel/security").is_dir() and not host.mounts("securityfs"):
            return Answer("unlocked", GROUP, "unknown", "securityfs, which tells of a lockdown, is not mounted",
                          host.sudo("mount -t securityfs nodev /sys/kernel/security"))
        if host.path("/sys/kernel/security/lockdown").exists():
            return Answer("unlocked", GROUP, "unknown", "/sys/kernel/security/lockdown may not be read by this user",
                          _AS_ROOT)
        return Answer("unlocked", GROUP, "yes", "this kernel has no lockdown")
    level = text.partition("[")[2].partition("]")[0]
    if level == "none":
        return Answer("unlocked", GROUP, "yes", "no lockdown")
    how = "boot without lockdown= and Secure Boot, or use a guest"
    if level == "integrity":
        return Answer("unlocked", GROUP, "partly", "lockdown=integrity: kernel memory cannot be written", how)
    return Answer("unlocked", GROUP, "no", f"lockdown={level or text}: neither tracing nor kernel memory", how)


def tracefs(host: Host) -> Answer:
    """Tell where tracefs is mounted, and whether instances can be made in it."""
    where = host.tracefs()
    if where is None:
        if not host.path("/sys/kernel/tracing").is_dir():
            if any(line.split()[-1:] == ["tracefs"] for line in (host.text("/proc/filesystems") or "").splitlines()):
                return Answer("tracefs", GROUP, "no", "not mounted, and there is no /sys/kernel/tracing",
                              host.sudo("mount -t sysfs sysfs /sys"))
            return Answer("tracefs", GROUP, "no", "this kernel has none (built without CONFIG_TRACING); use a guest")
        return Answer("tracefs", GROUP, "no", "not mounted (`record` mounts it when root asks)" if host.is_root
                      else "not mounted", host.sudo("mount -t tracefs nodev /sys/kernel/tracing"))
    shown = "/" + str(where.relative_to(host.root))
    try:
        os.stat(where / "instances")  # noqa: PTH116  Path.exists() hides that it is refused
    except PermissionError:
        return Answer("tracefs", GROUP, "partly", f"{shown}, which this user may not enter", _AS_ROOT)
    except OSError as e:
        return Answer("tracefs", GROUP, "partly", f"{shown} has no instances ({error_name(e)})")
    if not os.access(where / "instances", os.W_OK | os.X_OK):
        why = "mounted read-only, or without the right to write" if host.is_root else "which this user may not write"
        return Answer("tracefs", GROUP, "partly", f"{shown}, {why}", None if host.is_root else _AS_ROOT)
    return Answer("tracefs", GROUP, "yes", f"{shown}, writable")


def events(host: Host) -> Answer:
    """Tell whether the events are there from which lives are built."""
    where = _tracefs(host)
    if isinstance(where, str):
        return Answer("events", GROUP, "unknown", where, _tracefs_remedy(host))
    try:
        missing = [name for name in _EVENTS if not (where / "events" / name).is_dir()]
    except OSError as e:
        return Answer("events", GROUP, "unknown", f"the kernel answers {error_name(e)} to events")
    if not missing:
        return Answer("events", GROUP, "yes", "sched, task and signal")
    names = ", ".join(name.replace("/", ":") for name in missing)
    return Answer("events", GROUP, "no" if len(missing) == len(_EVENTS) else "partly",
                  f"without {names} (CONFIG_EVENT_TRACING)")


def syscall_events(host: Host) -> Answer:
    """Tell whether system calls have events."""
    return _supported(host, "syscall-events", functions.syscall_events, "one for each system call")


def stack_triggers(host: Host) -> Answer:
    """Tell whether single events can record the kernel stack."""
    return _supported(host, "stack-triggers", functions.stack_triggers, "rare events can record the kernel stack")


def function_tracer(host: Host) -> Answer:
    """Tell whether functions can be traced."""
    return _supported(host, "function-tracer", functions.function_tracer, "functions can be traced")


def kprobes(host: Host) -> Answer:
    """Tell whether probes can be set at functions."""
    return _supported(host, "kprobes", functions.kprobes, "probes can be set at functions")


def kallsyms(host: Host) -> Answer:
    """Tell whether addresses in the kernel have names, and names addresses (kptr_restrict)."""
    text = host.read("/proc/kallsyms", 1 << 14)
    if text is None:
        if host.path("/proc/kallsyms").exists():
            return Answer("kallsyms", GROUP, "no", "this user may not read /proc/kallsyms", _AS_ROOT)
        return Answer("kallsyms", GROUP, "no", "no names for addresses (built without CONFIG_KALLSYMS)")
    addresses = [line.split(b" ", 1)[0] for line in text.splitlines()[:-1]]
    # An address of 0 is that of a per-cpu variable; here they come first, so look at more than one.
    if any(address.strip(b"0") for address in addresses):
        return Answer("kallsyms", GROUP, "yes", "names and addresses")
    restrict = host.text("/proc/sys/kernel/kptr_restrict")
    detail = f"names without addresses (kptr_restrict is {restrict or 'not readable'})"
    if host.is_root and restrict == "2":
        return Answer("kallsyms", GROUP, "partly", detail, "sysctl kernel.kptr_restrict=1")
    return Answer("kallsyms", GROUP, "partly", detail, None if host.is_root else _AS_ROOT)


def _tracefs(host: Host) -> Path | str:
    """Return the tracefs, or why nothing can be told about it."""
    where = host.tracefs()
    if where is None:
        return "no tracefs is mounted"
    if not os.access(where, os.X_OK | os.R_OK):
        return "this user may not look into tracefs"
    return where


def _tracefs_remedy(host: Host) -> str | None:
    return tracefs(host).remedy


def _supported(host: Host, name: str, probe: Callable[[Path], Support], good: str) -> Answer:
    where = _tracefs(host)
    if isinstance(where, str):
        return Answer(name, GROUP, "unknown", where, _tracefs_remedy(host))
    support = probe(where)
    if support.works:
        return Answer(name, GROUP, "yes", good)
    if not host.is_root and support.error is not None:
        return Answer(name, GROUP, "unknown", support.why, _AS_ROOT)
    remedy = "sysctl kernel.ftrace_enabled=1" if "ftrace_enabled" in support.why else None
    return Answer(name, GROUP, "no", support.why, host.sudo(remedy) if remedy else None)


PROBES = (root, capabilities, unlocked, tracefs, events, syscall_events, stack_triggers, function_tracer, kprobes,
          kallsyms)

"""One-line changes of futexes, pid namespaces, credentials and limits, each of which a conformance rule must notice."""

from __future__ import annotations

from functools import cache

import pytest

from taskscope.labs.mutant import Mutant
from taskscope.labs.truth import rules
from taskscope.labs.truth.rules import model

MUTANTS = {
    "the value is not compared": ("kernel.futex.waitwake:futex_wait_setup", "uval != val", "uval < 0",
                                  "futex.another_value"),
    "all are woken": ("kernel.futex.waitwake:futex_wake", "            if ret >= nr_wake:\n                break\n", "",
                      "futex.so_many"),
    "bits are not looked at": ("kernel.futex.waitwake:futex_wake", "if not this.bitset & bitset:", "if False:",
                               "futex.bits_that_meet"),
    "the last comes first": ("lib.plist:plist_add", "bisect_right(head, node.prio, key=_PRIO)", "0",
                             "futex.first_come"),
    "moved sleepers stay": ("kernel.futex.requeue:requeue_futex", "    q.key = key2\n", "", "futex.moves"),
    "restarts after a handler": ("kernel.futex.waitwake:futex_wait", "if abs_time is None:", "if True:",
                                 "futex.not_restarted"),
    "shared is private": ("kernel.futex.core:get_futex_key", "FutexKey(mm, address, fshared)",
                          "FutexKey(mm, address, False)", "futex.private_and_not"),
    "the dead owner's waiters sleep on": ("kernel.futex.robust:handle_futex_death",
                                          "if not pi and uval & FUTEX_WAITERS:", "if False:",
                                          "futex_robust.owner_died"),
    "nothing is lent": ("kernel.locking.rtmutex:rt_mutex_adjust_prio", "waiters[0].task if waiters else None", "None",
                        "futex_pi.pi_lends"),
    "deadlocks are not seen": ("kernel.futex.pi:_wait_for_pi_mutex", "ret = rtmutex.__rt_mutex_start_proxy_lock(",
                               "ret = 0 * rtmutex.__rt_mutex_start_proxy_lock(", "futex_pi.pi_deadlock"),
    "the dead owner is not told": ("kernel.futex.pi:fixup_pi_state_owner", "        newtid |= FUTEX_OWNER_DIED\n",
                                   "        pass\n", "futex_pi.pi_owner_died"),
    "numbers of the outside": ("kernel.pid:pid_vnr", "if mine is None or not mine.level:", "if True:",
                               "namespaces.number_one"),
    "init can be killed from inside": ("kernel.signal.send:sig_task_ignored", "not (force and sig_kernel_only(sig))",
                                       "not sig_kernel_only(sig)", "namespaces_signals.deaf_inside"),
    "init cannot be killed from outside": ("kernel.signal.send:send_signal", "from_ancestor_ns = (",
                                           "from_ancestor_ns = False and (", "namespaces_signals.deaf_outside"),
    "orphans leave": ("kernel.exit.death:find_child_reaper", "pid_ns = pid_.task_active_pid_ns(father)",
                      "pid_ns = m.init_pid_ns", "namespaces_end.orphans_inside"),
    "births after the end": ("kernel.pid_namespace:zap_pid_ns_processes", "pid_.disable_pid_allocation(pid_ns)", "pass",
                             "namespaces_end.no_more_births"),
    "the way up is open": ("kernel.pid_namespace:pidns_install", "if not pidns_is_ancestor(new, active):", "if False:",
                           "namespaces.never_upwards"),
    "capabilities stay": ("security.commoncap:cap_emulate_setxuid", "            new.cap_permitted = 0\n", "",
                          "capabilities.leaving_root"),
    "the saved id is not set": ("kernel.sys_ids:sys_setreuid", "        new.suid = new.euid\n", "        pass\n",
                                "ids.setreuid_saves"),
    "the effective id counts for the target": ("kernel.signal.kill:kill_ok_by_cred", "mine.euid in (its.suid, its.uid)",
                                               "mine.euid in (its.suid, its.uid, its.euid)", "kill_permission.who_may"),
    "SIGCONT to every session": ("kernel.signal.kill:check_kill_permission",
                                 "if sid is None or sid is pid_.task_session(current):", "if True:",
                                 "kill_permission.sigcont_in_session"),
    "the death signal stays": ("kernel.cred:commit_creds", "        task.pdeath_signal = 0\n", "",
                               "ids.death_signal_goes"),
    "root's program has nothing": ("security.commoncap:cap_bprm_set_creds", "if 0 in (new.euid, new.uid):", "if False:",
                                   "capabilities.exec_of_half_root"),
    "hard limits go up": ("kernel.sys:do_prlimit",
                          "if hard > old.rlim_max and not cred_.capable(cred_.CAP_SYS_RESOURCE):", "if False:",
                          "limits.hard_goes_down"),
    "arguments without end": ("fs.exec:count_strings", "-E2BIG if total > max(limit, ARG_MAX) else 0", "0",
                              "limits.arguments"),
}


@cache
def right(rule: str) -> list[str]:
    """Return what a rule says on the kernel as it is."""
    return model.run(rules.load([rule]))[rule]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_notices(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line changed, the rule says something else than without."""
    function, old, new, rule = MUTANTS[name]
    before = right(rule)
    assert not any(line.startswith(("hangs", "the machine")) for line in before)
    monkeypatch.setattr(model, "PATIENCE", 2_000_000_000)
    with Mutant(name, function, old, new).applied():
        assert model.run(rules.load([rule]))[rule] != before

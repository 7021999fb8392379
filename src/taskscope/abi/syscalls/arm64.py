"""System calls of 64-bit ARM: scripts/syscall.tbl of Linux 6.18, with the ABIs that arm64 chooses.

Those are ``common``, ``64``, ``renameat``, ``rlimit`` and ``memfd_secret`` (arch/arm64/kernel/Makefile.syscalls).  The
numbers are those of asm-generic/unistd.h, which riscv and loongarch share in the main.
"""

from __future__ import annotations

from typing import Final

#: each line: the number of its first call, then the names of consecutive numbers
CALLS: Final = """
     0 io_setup io_destroy io_submit io_cancel io_getevents setxattr lsetxattr fsetxattr getxattr
     9 lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr getcwd
    18 lookup_dcookie eventfd2 epoll_create1 epoll_ctl epoll_pwait dup dup3 fcntl inotify_init1
    27 inotify_add_watch inotify_rm_watch ioctl ioprio_set ioprio_get flock mknodat mkdirat unlinkat
    36 symlinkat linkat renameat umount2 mount pivot_root nfsservctl statfs fstatfs truncate ftruncate
    47 fallocate faccessat chdir fchdir chroot fchmod fchmodat fchownat fchown openat close vhangup pipe2
    60 quotactl getdents64 lseek read write readv writev pread64 pwrite64 preadv pwritev sendfile pselect6
    73 ppoll signalfd4 vmsplice splice tee readlinkat newfstatat fstat sync fsync fdatasync
    84 sync_file_range timerfd_create timerfd_settime timerfd_gettime utimensat acct capget capset
    92 personality exit exit_group waitid set_tid_address unshare futex set_robust_list get_robust_list
   101 nanosleep getitimer setitimer kexec_load init_module delete_module timer_create timer_gettime
   109 timer_getoverrun timer_settime timer_delete clock_settime clock_gettime clock_getres
   115 clock_nanosleep syslog ptrace sched_setparam sched_setscheduler sched_getscheduler sched_getparam
   122 sched_setaffinity sched_getaffinity sched_yield sched_get_priority_max sched_get_priority_min
   127 sched_rr_get_interval restart_syscall kill tkill tgkill sigaltstack rt_sigsuspend rt_sigaction
   135 rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigreturn setpriority getpriority
   142 reboot setregid setgid setreuid setuid setresuid getresuid setresgid getresgid setfsuid setfsgid
   153 times setpgid getpgid getsid setsid getgroups setgroups uname sethostname setdomainname getrlimit
   164 setrlimit getrusage umask prctl getcpu gettimeofday settimeofday adjtimex getpid getppid getuid
   175 geteuid getgid getegid gettid sysinfo mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
   185 mq_getsetattr msgget msgctl msgrcv msgsnd semget semctl semtimedop semop shmget shmctl shmat shmdt
   198 socket socketpair bind listen accept connect getsockname getpeername sendto recvfrom setsockopt
   209 getsockopt shutdown sendmsg recvmsg readahead brk munmap mremap add_key request_key keyctl clone
   221 execve mmap fadvise64 swapon swapoff mprotect msync mlock munlock mlockall munlockall mincore
   233 madvise remap_file_pages mbind get_mempolicy set_mempolicy migrate_pages move_pages
   240 rt_tgsigqueueinfo perf_event_open accept4 recvmmsg
   260 wait4 prlimit64 fanotify_init fanotify_mark name_to_handle_at open_by_handle_at clock_adjtime
   267 syncfs setns sendmmsg process_vm_readv process_vm_writev kcmp finit_module sched_setattr
   275 sched_getattr renameat2 seccomp getrandom memfd_create bpf execveat userfaultfd membarrier mlock2
   285 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq
   294 kexec_file_load
   424 pidfd_send_signal io_uring_setup io_uring_enter io_uring_register open_tree move_mount fsopen
   431 fsconfig fsmount fspick pidfd_open clone3 close_range openat2 pidfd_getfd faccessat2
   440 process_madvise epoll_pwait2 mount_setattr quotactl_fd landlock_create_ruleset landlock_add_rule
   446 landlock_restrict_self memfd_secret process_mrelease futex_waitv set_mempolicy_home_node cachestat
   452 fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount
   459 lsm_get_self_attr lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat
   466 removexattrat open_tree_attr file_getattr file_setattr
"""

#: calls whose function is not sys_<name>
ENTRIES: Final = {
    "umount2": "sys_umount", "sendfile": "sys_sendfile64", "fstat": "sys_newfstat",
    "uname": "sys_newuname", "fadvise64": "sys_fadvise64_64",
}

#: reserved numbers, without a function behind them in Linux 6.18 (older kernels had some)
NOT_IMPLEMENTED: Final = """
    lookup_dcookie nfsservctl
"""

"""System calls of 32-bit ARM (EABI): arch/arm/tools/syscall.tbl of Linux 6.18, ABIs ``common`` and ``eabi``.

`OABI` has what only the old ABI knew, `PRIVATE` the calls of ARM alone, from arch/arm/include/uapi/asm/unistd.h.
"""

from __future__ import annotations

from typing import Final

#: each line: the number of its first call, then the names of consecutive numbers
CALLS: Final = """
     0 restart_syscall exit fork read write open close
     8 creat link unlink execve chdir
    14 mknod chmod lchown
    19 lseek getpid mount
    23 setuid getuid
    26 ptrace
    29 pause
    33 access nice
    36 sync kill rename mkdir rmdir dup pipe times
    45 brk setgid getgid
    49 geteuid getegid acct umount2
    54 ioctl fcntl
    57 setpgid
    60 umask chroot ustat dup2 getppid getpgrp setsid sigaction
    70 setreuid setregid sigsuspend sigpending sethostname setrlimit
    77 getrusage gettimeofday settimeofday getgroups setgroups
    83 symlink
    85 readlink uselib swapon reboot
    91 munmap truncate ftruncate fchmod fchown getpriority setpriority
    99 statfs fstatfs
   103 syslog setitimer getitimer stat lstat fstat
   111 vhangup
   114 wait4 swapoff sysinfo
   118 fsync sigreturn clone setdomainname uname
   124 adjtimex mprotect sigprocmask
   128 init_module delete_module
   131 quotactl getpgid fchdir bdflush sysfs personality
   138 setfsuid setfsgid _llseek getdents _newselect flock msync readv writev getsid fdatasync _sysctl
   150 mlock munlock mlockall munlockall sched_setparam sched_getparam sched_setscheduler
   157 sched_getscheduler sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval
   162 nanosleep mremap setresuid getresuid
   168 poll nfsservctl setresgid getresgid prctl rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending
   177 rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend pread64 pwrite64 chown getcwd capget capset
   186 sigaltstack sendfile
   190 vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32
   201 geteuid32 getegid32 setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32
   210 setresgid32 getresgid32 chown32 setuid32 setgid32 setfsuid32 setfsgid32 getdents64 pivot_root
   219 mincore madvise fcntl64
   224 gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr
   234 flistxattr removexattr lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity
   242 sched_getaffinity io_setup io_destroy io_getevents io_submit io_cancel exit_group lookup_dcookie
   250 epoll_create epoll_ctl epoll_wait remap_file_pages
   256 set_tid_address timer_create timer_settime timer_gettime timer_getoverrun timer_delete
   262 clock_settime clock_gettime clock_getres clock_nanosleep statfs64 fstatfs64 tgkill utimes
   270 arm_fadvise64_64 pciconfig_iobase pciconfig_read pciconfig_write mq_open mq_unlink mq_timedsend
   277 mq_timedreceive mq_notify mq_getsetattr waitid socket bind connect listen accept getsockname
   287 getpeername socketpair send sendto recv recvfrom shutdown setsockopt getsockopt sendmsg recvmsg
   298 semop semget semctl msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl add_key request_key
   311 keyctl semtimedop vserver ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch
   319 mbind get_mempolicy set_mempolicy openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat
   329 renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list
   339 get_robust_list splice arm_sync_file_range tee vmsplice move_pages getcpu epoll_pwait kexec_load
   348 utimensat signalfd timerfd_create eventfd fallocate timerfd_settime timerfd_gettime signalfd4
   356 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open
   365 recvmmsg accept4 fanotify_init fanotify_mark prlimit64 name_to_handle_at open_by_handle_at
   372 clock_adjtime syncfs sendmmsg setns process_vm_readv process_vm_writev kcmp finit_module
   380 sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create bpf execveat userfaultfd
   389 membarrier mlock2 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx rseq
   399 io_pgetevents migrate_pages kexec_file_load
   403 clock_gettime64 clock_settime64 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64
   408 timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 utimensat_time64
   413 pselect6_time64 ppoll_time64
   416 io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64
   421 rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64 pidfd_send_signal io_uring_setup
   426 io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open
   435 clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr
   443 quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self
   448 process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack
   454 futex_wake futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr
   461 lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr
   469 file_setattr
"""

#: calls whose function is not sys_<name>
ENTRIES: Final = {
    "lchown": "sys_lchown16", "setuid": "sys_setuid16", "getuid": "sys_getuid16",
    "setgid": "sys_setgid16", "getgid": "sys_getgid16", "geteuid": "sys_geteuid16",
    "getegid": "sys_getegid16", "umount2": "sys_umount", "setreuid": "sys_setreuid16",
    "setregid": "sys_setregid16", "getgroups": "sys_getgroups16", "setgroups": "sys_setgroups16",
    "fchown": "sys_fchown16", "stat": "sys_newstat", "lstat": "sys_newlstat", "fstat": "sys_newfstat",
    "sigreturn": "sys_sigreturn_wrapper", "uname": "sys_newuname", "adjtimex": "sys_adjtimex_time32",
    "setfsuid": "sys_setfsuid16", "setfsgid": "sys_setfsgid16", "_llseek": "sys_llseek",
    "_newselect": "sys_select", "sched_rr_get_interval": "sys_sched_rr_get_interval_time32",
    "nanosleep": "sys_nanosleep_time32", "setresuid": "sys_setresuid16", "getresuid": "sys_getresuid16",
    "setresgid": "sys_setresgid16", "getresgid": "sys_getresgid16",
    "rt_sigreturn": "sys_rt_sigreturn_wrapper", "rt_sigtimedwait": "sys_rt_sigtimedwait_time32",
    "chown": "sys_chown16", "ugetrlimit": "sys_getrlimit", "lchown32": "sys_lchown",
    "getuid32": "sys_getuid", "getgid32": "sys_getgid", "geteuid32": "sys_geteuid",
    "getegid32": "sys_getegid", "setreuid32": "sys_setreuid", "setregid32": "sys_setregid",
    "getgroups32": "sys_getgroups", "setgroups32": "sys_setgroups", "fchown32": "sys_fchown",
    "setresuid32": "sys_setresuid", "getresuid32": "sys_getresuid", "setresgid32": "sys_setresgid",
    "getresgid32": "sys_getresgid", "chown32": "sys_chown", "setuid32": "sys_setuid",
    "setgid32": "sys_setgid", "setfsuid32": "sys_setfsuid", "setfsgid32": "sys_setfsgid",
    "futex": "sys_futex_time32", "io_getevents": "sys_io_getevents_time32",
    "timer_settime": "sys_timer_settime32", "timer_gettime": "sys_timer_gettime32",
    "clock_settime": "sys_clock_settime32", "clock_gettime": "sys_clock_gettime32",
    "clock_getres": "sys_clock_getres_time32", "clock_nanosleep": "sys_clock_nanosleep_time32",
    "statfs64": "sys_statfs64_wrapper", "fstatfs64": "sys_fstatfs64_wrapper",
    "utimes": "sys_utimes_time32", "mq_timedsend": "sys_mq_timedsend_time32",
    "mq_timedreceive": "sys_mq_timedreceive_time32", "semctl": "sys_old_semctl",
    "msgctl": "sys_old_msgctl", "shmctl": "sys_old_shmctl", "semtimedop": "sys_semtimedop_time32",
    "futimesat": "sys_futimesat_time32", "pselect6": "sys_pselect6_time32", "ppoll": "sys_ppoll_time32",
    "arm_sync_file_range": "sys_sync_file_range2", "utimensat": "sys_utimensat_time32",
    "timerfd_settime": "sys_timerfd_settime32", "timerfd_gettime": "sys_timerfd_gettime32",
    "recvmmsg": "sys_recvmmsg_time32", "clock_adjtime": "sys_clock_adjtime32",
    "io_pgetevents": "sys_io_pgetevents_time32", "clock_gettime64": "sys_clock_gettime",
    "clock_settime64": "sys_clock_settime", "clock_adjtime64": "sys_clock_adjtime",
    "clock_getres_time64": "sys_clock_getres", "clock_nanosleep_time64": "sys_clock_nanosleep",
    "timer_gettime64": "sys_timer_gettime", "timer_settime64": "sys_timer_settime",
    "timerfd_gettime64": "sys_timerfd_gettime", "timerfd_settime64": "sys_timerfd_settime",
    "utimensat_time64": "sys_utimensat", "pselect6_time64": "sys_pselect6", "ppoll_time64": "sys_ppoll",
    "io_pgetevents_time64": "sys_io_pgetevents", "recvmmsg_time64": "sys_recvmmsg",
    "mq_timedsend_time64": "sys_mq_timedsend", "mq_timedreceive_time64": "sys_mq_timedreceive",
    "semtimedop_time64": "sys_semtimedop", "rt_sigtimedwait_time64": "sys_rt_sigtimedwait",
    "futex_time64": "sys_futex", "sched_rr_get_interval_time64": "sys_sched_rr_get_interval",
    # of the old ABI
    "time": "sys_time32", "umount": "sys_oldumount", "stime": "sys_stime32", "utime": "sys_utime32",
    "getrlimit": "sys_old_getrlimit", "select": "sys_old_select", "readdir": "sys_old_readdir", "mmap": "sys_old_mmap",
    "socketcall": "sys_oabi_socketcall", "ipc": "sys_oabi_ipc",
}

#: reserved numbers, without a function behind them in Linux 6.18 (older kernels had some)
NOT_IMPLEMENTED: Final = """
    bdflush _sysctl nfsservctl lookup_dcookie vserver
"""

#: numbers of the old ABI alone (CONFIG_OABI_COMPAT)
OABI: Final = """
    13 time
    22 umount
    25 stime
    27 alarm
    30 utime
    76 getrlimit
    82 select
    89 readdir mmap
   102 socketcall
   113 syscall
   117 ipc
"""

#: __ARM_NR_BASE (0xf0000) + 1 …
PRIVATE: Final = """
983041 breakpoint cacheflush usr26 usr32 set_tls get_tls
"""

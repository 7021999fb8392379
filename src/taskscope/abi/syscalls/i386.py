"""System calls of 32-bit x86 (``int 0x80``): arch/x86/entry/syscalls/syscall_32.tbl of Linux 6.18.

The same numbers serve 32-bit programs on an x86-64 kernel.  socketcall and ipc are plain calls here; what they
multiplex is in their first argument.
"""

from __future__ import annotations

from typing import Final

#: each line: the number of its first call, then the names of consecutive numbers
CALLS: Final = """
     0 restart_syscall exit fork read write open close waitpid creat link unlink execve chdir time mknod
    15 chmod lchown break oldstat lseek getpid mount umount setuid getuid stime ptrace alarm oldfstat
    29 pause utime stty gtty access nice ftime sync kill rename mkdir rmdir dup pipe times prof brk setgid
    47 getgid signal geteuid getegid acct umount2 lock ioctl fcntl mpx setpgid ulimit oldolduname umask
    61 chroot ustat dup2 getppid getpgrp setsid sigaction sgetmask ssetmask setreuid setregid sigsuspend
    73 sigpending sethostname setrlimit getrlimit getrusage gettimeofday settimeofday getgroups setgroups
    82 select symlink oldlstat readlink uselib swapon reboot readdir mmap munmap truncate ftruncate fchmod
    95 fchown getpriority setpriority profil statfs fstatfs ioperm socketcall syslog setitimer getitimer
   106 stat lstat fstat olduname iopl vhangup idle vm86old wait4 swapoff sysinfo ipc fsync sigreturn clone
   121 setdomainname uname modify_ldt adjtimex mprotect sigprocmask create_module init_module
   129 delete_module get_kernel_syms quotactl getpgid fchdir bdflush sysfs personality afs_syscall
   138 setfsuid setfsgid _llseek getdents _newselect flock msync readv writev getsid fdatasync _sysctl
   150 mlock munlock mlockall munlockall sched_setparam sched_getparam sched_setscheduler
   157 sched_getscheduler sched_yield sched_get_priority_max sched_get_priority_min sched_rr_get_interval
   162 nanosleep mremap setresuid getresuid vm86 query_module poll nfsservctl setresgid getresgid prctl
   173 rt_sigreturn rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigqueueinfo
   179 rt_sigsuspend pread64 pwrite64 chown getcwd capget capset sigaltstack sendfile getpmsg putpmsg
   190 vfork ugetrlimit mmap2 truncate64 ftruncate64 stat64 lstat64 fstat64 lchown32 getuid32 getgid32
   201 geteuid32 getegid32 setreuid32 setregid32 getgroups32 setgroups32 fchown32 setresuid32 getresuid32
   210 setresgid32 getresgid32 chown32 setuid32 setgid32 setfsuid32 setfsgid32 pivot_root mincore madvise
   220 getdents64 fcntl64
   224 gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr
   234 flistxattr removexattr lremovexattr fremovexattr tkill sendfile64 futex sched_setaffinity
   242 sched_getaffinity set_thread_area get_thread_area io_setup io_destroy io_getevents io_submit
   249 io_cancel fadvise64
   252 exit_group lookup_dcookie epoll_create epoll_ctl epoll_wait remap_file_pages set_tid_address
   259 timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_settime clock_gettime
   266 clock_getres clock_nanosleep statfs64 fstatfs64 tgkill utimes fadvise64_64 vserver mbind
   275 get_mempolicy set_mempolicy mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
   283 kexec_load waitid
   286 add_key request_key keyctl ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch
   294 migrate_pages openat mkdirat mknodat fchownat futimesat fstatat64 unlinkat renameat linkat
   304 symlinkat readlinkat fchmodat faccessat pselect6 ppoll unshare set_robust_list get_robust_list
   313 splice sync_file_range tee vmsplice move_pages getcpu epoll_pwait utimensat signalfd timerfd_create
   323 eventfd fallocate timerfd_settime timerfd_gettime signalfd4 eventfd2 epoll_create1 dup3 pipe2
   332 inotify_init1 preadv pwritev rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark
   340 prlimit64 name_to_handle_at open_by_handle_at clock_adjtime syncfs sendmmsg setns process_vm_readv
   348 process_vm_writev kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom
   356 memfd_create bpf execveat socket socketpair bind connect listen accept4 getsockopt setsockopt
   367 getsockname getpeername sendto sendmsg recvfrom recvmsg shutdown userfaultfd membarrier mlock2
   377 copy_file_range preadv2 pwritev2 pkey_mprotect pkey_alloc pkey_free statx arch_prctl io_pgetevents
   386 rseq
   393 semget semctl shmget shmctl shmat shmdt msgget msgsnd msgrcv msgctl clock_gettime64 clock_settime64
   405 clock_adjtime64 clock_getres_time64 clock_nanosleep_time64 timer_gettime64 timer_settime64
   410 timerfd_gettime64 timerfd_settime64 utimensat_time64 pselect6_time64 ppoll_time64
   416 io_pgetevents_time64 recvmmsg_time64 mq_timedsend_time64 mq_timedreceive_time64 semtimedop_time64
   421 rt_sigtimedwait_time64 futex_time64 sched_rr_get_interval_time64 pidfd_send_signal io_uring_setup
   426 io_uring_enter io_uring_register open_tree move_mount fsopen fsconfig fsmount fspick pidfd_open
   435 clone3 close_range openat2 pidfd_getfd faccessat2 process_madvise epoll_pwait2 mount_setattr
   443 quotactl_fd landlock_create_ruleset landlock_add_rule landlock_restrict_self memfd_secret
   448 process_mrelease futex_waitv set_mempolicy_home_node cachestat fchmodat2 map_shadow_stack
   454 futex_wake futex_wait futex_requeue statmount listmount lsm_get_self_attr lsm_set_self_attr
   461 lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr
   469 file_setattr
"""

#: calls whose function is not sys_<name>
ENTRIES: Final = {
    "time": "sys_time32", "lchown": "sys_lchown16", "oldstat": "sys_stat", "umount": "sys_oldumount",
    "setuid": "sys_setuid16", "getuid": "sys_getuid16", "stime": "sys_stime32", "oldfstat": "sys_fstat",
    "utime": "sys_utime32", "setgid": "sys_setgid16", "getgid": "sys_getgid16",
    "geteuid": "sys_geteuid16", "getegid": "sys_getegid16", "umount2": "sys_umount",
    "oldolduname": "sys_olduname", "setreuid": "sys_setreuid16", "setregid": "sys_setregid16",
    "getrlimit": "sys_old_getrlimit", "getgroups": "sys_getgroups16", "setgroups": "sys_setgroups16",
    "select": "sys_old_select", "oldlstat": "sys_lstat", "readdir": "sys_old_readdir",
    "mmap": "sys_old_mmap", "fchown": "sys_fchown16", "stat": "sys_newstat", "lstat": "sys_newlstat",
    "fstat": "sys_newfstat", "olduname": "sys_uname", "uname": "sys_newuname",
    "adjtimex": "sys_adjtimex_time32", "setfsuid": "sys_setfsuid16", "setfsgid": "sys_setfsgid16",
    "_llseek": "sys_llseek", "_newselect": "sys_select",
    "sched_rr_get_interval": "sys_sched_rr_get_interval_time32", "nanosleep": "sys_nanosleep_time32",
    "setresuid": "sys_setresuid16", "getresuid": "sys_getresuid16", "setresgid": "sys_setresgid16",
    "getresgid": "sys_getresgid16", "rt_sigtimedwait": "sys_rt_sigtimedwait_time32",
    "pread64": "sys_ia32_pread64", "pwrite64": "sys_ia32_pwrite64", "chown": "sys_chown16",
    "ugetrlimit": "sys_getrlimit", "mmap2": "sys_mmap_pgoff", "truncate64": "sys_ia32_truncate64",
    "ftruncate64": "sys_ia32_ftruncate64", "lchown32": "sys_lchown", "getuid32": "sys_getuid",
    "getgid32": "sys_getgid", "geteuid32": "sys_geteuid", "getegid32": "sys_getegid",
    "setreuid32": "sys_setreuid", "setregid32": "sys_setregid", "getgroups32": "sys_getgroups",
    "setgroups32": "sys_setgroups", "fchown32": "sys_fchown", "setresuid32": "sys_setresuid",
    "getresuid32": "sys_getresuid", "setresgid32": "sys_setresgid", "getresgid32": "sys_getresgid",
    "chown32": "sys_chown", "setuid32": "sys_setuid", "setgid32": "sys_setgid",
    "setfsuid32": "sys_setfsuid", "setfsgid32": "sys_setfsgid", "readahead": "sys_ia32_readahead",
    "futex": "sys_futex_time32", "io_getevents": "sys_io_getevents_time32",
    "fadvise64": "sys_ia32_fadvise64", "timer_settime": "sys_timer_settime32",
    "timer_gettime": "sys_timer_gettime32", "clock_settime": "sys_clock_settime32",
    "clock_gettime": "sys_clock_gettime32", "clock_getres": "sys_clock_getres_time32",
    "clock_nanosleep": "sys_clock_nanosleep_time32", "utimes": "sys_utimes_time32",
    "fadvise64_64": "sys_ia32_fadvise64_64", "mq_timedsend": "sys_mq_timedsend_time32",
    "mq_timedreceive": "sys_mq_timedreceive_time32", "futimesat": "sys_futimesat_time32",
    "pselect6": "sys_pselect6_time32", "ppoll": "sys_ppoll_time32",
    "sync_file_range": "sys_ia32_sync_file_range", "utimensat": "sys_utimensat_time32",
    "fallocate": "sys_ia32_fallocate", "timerfd_settime": "sys_timerfd_settime32",
    "timerfd_gettime": "sys_timerfd_gettime32", "recvmmsg": "sys_recvmmsg_time32",
    "clock_adjtime": "sys_clock_adjtime32", "io_pgetevents": "sys_io_pgetevents_time32",
    "clock_gettime64": "sys_clock_gettime", "clock_settime64": "sys_clock_settime",
    "clock_adjtime64": "sys_clock_adjtime", "clock_getres_time64": "sys_clock_getres",
    "clock_nanosleep_time64": "sys_clock_nanosleep", "timer_gettime64": "sys_timer_gettime",
    "timer_settime64": "sys_timer_settime", "timerfd_gettime64": "sys_timerfd_gettime",
    "timerfd_settime64": "sys_timerfd_settime", "utimensat_time64": "sys_utimensat",
    "pselect6_time64": "sys_pselect6", "ppoll_time64": "sys_ppoll",
    "io_pgetevents_time64": "sys_io_pgetevents", "recvmmsg_time64": "sys_recvmmsg",
    "mq_timedsend_time64": "sys_mq_timedsend", "mq_timedreceive_time64": "sys_mq_timedreceive",
    "semtimedop_time64": "sys_semtimedop", "rt_sigtimedwait_time64": "sys_rt_sigtimedwait",
    "futex_time64": "sys_futex", "sched_rr_get_interval_time64": "sys_sched_rr_get_interval",
}

#: reserved numbers, without a function behind them in Linux 6.18 (older kernels had some)
NOT_IMPLEMENTED: Final = """
    break stty gtty ftime prof lock mpx ulimit profil idle create_module get_kernel_syms bdflush
    afs_syscall _sysctl query_module nfsservctl getpmsg putpmsg lookup_dcookie vserver
"""

"""System calls of x86-64: arch/x86/entry/syscalls/syscall_64.tbl of Linux 6.18, ABIs ``common`` and ``64``.

A number says the same in every kernel that has it; a kernel older than a call answers ENOSYS.  Numbers with bit 30
(``X32_SYSCALL_BIT``) belong to the x32 ABI: the same table, with the calls of `X32` in place of some.
"""

from __future__ import annotations

from typing import Final

#: each line: the number of its first call, then the names of consecutive numbers
CALLS: Final = """
     0 read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction
    14 rt_sigprocmask rt_sigreturn ioctl pread64 pwrite64 readv writev access pipe select sched_yield
    25 mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep getitimer alarm setitimer
    39 getpid sendfile socket connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen
    51 getsockname getpeername socketpair setsockopt getsockopt clone fork vfork execve exit wait4 kill
    63 uname semget semop semctl shmdt msgget msgsnd msgrcv msgctl fcntl flock fsync fdatasync truncate
    77 ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink readlink chmod
    91 fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times ptrace getuid
   103 syslog getgid setuid setgid geteuid getegid setpgid getppid getpgrp setsid setreuid setregid
   115 getgroups setgroups setresuid getresuid setresgid getresgid getpgid setfsuid setfsgid getsid capget
   126 capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod uselib
   135 personality ustat statfs fstatfs sysfs getpriority setpriority sched_setparam sched_getparam
   144 sched_setscheduler sched_getscheduler sched_get_priority_max sched_get_priority_min
   148 sched_rr_get_interval mlock munlock mlockall munlockall vhangup modify_ldt pivot_root _sysctl prctl
   158 arch_prctl adjtimex setrlimit chroot sync acct settimeofday mount umount2 swapon swapoff reboot
   170 sethostname setdomainname iopl ioperm create_module init_module delete_module get_kernel_syms
   178 query_module quotactl nfsservctl getpmsg putpmsg afs_syscall tuxcall security gettid readahead
   188 setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
   197 removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity
   205 set_thread_area io_setup io_destroy io_getevents io_submit io_cancel get_thread_area lookup_dcookie
   213 epoll_create epoll_ctl_old epoll_wait_old remap_file_pages getdents64 set_tid_address
   219 restart_syscall semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun
   226 timer_delete clock_settime clock_gettime clock_getres clock_nanosleep exit_group epoll_wait
   233 epoll_ctl tgkill utimes vserver mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend
   243 mq_timedreceive mq_notify mq_getsetattr kexec_load waitid add_key request_key keyctl ioprio_set
   252 ioprio_get inotify_init inotify_add_watch inotify_rm_watch migrate_pages openat mkdirat mknodat
   260 fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat
   270 pselect6 ppoll unshare set_robust_list get_robust_list splice tee sync_file_range vmsplice
   279 move_pages utimensat epoll_pwait signalfd timerfd_create eventfd fallocate timerfd_settime
   287 timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev
   297 rt_tgsigqueueinfo perf_event_open recvmmsg fanotify_init fanotify_mark prlimit64 name_to_handle_at
   304 open_by_handle_at clock_adjtime syncfs sendmmsg setns getcpu process_vm_readv process_vm_writev
   312 kcmp finit_module sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create
   320 kexec_file_load bpf execveat userfaultfd membarrier mlock2 copy_file_range preadv2 pwritev2
   329 pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq uretprobe uprobe
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
    "stat": "sys_newstat", "fstat": "sys_newfstat", "lstat": "sys_newlstat",
    "sendfile": "sys_sendfile64", "uname": "sys_newuname", "umount2": "sys_umount",
}

#: reserved numbers, without a function behind them in Linux 6.18 (older kernels had some)
NOT_IMPLEMENTED: Final = """
    uselib _sysctl create_module get_kernel_syms query_module nfsservctl getpmsg putpmsg afs_syscall
    tuxcall security set_thread_area get_thread_area lookup_dcookie epoll_ctl_old epoll_wait_old vserver
"""

#: __X32_SYSCALL_BIT (arch/x86/include/uapi/asm/unistd.h)
X32_SYSCALL_BIT: Final = 0x40000000

#: calls that x32 numbers differently, without the bit
X32: Final = """
   512 rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending
   523 rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid
   530 set_robust_list get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg
   538 sendmmsg process_vm_readv process_vm_writev setsockopt getsockopt io_setup io_submit execveat
   546 preadv2 pwritev2
"""

#: their functions that are not compat_sys_<name>
X32_ENTRIES: Final = {
    "rt_sigreturn": "compat_sys_x32_rt_sigreturn", "rt_sigtimedwait": "compat_sys_rt_sigtimedwait_time64",
    "recvmmsg": "compat_sys_recvmmsg_time64", "preadv": "compat_sys_preadv64", "pwritev": "compat_sys_pwritev64",
    "preadv2": "compat_sys_preadv64v2", "pwritev2": "compat_sys_pwritev64v2", "readv": "sys_readv",
    "writev": "sys_writev", "vmsplice": "sys_vmsplice", "move_pages": "sys_move_pages",
    "process_vm_readv": "sys_process_vm_readv", "process_vm_writev": "sys_process_vm_writev",
    "setsockopt": "sys_setsockopt", "getsockopt": "sys_getsockopt",
}

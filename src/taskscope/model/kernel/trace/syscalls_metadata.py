"""The parameters of system calls, as SYSCALL_DEFINEx() declares them, and the ids that their events have (v6.18).

A line is a name, the id of sys_enter_NAME in the 6.18 that was looked at (sys_exit_NAME has the one before), and
the parameters; what is indented goes on with the line before.
The declarations are those of 6.18; since 4.19 only names in them have changed here and there.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class SyscallMetadata(NamedTuple):
    """struct syscall_metadata."""

    name: str
    enter_id: int  # in the 6.18 that was looked at
    types: tuple[str, ...]
    args: tuple[str, ...]


def syscalls_metadata() -> list[SyscallMetadata]:
    """Return the system calls that have events."""
    found = []
    for line in _CALLS.strip().replace("\n  ", " ").splitlines():
        name, number, *rest = line.split(" ", 2)
        parameters = [p.rpartition(" ") for p in rest[0].split(", ")] if rest else []
        found.append(
            SyscallMetadata(name, int(number), tuple(p[0] for p in parameters), tuple(p[2] for p in parameters))
        )
    return found


_CALLS: Final = """
fork 200
vfork 198
clone 196 unsigned long clone_flags, unsigned long newsp, int * parent_tidptr, int * child_tidptr, unsigned long tls
clone3 194 struct clone_args * uargs, size_t size
exit 218 int error_code
exit_group 216 int error_code
wait4 212 pid_t upid, int * stat_addr, int options, struct rusage * ru
waitid 214 int which, pid_t upid, struct siginfo * infop, int options, struct rusage * ru
execve 862 const char * filename, const char *const * argv, const char *const * envp
execveat 860 int fd, const char * filename, const char *const * argv, const char *const * envp, int flags
kill 251 pid_t pid, int sig
tkill 245 pid_t pid, int sig
tgkill 247 pid_t tgid, pid_t pid, int sig
pause 235
alarm 496 unsigned int seconds
rt_sigaction 237 int sig, const struct sigaction * act, struct sigaction * oact, size_t sigsetsize
rt_sigprocmask 257 int how, sigset_t * nset, sigset_t * oset, size_t sigsetsize
rt_sigpending 255 sigset_t * uset, size_t sigsetsize
rt_sigsuspend 233 sigset_t * unewset, size_t sigsetsize
rt_sigtimedwait 253 const sigset_t * uthese, siginfo_t * uinfo, const struct __kernel_timespec * uts, size_t
  sigsetsize
rt_sigqueueinfo 243 pid_t pid, int sig, siginfo_t * uinfo
rt_tgsigqueueinfo 241 pid_t tgid, pid_t pid, int sig, siginfo_t * uinfo
rt_sigreturn 135
sigaltstack 239 const stack_t * uss, stack_t * uoss
restart_syscall 259
getpid 309
getppid 305
gettid 307
getpgid 291 pid_t pid
getpgrp 289
getsid 287 pid_t pid
setpgid 293 pid_t pid, pid_t pgid
setsid 285
getuid 303
geteuid 301
getgid 299
getegid 297
setuid 323 uid_t uid
setgid 327 gid_t gid
setreuid 325 uid_t ruid, uid_t euid
setregid 329 gid_t rgid, gid_t egid
setresuid 321 uid_t ruid, uid_t euid, uid_t suid
setresgid 317 gid_t rgid, gid_t egid, gid_t sgid
getresuid 319 uid_t * ruidp, uid_t * euidp, uid_t * suidp
getresgid 315 gid_t * rgidp, gid_t * egidp, gid_t * sgidp
setfsuid 313 uid_t uid
setfsgid 311 gid_t gid
getgroups 352 int gidsetsize, gid_t * grouplist
setgroups 350 int gidsetsize, gid_t * grouplist
prctl 267 int option, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5
personality 207 unsigned int personality
set_tid_address 202 int * tidptr
set_robust_list 526 struct robust_list_head * head, size_t len
get_robust_list 524 int pid, struct robust_list_head * * head_ptr, size_t * len_ptr
futex 522 u32 * uaddr, int op, u32 val, const struct __kernel_timespec * utime, u32 * uaddr2, u32 val3
getrusage 271 int who, struct rusage * ru
times 295 struct tms * tbuf
getpriority 331 int which, int who
setpriority 333 int which, int who, int niceval
umask 269 int mask
getrlimit 277 unsigned int resource, struct rlimit * rlim
setrlimit 273 unsigned int resource, struct rlimit * rlim
prlimit64 275 pid_t pid, unsigned int resource, const struct rlimit64 * new_rlim, struct rlimit64 * old_rlim
sysinfo 263 struct sysinfo * info
getcpu 265 unsigned * cpup, unsigned * nodep, struct getcpu_cache * unused
sched_yield 388
sched_setscheduler 404 pid_t pid, int policy, struct sched_param * param
sched_getscheduler 398 pid_t pid
sched_setparam 402 pid_t pid, struct sched_param * param
sched_getparam 396 pid_t pid, struct sched_param * param
sched_setattr 400 pid_t pid, struct sched_attr * uattr, unsigned int flags
sched_getattr 394 pid_t pid, struct sched_attr * uattr, unsigned int usize, unsigned int flags
sched_setaffinity 392 pid_t pid, unsigned int len, unsigned long * user_mask_ptr
sched_getaffinity 390 pid_t pid, unsigned int len, unsigned long * user_mask_ptr
sched_get_priority_max 386 int policy
sched_get_priority_min 384 int policy
sched_rr_get_interval 382 pid_t pid, struct __kernel_timespec * interval
nanosleep 469 struct __kernel_timespec * rqtp, struct __kernel_timespec * rmtp
clock_nanosleep 474 const clockid_t which_clock, int flags, const struct __kernel_timespec * rqtp, struct
  __kernel_timespec * rmtp
clock_gettime 480 const clockid_t which_clock, struct __kernel_timespec * tp
clock_getres 476 const clockid_t which_clock, struct __kernel_timespec * tp
clock_settime 482 const clockid_t which_clock, const struct __kernel_timespec * tp
gettimeofday 451 struct __kernel_old_timeval * tv, struct timezone * tz
settimeofday 449 struct __kernel_old_timeval * tv, struct timezone * tz
time 453 __kernel_old_time_t * tloc
setitimer 494 int which, struct __kernel_old_itimerval * value, struct __kernel_old_itimerval * ovalue
getitimer 498 int which, struct __kernel_old_itimerval * value
timer_create 492 const clockid_t which_clock, struct sigevent * timer_event_spec, timer_t * created_timer_id
timer_settime 486 timer_t timer_id, int flags, const struct __kernel_itimerspec * new_setting, struct
  __kernel_itimerspec * old_setting
timer_gettime 490 timer_t timer_id, struct __kernel_itimerspec * setting
timer_getoverrun 488 timer_t timer_id
timer_delete 484 timer_t timer_id
read 842 unsigned int fd, char * buf, size_t count
write 840 unsigned int fd, const char * buf, size_t count
readv 834 unsigned long fd, const struct iovec * vec, unsigned long vlen
writev 832 unsigned long fd, const struct iovec * vec, unsigned long vlen
pread64 838 unsigned int fd, char * buf, size_t count, loff_t pos
pwrite64 836 unsigned int fd, const char * buf, size_t count, loff_t pos
open 784 const char * filename, int flags, umode_t mode
openat 782 int dfd, const char * filename, int flags, umode_t mode
creat 778 const char * pathname, umode_t mode
close 776 unsigned int fd
lseek 844 unsigned int fd, off_t offset, unsigned int whence
dup 916 unsigned int fildes
dup2 918 unsigned int oldfd, unsigned int newfd
dup3 920 unsigned int oldfd, unsigned int newfd, int flags
pipe 864 int * fildes
pipe2 866 int * fildes, int flags
fcntl 896 unsigned int fd, unsigned int cmd, unsigned long arg
ioctl 898 unsigned int fd, unsigned int cmd, unsigned long arg
access 808 const char * filename, int mode
faccessat 812 int dfd, const char * filename, int mode
readlink 848 const char * path, char * buf, int bufsiz
readlinkat 850 int dfd, const char * pathname, char * buf, int bufsiz
newstat 858 const char * filename, struct stat * statbuf
newlstat 856 const char * filename, struct stat * statbuf
newfstat 852 unsigned int fd, struct stat * statbuf
newfstatat 854 int dfd, const char * filename, struct stat * statbuf, int flag
getcwd 1035 char * buf, unsigned long size
chdir 806 const char * filename
fchdir 804 unsigned int fd
chroot 802 const char * filename
chmod 794 const char * filename, umode_t mode
fchmod 800 unsigned int fd, umode_t mode
chown 790 const char * filename, uid_t user, gid_t group
fchown 786 unsigned int fd, uid_t user, gid_t group
mkdir 888 const char * pathname, umode_t mode
rmdir 886 const char * pathname
unlink 882 const char * pathname
unlinkat 884 int dfd, const char * pathname, int flag
rename 868 const char * oldname, const char * newname
link 874 const char * oldname, const char * newname
symlink 878 const char * oldname, const char * newname
getdents 902 unsigned int fd, struct linux_dirent * dirent, unsigned int count
getdents64 900 unsigned int fd, struct linux_dirent64 * dirent, unsigned int count
truncate 818 const char * path, long length
ftruncate 816 unsigned int fd, off_t length
sync 1025
fsync 1021 unsigned int fd
statfs 1041 const char * pathname, struct statfs * buf
fstatfs 1039 unsigned int fd, struct statfs * buf
mknod 892 const char * filename, umode_t mode, unsigned dev
mount 940 char * dev_name, char * dir_name, char * type, unsigned long flags, void * data
umount 944 char * name, int flags
utime 1027 char * filename, struct utimbuf * times
poll 906 struct pollfd * ufds, unsigned int nfds, int timeout_msecs
ppoll 904 struct pollfd * ufds, unsigned int nfds, struct __kernel_timespec * tsp, const sigset_t * sigmask, size_t
  sigsetsize
select 910 int n, fd_set * inp, fd_set * outp, fd_set * exp, struct __kernel_old_timeval * tvp
pselect6 908 int n, fd_set * inp, fd_set * outp, fd_set * exp, struct __kernel_timespec * tsp, void * sig
epoll_create 1073 int size
epoll_create1 1075 int flags
epoll_ctl 1071 int epfd, int op, int fd, struct epoll_event * event
epoll_wait 1069 int epfd, struct epoll_event * events, int maxevents, int timeout
flock 1117 unsigned int fd, unsigned int cmd
newuname 283 struct new_utsname * name
sethostname 281 char * name, int len
setdomainname 279 char * name, int len
syslog 410 int type, char * buf, int len
reboot 348 int magic1, int magic2, unsigned int cmd, void * arg
brk 695 unsigned long brk
mmap 174 unsigned long addr, unsigned long len, unsigned long prot, unsigned long flags, unsigned long fd, unsigned
  long off
munmap 693 unsigned long addr, size_t len
mprotect 705 unsigned long start, size_t len, unsigned long prot
mremap 707 unsigned long addr, unsigned long old_len, unsigned long new_len, unsigned long flags, unsigned long
  new_addr
madvise 726 unsigned long start, size_t len_in, int behavior
mlock 689 unsigned long start, size_t len
munlock 685 unsigned long start, size_t len
membarrier 406 int cmd, unsigned int flags, int cpu_id
getrandom 2177 char * ubuf, size_t len, unsigned int flags
unshare 192 unsigned long unshare_flags
setns 343 int fd, int flags
ptrace 231 long request, long pid, unsigned long addr, unsigned long data
kcmp 445 pid_t pid1, pid_t pid2, int type, unsigned long idx1, unsigned long idx2
capget 229 cap_user_header_t header, cap_user_data_t dataptr
capset 227 cap_user_header_t header, const cap_user_data_t data
acct 531 const char * name
pidfd_open 341 pid_t pid, unsigned int flags
pidfd_send_signal 249 int pidfd, int sig, siginfo_t * info, unsigned int flags
pidfd_getfd 339 int pidfd, int fd, unsigned int flags
close_range 922 unsigned int fd, unsigned int max_fd, unsigned int flags
signalfd 1077 int ufd, sigset_t * user_mask, size_t sizemask
signalfd4 1079 int ufd, sigset_t * user_mask, size_t sizemask, int flags
timerfd_create 1085 int clockid, int flags
timerfd_settime 1083 int ufd, int flags, const struct __kernel_itimerspec * utmr, struct __kernel_itimerspec * otmr
timerfd_gettime 1081 int ufd, struct __kernel_itimerspec * otmr
eventfd 1087 unsigned int count
eventfd2 1089 unsigned int count, int flags
rseq 590 struct rseq * rseq, u32 rseq_len, int flags, u32 sig
seccomp 549 unsigned int op, unsigned int flags, void * uargs
"""

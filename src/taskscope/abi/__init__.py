"""What the numbers of Linux mean, and what they are called.

Data and small pure functions: clone flags, PF_* and TIF_* flags, task states, wait statuses, signals, si_code,
preempt_count, errno, system call tables, the flags column of ftrace, and names that changed between kernels.
Nothing here reads a file, prints, or imports more than the standard library; a table that differs between kernels says
for which ones it holds.  `taskscope.abi.decode` is the door for values of any kind.
"""

"""What the machine at hand can do and cannot do, asked without changing anything.

`taskscope.host.probes.look` asks everything; each `taskscope.host.answer.Answer` says what the kernel or the system
answered and which command mends what is missing.
"""

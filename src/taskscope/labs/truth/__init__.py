"""The model held against a real kernel: programs of processes, run here and there, transcripts compared.

`rules` are programs that were written down, one for each rule.  The rest here is about random ones.

`program` says what a program is and how its results are written down; `build` makes random ones, and `fences` sees to
it that the transcript is the same under every schedule, by what `shadow`, a small reference of what Linux does with
processes, says; `interp` runs a program on whatever offers the C library's names: `host` on this host's kernel,
`machine` on the executable kernel with its `invariants` checked; `compare` puts the three side by side and shrinks
what differs.
"""

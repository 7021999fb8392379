"""The model held against a real kernel: random programs of processes, run here and there, transcripts compared.

`program` says what a program is and how its results are written down; `shadow` is the small reference of what Linux
does with processes that `build` needs to fence a random program so that its transcript is the same under every schedule;
`interp` runs a program on whatever offers the C library's names; `host` runs programs on this host's kernel, `machine`
on the executable kernel with its invariants checked; `compare` puts the three side by side and shrinks what differs.
"""

"""Print formats: the text of ``print fmt:`` in an event format, parsed and evaluated over whole columns.

`parser` makes a syntax tree, `evaluate` computes its values with C's integer rules, `program` turns format string and
values into pieces of text, `pieces` place them in the lines.  What a format says that cannot be known from a recording
(a kernel function, a macro's value) raises `FormatError` when the program is made, never while it runs.
"""

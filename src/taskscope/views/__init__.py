"""What a person sees: tables, stories and data made from lives and snapshots.

Views take a `Trace`, `Lives`, `Life` or `Snapshot` and give back text or bytes; they read no files and print
nothing.
"""

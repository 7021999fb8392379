"""Task descriptors in kernel memory: a running kernel, a crash dump, a guest in QEMU.

An `Image` reads bytes and knows symbols and types, whatever it is of; `KernelMemory` reads task_structs from one.
"""

"""Task descriptors in kernel memory, as crash dumps keep it.

An `Image` reads bytes and knows symbols and types, whatever it is of; `KernelMemory` reads task_structs from one.
"""

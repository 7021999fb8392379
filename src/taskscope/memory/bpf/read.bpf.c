// SPDX-License-Identifier: GPL-2.0-only
// Reads kernel memory into a map that user space has mapped.
//
// The context says what to read, and takes the result: 0, or the error of bpf_probe_read_kernel().  Nothing here depends
// on the kernel's structs, so that the object needs no relocation but that of the map.
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define BLOCK 65536

struct order {
	__u64 address;
	__u32 count;
	__s32 result;
};

// Made by the loader, which puts its file descriptor here: an array of one element of BLOCK bytes.
extern const char memory;

SEC("syscall")
int read_memory(struct order *order)
{
	__u32 first = 0, count = order->count;
	void *block = bpf_map_lookup_elem((void *)&memory, &first);

	if (!block)
		return 1;
	if (count > BLOCK)
		count = BLOCK;
	order->result = bpf_probe_read_kernel(block, count, (const void *)order->address);
	return 0;
}

char _license[] SEC("license") = "GPL";

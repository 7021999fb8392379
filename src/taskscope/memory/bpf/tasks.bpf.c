// SPDX-License-Identifier: GPL-2.0-only
// Writes the address of each task: 8 bytes a task, in the order of the kernel's iterator (kernel/bpf/task_iter.c).
//
// The two structs are as much of the iterator's context as is used; their members are the first in every kernel.
#include <linux/types.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	void *task;
};

SEC("iter/task")
int list_tasks(struct bpf_iter__task *context)
{
	void *task = context->task;
	__u64 address = (__u64)task;

	if (task)
		bpf_seq_write(context->meta->seq, &address, sizeof(address));
	return 0;
}

char _license[] SEC("license") = "GPL";

#!/bin/sh
# Compile the BPF programs of src/taskscope/memory/bpf (needs clang, llvm and libbpf-dev); the objects are in the repository,
# so that nobody needs to who does not change them.
set -eu
cd "$(dirname "$0")/../src/taskscope/memory/bpf"
out=${1:-.}
include=$(for d in /usr/include/*-linux-gnu*; do [ -e "$d/asm/types.h" ] && echo "$d" && break; done)
for source in *.bpf.c; do
    clang -target bpf -O2 -Wall -Werror -I "$include" -c "$source" -o "$out/${source%.c}.o"
    llvm-strip --strip-debug "$out/${source%.c}.o"
done

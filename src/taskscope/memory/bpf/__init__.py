"""Two small BPF programs, in C and as objects that clang made of it (tools/bpf.sh), and what loads them."""

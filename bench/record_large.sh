#!/usr/bin/env bash
# Record a large trace.dat of a real kernel (Debian's, in an emulated machine; no KVM needed) to measure reading speed.
#
#   bench/record_large.sh OUT.dat [SECONDS] [CPUS]
#
# How many events a second depends on the machine (60,000 to 200,000 of sched, signal, task, irq, raw_syscalls):
# measured ones: 150 s on two cores gave 10 to 23 million events, 0.5 to 1.1 GB.
# Environment: EVENTS (options of trace-cmd record), COMPRESS (none | zstd | zlib), GUEST_KERNEL (package).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
target=$(readlink -m "$1"); seconds=${2:-150}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v cc >/dev/null 2>&1; then
  [ "$(id -u)" -eq 0 ] || { echo "record_large.sh: no C compiler: sudo apt-get install gcc libc6-dev" >&2; exit 77; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev >&2
fi
mkdir -p "$work/root/bin"
cc -O1 -static -o "$work/root/bin/load" "$here/load.c"
cat > "$work/script" <<EOF
trace-cmd record -q -b 131072 ${EVENTS:--e sched -e signal -e task -e irq -e raw_syscalls} \
  --file-version 7 --compression ${COMPRESS:-none} -o trace.dat load 4 $seconds
EOF
export GUEST_CPUS=${3:-2} GUEST_MEM=${GUEST_MEM:-3072} GUEST_SECONDS=${GUEST_SECONDS:-$((seconds * 4 + 400))}
"$here/../tools/guest.sh" "$work/root" "$work/script" "$work/out"
[ -s "$work/out/trace.dat" ] || { cat "$work/out/log.txt" >&2; exit 1; }
mv "$work/out/trace.dat" "$target"
ls -l "$target" >&2

#!/usr/bin/env bash
# Measure what recording costs beside trace-cmd, in one and the same guest: a Debian kernel in an emulated machine.
#
#   bench/record_guest.sh OUT.md [OPTION OF record.py]...
#
# Takes about 15 min on two cores, without KVM.  Environment: PYTHON (the Python that has taskscope; default: that of
# .venv), GUEST_KERNEL (package), SCRIPT (another script to run in the guest instead).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
target=$(readlink -m "$1"); shift
python=${PYTHON:-$here/../.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
command -v cc >/dev/null 2>&1 || { echo "record_guest.sh: no C compiler: sudo apt-get install gcc libc6-dev" >&2; exit 77; }

mkdir -p "$work/root/bench"
cc -O1 -static -o "$work/root/bench/record_load" "$here/record_load.c"
"$python" "$here/guest_python.py" "$work/root" > "$work/script"
if [ -n "${SCRIPT:-}" ]; then
  cat "$SCRIPT" >> "$work/script"
else
  printf '%s' "\$PYTHON /bench/record.py --folder /out --load /bench/record_load --write /out/figures.md" >> "$work/script"
  printf ' %q' --repeat 5 --seconds 1 --rates 20000,50000,100000 "$@" >> "$work/script"
fi
export GUEST_MEM=${GUEST_MEM:-3072} GUEST_SECONDS=${GUEST_SECONDS:-2400}
"$here/../tools/guest.sh" "$work/root" "$work/script" "$work/out"
cat "$work/out/log.txt" >&2
[ -n "${SCRIPT:-}" ] || mv "$work/out/figures.md" "$target"

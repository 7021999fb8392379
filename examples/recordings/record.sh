#!/usr/bin/env bash
# Make examples/recordings/raspbian_proc.dat again: a real Debian kernel in an emulated machine, in which bash starts
# raspbian_proc, runs whoami, and kills raspbian_proc with SIGKILL after 13.5 s.
#
#   examples/recordings/record.sh [OUT.dat]
#
# Every event carries its call stack.  So that the file stays small, the recorder sees /proc/kallsyms cut to the symbols
# that occur in the stacks and the next neighbour of each; a rehearsal with the whole table finds out which they are.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$(readlink -m "${1:-$here/raspbian_proc.dat}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The emulated cpus take turns: a 6.12 kernel that patches its code for the function tracer crashes otherwise.
export GUEST_KERNEL=${GUEST_KERNEL:-linux-image-6.12.117+deb12-cloud-amd64} GUEST_TCG=single

mkdir -p "$work/root/bin"
cc -O1 -static -o "$work/root/bin/raspbian_proc" "$here/../raspbian_proc.c"
for program in bash whoami; do
  path=$(command -v "$program")
  cp -L "$path" "$work/root/bin/"
  ldd "$path" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$work/root/$(dirname "$library")"
    cp -L "$library" "$work/root/$library"
  done
done
cat > "$work/root/session" <<'EOF'
raspbian_proc > /out/output.txt &
whoami
sleep 13.5
kill -9 $!
wait $!
echo "raspbian_proc ended with wait status $?"
# The kernel frees the dead some milliseconds later: wait for that, without another process.
read -t 0.5 <> /tmp/never || exit 0
EOF
cat > "$work/script" <<'EOF'
if [ -f /wanted ]; then
  sort /proc/kallsyms > /tmp/all
  awk 'NR == FNR {want[$1]; next} $3 in want {print; near = 1; next} near {print; near = 0}' /wanted /tmp/all > /tmp/cut
  mount -o bind /tmp/cut /proc/kallsyms
fi
mkfifo /tmp/never
functions="-l release_task -l do_exit -l wake_up_new_task -l copy_process -l get_signal -l do_notify_parent"
events="-e sched_switch -e sched_waking -e sched_wakeup -e sched_wakeup_new -e sched_migrate_task"
events="$events -e sched:sched_process* -e task -e signal -e syscalls:sys_enter_exit_group"
trace-cmd record -q -T -p function $functions --func-stack $events --compression zstd -o trace.dat bash /session
EOF
"$here/../../tools/guest.sh" "$work/root" "$work/script" "$work/rehearsal"
trace-cmd report "$work/rehearsal/trace.dat" 2>/dev/null | awk '$1 == "=>" {print $2}' | sort -u > "$work/root/wanted"
"$here/../../tools/guest.sh" "$work/root" "$work/script" "$work/out"
cat "$work/out/log.txt" >&2
cp "$work/out/trace.dat" "$target"
ls -l "$target" >&2

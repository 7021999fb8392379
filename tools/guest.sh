#!/usr/bin/env bash
# Boot a Debian kernel in an emulated machine, run a script in it, and bring out what the script leaves in /out.
#
#   tools/guest.sh ROOT SCRIPT OUT
#
# ROOT is a folder that is laid over the guest's root (programs, libraries), SCRIPT is run there by busybox sh with
# /out as its working directory (a real disk: recordings may be larger than the memory), OUT receives /out.
# Needs only Debian packages and no KVM; installs them when it is root, names them when it is not.
# Environment: GUEST_KERNEL (package of the kernel; default: Debian's current cloud kernel), GUEST_CPUS (2), GUEST_MEM
# (MiB, 1024), GUEST_DISK (6G), GUEST_SECONDS (limit on the whole run, 900), GUEST_TCG (multi | single: how the
# emulator runs the cpus; a 6.12 kernel with the function tracer needs single), GUEST_ICOUNT (N: time in the guest is
# counted in instructions, 2^N ns each, so that it does not matter what else runs on this machine; needs single).
set -euo pipefail

[ $# -eq 3 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(readlink -f "$1"); script=$(readlink -f "$2"); mkdir -p "$3"; out=$(readlink -f "$3")

missing=()
for package in qemu-system-x86 busybox-static trace-cmd cpio e2fsprogs; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "guest.sh: missing ${missing[*]}: sudo apt-get install ${missing[*]}" >&2
    exit 77
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir kernel initrd

# The kernel: downloaded and unpacked, never installed.
package=${GUEST_KERNEL:-$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1)}
[ -n "$package" ] || { echo "guest.sh: apt knows no cloud kernel; set GUEST_KERNEL to the name of a package" >&2; exit 3; }
# As an ordinary user's _apt has no access to $work, apt warns about its sandbox; the download is as good.
apt-get download "$package" >/dev/null 2>&1 || apt-get download "$package-unsigned" >/dev/null
dpkg -x linux-image-*.deb kernel
vmlinuz=$(ls kernel/boot/vmlinuz-*)

# The initial file system: busybox, trace-cmd with its libraries, the disk's modules, then ROOT and SCRIPT.
cd initrd
mkdir -p bin dev proc sys etc tmp modules out
cp "$(command -v busybox)" bin/busybox
for applet in $(bin/busybox --list); do [ -e "bin/$applet" ] || ln -s busybox "bin/$applet"; done
tool=$(command -v trace-cmd)
cp "$tool" bin/
ldd "$tool" | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "./$(dirname "$library")"
  cp -L "$library" "./$library"
done
echo 'root:x:0:0:root:/:/bin/sh' > etc/passwd
modules="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk"
for module in $modules; do
  file=$(find ../kernel -name "$module.ko*" | head -n 1)
  case $file in
    '') ;;                                            # built in
    *.xz) xz -dc "$file" > "modules/$module.ko" ;;
    *) cp "$file" modules/ ;;
  esac
done
# Without --remove-destination a program of ROOT would be written through the applet link into busybox itself.
cp -a --remove-destination "$root/." ./
cp "$script" script
cat > init <<EOF
#!/bin/sh
export PATH=/bin:/usr/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tracefs nodev /sys/kernel/tracing
for m in $modules; do [ ! -f /modules/\$m.ko ] || insmod /modules/\$m.ko; done
mount -t ext4 /dev/vda /out || echo "no disk"
cd /out
sh /script > /out/log.txt 2>&1
echo "script ended with status \$?" >> /out/log.txt
cd /
umount /out
sync
poweroff -f
EOF
chmod +x init
find . | cpio -o -H newc --quiet | gzip -1 > ../initrd.gz
cd ..
truncate -s "${GUEST_DISK:-6G}" disk
mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 disk

timeout -k 5 "${GUEST_SECONDS:-900}" qemu-system-x86_64 \
  -accel "tcg,thread=${GUEST_TCG:-multi}" -cpu max -m "${GUEST_MEM:-1024}" -smp "${GUEST_CPUS:-2}" \
  ${GUEST_ICOUNT:+-icount "shift=$GUEST_ICOUNT,sleep=off"} -no-reboot -display none -monitor none -net none -kernel "$vmlinuz" -initrd initrd.gz \
  -append "console=ttyS0 panic=-1 quiet" -serial file:serial.log \
  -drive file=disk,format=raw,if=virtio,cache=unsafe ||
  echo "guest.sh: the machine did not end by itself" >&2

debugfs -R "rdump / $out" disk 2>/dev/null
rm -rf "$out/lost+found"
if [ ! -f "$out/log.txt" ]; then
  echo "guest.sh: the script did not run; the machine's last words:" >&2
  tail -n 10 serial.log >&2
  exit 1
fi

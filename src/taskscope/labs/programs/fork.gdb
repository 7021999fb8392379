# Stop a program in fork(), right before the instruction that enters the kernel, and look at the registers.
# For x86-64, arm64 and 32-bit ARM; natively (run) or of qemu-arm (a target that is connected already).
set pagination off
set confirm off
set style enabled off
python
import gdb

#: the architecture's name in gdb -> the registers of a call's number, first argument and result, and clone's number
MACHINES = {
    "i386:x86-64": ("rax", "rdi", "rax", 56),
    "aarch64": ("x8", "x0", "x0", 220),
    "arm": ("r7", "r0", "r0", 120),
}


def value(name):
    return int(gdb.parse_and_eval(f"(unsigned long)${name}"))


def quietly(command):
    return gdb.execute(command, to_string=True)


def enters_the_kernel(pc, thumb):
    code = bytes(gdb.selected_inferior().read_memory(pc, 4))
    if machine == "i386:x86-64":
        return code[:2] == b"\x0f\x05"
    if machine == "aarch64":
        return code == b"\x01\x00\x00\xd4"
    return code[:2] == b"\x00\xdf" if thumb else code == b"\x00\x00\x00\xef"


quietly("break main")
quietly("continue" if gdb.selected_inferior().pid else "run")
name = gdb.selected_frame().architecture().name()
machine = "arm" if name.startswith("arm") else name
number, first, result, clone = MACHINES[machine]
quietly("break fork")
quietly("continue")
steps = 0
while steps < 5000:
    pc = value("pc")
    if enters_the_kernel(pc, machine == "arm" and bool(value("cpsr") >> 5 & 1)) and value(number) == clone:
        break
    quietly("stepi")
    steps += 1
instruction = quietly("x/i $pc").partition(":\t")[2].replace("\t", " ").strip()
frames = []
frame = gdb.newest_frame()
while frame is not None and len(frames) < 8:
    frames.append(frame.name() or "?")
    if frames[-1] == "main":
        break
    frame = frame.older()
called, flags = value(number), value(first) & 0xffffffff
# What is in its memory then, the child would meet, too.
quietly("delete")
quietly("stepi")
# gdb itself says where it stops: these lines begin with a word of their own.
print("seen machine:", machine)
print("seen steps:", steps)
print("seen way:", " <- ".join(frames))
print("seen instruction:", instruction)
print("seen number:", f"{number} {called}")
print("seen flags:", f"{first} {flags:#010x}")
print("seen result:", f"{result} {value(result)}")
quietly("kill")
end

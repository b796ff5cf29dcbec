# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that boots a tiny guest with KVM, to see whether KVM truly works. Pure text.

That /dev/kvm is there and takes requests proves nothing: on some hosts a guest hangs at once, on others as soon as it
waits for an interrupt, and on others it runs slower than an emulated one. So the guest (a boot sector: sti; mov cx, 8;
wait: hlt; loop wait; mov dx, 0xf4; mov al, 0x31; out dx, al) waits for eight ticks of its timer, and ends QEMU by its
debug port, with 2 * 0x31 + 1. The disk is a file in memory only, so that nothing is left behind, however this ends.
The program's arguments are QEMU and the limit in seconds; it prints WORKS or what is wrong.
"""

from __future__ import annotations

LIMIT_S = 3
"""How long the guest may take, in seconds. Where KVM works it takes one, half of it for the ticks."""

PROBE = """
import os, subprocess, sys
disk = os.memfd_create("probe")
os.write(disk, bytes.fromhex("fbb90800f4e2fdbaf400b031ee").ljust(510, bytes(1)) + bytes((0x55, 0xAA)) + bytes(65024))
argv = [sys.argv[1], "-accel", "kvm", "-m", "16", "-display", "none", "-nodefaults", "-no-user-config"]
argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x01"]
argv += ["-drive", "file=/proc/self/fd/%d,format=raw,if=ide,snapshot=on" % disk]
quiet = subprocess.DEVNULL
qemu = subprocess.Popen(argv, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, text=True, pass_fds=[disk])
try:
    complaint = qemu.communicate(timeout=float(sys.argv[2]))[1].strip()
    print("works" if qemu.returncode == 99 else complaint or "it ended with %d" % qemu.returncode)
except subprocess.TimeoutExpired:
    qemu.kill()
    print("it was not done after %s seconds" % sys.argv[2])
"""
WORKS = "works"

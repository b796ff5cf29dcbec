# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual machine as a QEMU process: its command line, its disks, its end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from labnode.machine.accel import kvm_works
from labvm import recipe
from labvm.build import DISK, run
from labvm.errors import LabError
from labvm.places import Lab

BINARY = "qemu-system-x86_64"
SCRATCH_DISKS, SCRATCH_GIB = 6, 2
MEMORY_FILE = "memory"
ATTEMPTS = 3


@dataclass(frozen=True)
class Hardware:
    """What must be the same for a memory image to fit. `kvm`: hardware virtualisation truly works here."""

    kvm: bool
    qemu: str
    memory_mib: int
    cpus: int

    def key(self, image: Path) -> str:
        """Names the warm machine that fits."""
        text = f"{self} {image.name} {SCRATCH_DISKS} {SCRATCH_GIB} {machine_args(self)}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def look(memory_mib: int = 4096, cpus: int | None = None, kvm: str = "auto") -> Hardware:
    """This machine's hardware; `cpus` None: two, or one where they are emulated. /dev/kvm being there proves nothing,
    so a guest is run with it, and beside it one without."""
    path = shutil.which(BINARY)
    if path is None:
        raise LabError(f"program '{BINARY}' is missing: apt install qemu-system-x86")
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    match = re.search(r"version (\S+)", text)
    works = kvm == "auto" and asyncio.run(kvm_works(path))
    return Hardware(works, match[1] if match else "unknown", memory_mib, cpus or (2 if works else 1))


def machine_args(hardware: Hardware) -> list[str]:
    """Processor, memory and everything that does not depend on a lab's own files."""
    # one thread for all processors is no way out of warm.HOLD's trouble: Linux hangs in nested KVM then (QEMU 7.2)
    accel = ["kvm"] if hardware.kvm else ["tcg,thread=multi,tb-size=512"]
    # `host` passes the virtualisation extensions on where the host's kernel lets it; `max` emulates AMD's. Before QEMU
    # 8.0 cmpxchg16b leaves flags that are none; an interrupt right after it saves them, and Linux dies of what returns.
    cpu = "host" if hardware.kvm else "max,-cx16"
    argv = ["-machine", "pc", "-accel", *accel, "-cpu", cpu, "-smp", str(hardware.cpus), "-m", str(hardware.memory_mib)]
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-rtc", "base=utc"]
    return [*argv, "-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"]


def disk_names() -> list[str]:
    """The system disk first; /dev/disk/by-id/virtio-NAME inside."""
    return ["system", *(f"scratch{number}" for number in range(1, SCRATCH_DISKS + 1))]


def argv(lab: Lab, hardware: Hardware, ports: tuple[int, int], *, internet: bool, incoming: Path | None) -> list[str]:
    """The command line. `ports` are this machine's for SSH and for the API; `incoming` is a memory image to go on
    from. Without `internet` the machine reaches nothing but those two ports."""
    args = [BINARY, "-name", f"lab-{lab.name}", *machine_args(hardware)]
    for name in disk_names():
        args += ["-drive", f"file={lab.directory}/{name}.qcow2,if=none,id={name},discard=unmap,cache=unsafe"]
        args += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
    forwards = [f"hostfwd=tcp:127.0.0.1:{p}-{recipe.ADDRESS}:{to}" for p, to in zip(ports, (22, 8006), strict=True)]
    user = ["user", "id=eno1", f"restrict={'off' if internet else 'on'}", *forwards]
    args += ["-netdev", ",".join(user)]
    # each of the others is on a hub of its own: it has a carrier and leads nowhere. Without a second port the hub takes
    # no packet, and Linux complains of a card that does not send.
    for number, nic in enumerate(recipe.MACS):
        if number:
            for port in (nic, f"nowhere{number}"):
                args += ["-netdev", f"hubport,id={port},hubid={number}"]
        args += ["-device", f"virtio-net-pci,netdev={nic},id=nic-{nic},mac={recipe.MACS[nic]},romfile="]
    args += ["-chardev", f"file,id=console,path={lab.serial_log}", "-serial", "chardev:console"]
    args += ["-chardev", f"socket,id=qmp,path={lab.qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control"]
    args += ["-pidfile", str(lab.pid_file), "-daemonize"]
    return args + (["-incoming", f"exec:cat {incoming}"] if incoming else [])


def free_ports() -> tuple[int, int]:
    """Two ports of the loopback address that nobody listens on now."""
    with socket.socket() as first, socket.socket() as second:
        for link in (first, second):
            link.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def make_disks(lab: Lab, image: Path, warm: Path | None) -> None:
    """Overlays over the warm machine's disks, or over the image and fresh scratch disks."""
    lab.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in disk_names():
        target = str(lab.directory / f"{name}.qcow2")
        below = warm / f"{name}.qcow2" if warm else image / DISK if name == "system" else None
        if below:
            run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(below), target])
        else:
            run(["qemu-img", "create", "-q", "-f", "qcow2", target, f"{SCRATCH_GIB}G"])


def launch(lab: Lab, hardware: Hardware, *, internet: bool, warm: Path | None) -> tuple[int, int]:
    """Start QEMU; returns the ports. Somebody else may take a port between choosing and using it: then others are
    tried."""
    incoming = warm / MEMORY_FILE if warm else None
    for attempt in range(1, ATTEMPTS + 1):
        ports = free_ports()
        command = argv(lab, hardware, ports, internet=internet, incoming=incoming)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return ports
        if "host forwarding" not in done.stderr or attempt == ATTEMPTS:
            break
    raise LabError(f"lab '{lab.name}': QEMU does not start: {done.stderr.strip()}")


def kill(lab: Lab, timeout: float = 10.0) -> None:
    """End the machine at once; none running is no error."""
    pid = lab.pid()
    if pid is None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + timeout
        while lab.pid() is not None:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return
    raise LabError(f"lab '{lab.name}': QEMU (process {pid}) does not end")


def remove(lab: Lab) -> None:
    """Stop the machine and delete everything of it."""
    kill(lab)
    shutil.rmtree(lab.directory, ignore_errors=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The booted machine, kept: disks and memory that any number of labs go on from.

The memory is a migration stream in a file and the disks are the backing files of every lab's own, so that a lab costs
nothing but what it changes. (A snapshot inside a qcow2 file would have to be copied for each.)
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from labvm import machine, remote
from labvm.build import Say
from labvm.errors import Panic
from labvm.machine import MEMORY_FILE, Hardware
from labvm.places import Lab, lock
from labvm.qmp import Qmp

PASSWORD, FINGERPRINT = "password", "fingerprint"
BOOT_S, SAVE_S = 600.0, 300.0
SMALL_MIB = 700
ATTEMPTS = 3
# Before QEMU 8.1 an emulated processor may keep a translation of code that another one has just patched. Linux patches
# itself when a static key is switched, and the machine panics with "Oops: int3", once in many times. The first guest of
# KVM switches one in the scheduler, and the last one switches it back; so one that does nothing is kept.
_KVM_CREATE_VM = "import fcntl, os, signal; fcntl.ioctl(os.open('/dev/kvm', os.O_RDWR), 0xAE01, 0); signal.pause()"
HOLD = f"""[Unit]
Description=A guest of KVM that does nothing, so that the scheduler is patched once only
[Service]
ExecStartPre=-/bin/sh -c "modprobe kvm_amd || modprobe kvm_intel"
ExecStart=/usr/bin/python3 -c "{_KVM_CREATE_VM}"
[Install]
WantedBy=multi-user.target
"""
FAST = 32 << 30


@contextlib.contextmanager
def machine_of(lab: Lab) -> Iterator[None]:
    """Whatever ends the block with an error also ends the machine and removes its files."""
    try:
        yield
    except BaseException:
        machine.remove(lab)
        raise


def ensure_warm(cache: Path, image: Path, hardware: Hardware, say: Say) -> Path:
    """The directory of the warm machine that fits, booted and kept when there is none."""
    warm = cache / f"warm-{hardware.key(image)}"
    with lock(cache / "warm.lock"):
        if (warm / MEMORY_FILE).exists():
            return warm
        begun = time.monotonic()
        shutil.rmtree(warm, ignore_errors=True)
        _warm_up(Lab("being-warmed", cache), image, hardware, warm, say)
        say(f"booted and kept in {time.monotonic() - begun:.0f} s")
    return warm


def _warm_up(lab: Lab, image: Path, hardware: Hardware, warm: Path, say: Say) -> None:
    """Boot a machine and keep it; one whose kernel panics is given up for another."""
    for attempt in range(1, ATTEMPTS + 1):
        machine.remove(lab)
        try:
            with machine_of(lab):
                machine.make_disks(lab, image, None)
                boot(lab, image, hardware, say)
                _keep(lab, warm)
            return
        except Panic as error:
            if attempt == ATTEMPTS:
                raise
            say(f"{error}; booting again")


def boot(lab: Lab, image: Path, hardware: Hardware, say: Say, *, internet: bool = False) -> tuple[int, int]:
    """A first boot, up to a settled machine with labnode running; returns its ports."""
    begun = time.monotonic()
    ports = machine.launch(lab, hardware, internet=internet, warm=None)
    remote.write_ssh_config(lab, image, ports[0])
    remote.wait_for_ssh(lab, BOOT_S)
    say(f"first boot: SSH after {time.monotonic() - begun:.0f} s")
    remote.set_clock(lab)
    remote.ssh(lab, "/usr/lib/labnode/first-boot", timeout=BOOT_S)
    unit = "/etc/systemd/system/kvm-hold.service"
    remote.ssh(lab, f"cat > {unit} && systemctl enable --now kvm-hold", stdin=HOLD.encode())
    password = secrets.token_urlsafe(15)
    remote.sync_labnode(lab, password)
    fingerprint = remote.wait_for_labnode(lab, BOOT_S)
    for name, text in ((PASSWORD, password), (FINGERPRINT, fingerprint)):
        path = lab.directory / name
        path.touch(mode=0o600)
        path.write_text(f"{text}\n", encoding="utf-8")
    remote.ssh(lab, "sync; echo 3 > /proc/sys/vm/drop_caches; fstrim / || true")
    return ports


def _keep(lab: Lab, warm: Path) -> None:
    with Qmp(lab.qmp, timeout=SAVE_S) as qmp:
        # what the machine gives up for a moment is zero afterwards and takes no room in the file
        full = qmp.ask("query-balloon")["actual"]
        qmp.ask("balloon", value=SMALL_MIB << 20)
        _settled(qmp)
        qmp.ask("balloon", value=full)
        _settled(qmp)
        qmp.ask("stop")
        qmp.ask("migrate-set-parameters", **{"max-bandwidth": FAST})
        qmp.ask("migrate", uri=f"exec:cat > {lab.directory / MEMORY_FILE}.part")
        qmp.until("query-migrate", "status", "completed", SAVE_S)
    machine.kill(lab)
    (lab.directory / f"{MEMORY_FILE}.part").rename(lab.directory / MEMORY_FILE)
    lab.directory.rename(warm)


def _settled(qmp: Qmp, timeout: float = 60.0) -> None:
    """Until the balloon no longer moves; how far it gets is the machine's own decision."""
    deadline, before = time.monotonic() + timeout, -1
    while time.monotonic() < deadline:
        time.sleep(1.0)
        now = qmp.ask("query-balloon")["actual"]
        if now == before:
            return
        before = now

# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot-sector guest is up at once, keeps its word where its disk writes through, and breaks it where none does."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import BLOCK, Package, package, record
from ansible_collections.pvelab.proxmox.tests.lab import ROOT, until
from labnode import canary

SLOTS, AREA_AT = 16384, 1 << 20
BUSES = {
    "virtio": ["-device", "virtio-blk-pci,drive=d"],
    "scsi": ["-device", "virtio-scsi-pci,id=s", "-device", "scsi-hd,drive=d,bus=s.0"],
    "sata": ["-device", "ahci,id=a", "-device", "ide-hd,drive=d,bus=a.0"],
    "ide": ["-device", "ide-hd,drive=d"],
}


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(scope="session")
def image() -> Path:
    """The disk as it is built, kept in .cache."""
    made = subprocess.run([ROOT / "labnode/image/build-bootsector"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.strip())


class Guest:
    """One QEMU process at a time with the disk; what each boot has said is in a file of its own."""

    def __init__(self, image: Path, folder: Path, bus: str = "virtio", cache: str = "none") -> None:
        self.folder, self.bus, self.cache = folder, bus, cache
        self.disk, self.boots = folder / "disk.qcow2", 0
        self.process: subprocess.Popen[bytes] | None = None
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", image, self.disk], check=True)

    def start(self, *more: str, blockdev: str = "") -> None:
        """Boot, and wait for the first acknowledgement."""
        self.boots += 1
        self.began = time.monotonic()
        drive = blockdev or f"file={self.disk},format=qcow2"
        argv = ["qemu-system-x86_64", "-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults"]
        argv += ["-serial", f"file:{self.folder}/serial.{self.boots}"]
        argv += ["-drive", f"if=none,id=d,cache={self.cache},{drive}", *BUSES[self.bus]]
        argv += ["-qmp", f"unix:{self.folder}/qmp,server=on,wait=off", *more]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        until(lambda: self.acks(self.boots), "the first heartbeat")

    def acks(self, boot: int) -> list[canary.Ack]:
        return canary.parse_serial(self.said(boot))

    def said(self, boot: int) -> str:
        path = self.folder / f"serial.{boot}"
        return path.read_text(errors="replace") if path.exists() else ""

    def serial(self) -> Path:
        """What all boots have said."""
        path = self.folder / "serial.log"
        path.write_text("".join(self.said(boot + 1) for boot in range(self.boots)))
        return path

    def beats(self, count: int) -> None:
        """So many more acknowledgements in this boot."""
        wanted = len(self.acks(self.boots)) + count
        until(lambda: len(self.acks(self.boots)) >= wanted, f"{count} heartbeats")

    def qmp(self, command: str) -> None:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(f"{self.folder}/qmp")
            lines = link.makefile()
            lines.readline()
            for name in ("qmp_capabilities", command):
                link.sendall(json.dumps({"execute": name}).encode() + b"\n")
                while "return" not in json.loads(lines.readline()):
                    pass

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


Boots = Callable[..., Guest]


@pytest.fixture
def boots(image: Path, tmp_path: Path) -> Iterator[Boots]:
    made: list[Guest] = []

    def make(*which: str) -> Guest:
        made.append(Guest(image, tmp_path, *which))
        return made[-1]

    yield make
    for guest in made:
        guest.kill()


@pytest.mark.parametrize(
    ("bus", "cache"),
    [
        ("virtio", "none"),
        ("virtio", "writeback"),
        ("scsi", "directsync"),
        ("ide", "writethrough"),
        ("sata", "writethrough"),
    ],
)
def test_it_is_up_at_once_and_every_acknowledged_write_survives_a_kill(
    boots: Boots, drill: Package, bus: str, cache: str
) -> None:
    guest = boots(bus, cache)
    for _ in range(2):
        guest.start("-smbios", "type=1,family=canary pace_ms=20")
        print(f"{bus}, {cache}: the first acknowledgement came after {time.monotonic() - guest.began:.1f} s")
        guest.beats(40)
        guest.kill()
    verdict = canary.check(guest.disk, guest.serial())
    assert (verdict.sound, verdict.boots, verdict.errors) == (True, 2, {}), verdict
    assert verdict.intact == verdict.acked > 80
    numbers = [ack.seq for ack in canary.parse_serial(guest.serial().read_text())]
    assert numbers[: guest.boots] == [1, 2]
    assert numbers == sorted(set(numbers)), "the second boot did not go on where the first one ended"
    _a_drill_says_the_same(drill, guest)


def _a_drill_says_the_same(drill: Package, guest: Guest) -> None:
    heard = drill.canary.Heard()
    for line in guest.serial().read_text().splitlines():
        heard.line(line, 1.0)
    assert (len(heard.acks), heard.errors) == (len(canary.parse_serial(guest.serial().read_text())), {})
    disk = drill.canary.read_disk(guest.disk, guest.folder)
    assert drill.canary.judge(heard.acks, disk) == ([], [])
    for one, two in zip(heard.acks, heard.acks[1:], strict=False):
        assert two.boot != one.boot or two.real_us >= one.real_us
    now = time.time() * 1e6
    assert abs(heard.acks[-1].real_us - now) < 600e6, "it knows what time it is"
    assert all(ack.latency_ms > 0 for ack in heard.acks)


def test_without_write_through_its_word_is_worth_nothing(boots: Boots) -> None:
    guest = boots("scsi", "none")
    guest.start("-smbios", "type=1,family=canary pace_ms=20")
    guest.beats(60)
    guest.kill()
    verdict = canary.check(guest.disk, guest.serial())
    assert not verdict.sound
    assert verdict.lost, "the tables of the image were never written, and this is how that shows"


def test_after_a_reset_and_after_a_rollback_it_goes_on_from_its_disk(boots: Boots) -> None:
    guest = boots()
    guest.start()
    guest.beats(3)
    guest.qmp("system_reset")
    until(lambda: len({ack.boot for ack in guest.acks(1)}) == 2, "another boot")
    guest.beats(3)
    guest.kill()
    numbers = [ack.seq for ack in guest.acks(1)]
    assert numbers == sorted(set(numbers))
    subprocess.run(["qemu-img", "snapshot", "-c", "then", guest.disk], check=True)
    then = canary.read_disk(guest.disk).newest
    guest.start()
    guest.beats(5)
    guest.kill()
    subprocess.run(["qemu-img", "snapshot", "-a", "then", guest.disk], check=True)
    guest.start()
    # Only a number that is used again says that the disk was set back.
    until(lambda: guest.acks(3)[-1].seq > guest.acks(2)[-1].seq, "more than before the rollback")
    guest.kill()
    assert guest.acks(3)[0].seq == then + 1
    verdict = canary.check(guest.disk, guest.serial())
    assert verdict.sound
    assert verdict.rewound, "what the rollback has taken back was not lost"


@pytest.mark.parametrize("newest", [1, 33, 5000, 16384, 16390, 40000])
def test_it_finds_the_newest_record_wherever_the_ring_has_it(boots: Boots, image: Path, newest: int) -> None:
    """Also behind one that is damaged."""
    guest = boots()
    raw = guest.folder / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True)
    with raw.open("r+b") as disk:
        for seq in range(max(1, newest - SLOTS + 1), newest + 1):
            disk.seek(AREA_AT + (1 + (seq - 1) % SLOTS) * BLOCK)
            disk.write(record(seq))
        if newest > 1024:
            disk.seek(AREA_AT + (1 + (newest - 1) // 1024 * 1024 % SLOTS) * BLOCK)
            disk.write(bytes(512))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, guest.disk], check=True)
    guest.start()
    guest.kill()
    assert guest.acks(1)[0].seq == newest + 1


def test_it_goes_off_when_the_power_button_is_pressed(boots: Boots) -> None:
    guest = boots()
    guest.start("-smbios", "type=1,family=canary pace_ms=250")
    assert " slots=16384 pace_ms=250\n" in guest.said(1)
    guest.beats(3)
    first, *_more, last = guest.acks(1)
    begun = (last.mono_us - last.lat_us) - (first.mono_us - first.lat_us)
    assert begun / (last.seq - first.seq) > 200_000, "the pace of the starts: a slow disk makes the ends late"
    guest.qmp("system_powerdown")
    assert guest.process is not None
    guest.process.wait(timeout=30)
    assert guest.said(1).splitlines()[-1] == f"canary stop boot={last.boot}"
    assert canary.check(guest.disk, guest.serial()).sound


def test_a_write_that_fails_is_reported_and_tried_again(boots: Boots) -> None:
    guest = boots()
    rule = "file.inject-error.0.event=write_aio,file.inject-error.0.errno=28,file.inject-error.0.once=on"
    where = f"file.driver=blkdebug,file.image.driver=file,file.image.filename={guest.disk}"
    guest.start(blockdev=f"driver=qcow2,werror=report,{where},{rule}")
    guest.beats(2)
    guest.kill()
    assert canary.parse_errors(guest.said(1)) == {"the BIOS says 0c": 1}
    assert [ack.seq for ack in guest.acks(1)][:2] == [1, 2], "the number is not skipped"
    assert canary.check(guest.disk, guest.serial()).sound

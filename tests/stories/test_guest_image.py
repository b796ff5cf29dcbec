# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest image boots under QEMU, takes its settings, answers its agent, goes off quickly and loses nothing."""

from __future__ import annotations

import base64
import io
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pycdlib
import pytest

from labnode import canary

MAC = "bc:24:11:00:00:01"
BOOT_S = 90  # a loaded machine without KVM; alone it takes three to four seconds

NETWORK_CONFIG = """version: 1
config:
    - type: physical
      name: eth0
      mac_address: 'BC:24:11:00:00:01'
      subnets:
      - type: static
        address: '10.77.0.5'
        netmask: '255.255.255.0'
        gateway: '10.77.0.1'
    - type: nameserver
      address:
      - '10.77.0.2'
      search:
      - 'lab.test'
"""

DISKS = {
    "virtio": ["-device", "virtio-blk-pci,drive=d"],
    "scsi": ["-device", "virtio-scsi-pci,id=s", "-device", "scsi-hd,drive=d,bus=s.0"],
    "sata": ["-device", "ahci,id=a", "-device", "ide-hd,drive=d,bus=a.0"],
    "ide": ["-device", "ide-hd,drive=d"],
}


def wait_for(what: str, condition: Callable[[], Any], deadline_s: float = BOOT_S) -> Any:
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} within {deadline_s} s"
        time.sleep(0.02)
    return found


class Guest:
    """One QEMU process with the canary image; what it says is in `serial`."""

    def __init__(self, image: Path, folder: Path, *, bus: str = "virtio", nic: str = "virtio-net-pci") -> None:
        self.folder, self.bus, self.nic = folder, bus, nic
        self.disk, self.serial = folder / "disk.qcow2", folder / "serial.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.boots = 0
        # A full copy, as an import makes it.
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", image, self.disk], check=True)
        write_cidata(folder / "cidata.iso")

    def start(self, *more: str) -> None:
        self.boots += 1
        small = self.bus in ("virtio", "scsi") and self.nic.startswith("virtio")
        argv = [
            "qemu-system-x86_64",
            "-accel",
            "tcg",
            "-m",
            "96" if small else "112",
            "-display",
            "none",
            "-nodefaults",
        ]
        argv += [
            "-chardev",
            f"file,id=ser,path={self.folder}/serial.{self.boots}",
            "-serial",
            "chardev:ser",
            "-no-reboot",
        ]
        argv += ["-drive", f"if=none,id=d,file={self.disk},format=qcow2,cache=none", *DISKS[self.bus]]
        argv += ["-drive", f"if=ide,index=2,media=cdrom,file={self.folder}/cidata.iso,format=raw,readonly=on"]
        argv += [
            "-netdev",
            "socket,id=n,udp=127.0.0.1:1,localaddr=127.0.0.1:0",
            "-device",
            f"{self.nic},netdev=n,mac={MAC}",
        ]
        argv += ["-chardev", f"socket,id=qga,path={self.folder}/qga,server=on,wait=off", "-device", "virtio-serial-pci"]
        argv += ["-device", "virtserialport,chardev=qga,name=org.qemu.guest_agent.0"]
        argv += ["-qmp", f"unix:{self.folder}/qmp,server=on,wait=off", *more]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        wait_for("first heartbeat", self.acks)

    def acks(self) -> list[canary.Ack]:
        path = self.folder / f"serial.{self.boots}"
        return canary.parse_serial(path.read_text(errors="replace")) if path.exists() else []

    def all_serial(self) -> Path:
        parts = [self.folder / f"serial.{number + 1}" for number in range(self.boots)]
        self.serial.write_text("".join(part.read_text(errors="replace") for part in parts))
        return self.serial

    def agent(self, command: str, **arguments: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(30)
            link.connect(f"{self.folder}/qga")
            link.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            answer = json.loads(link.makefile().readline())
        assert "return" in answer, answer
        return answer["return"]

    def agent_is_up(self) -> bool:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            link.connect(f"{self.folder}/qga")
            link.sendall(b'{"execute": "guest-ping"}\n')
            try:
                return "return" in json.loads(link.makefile().readline() or "{}")
            except TimeoutError:
                return False

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

    def gone(self, deadline_s: float) -> float:
        """Seconds until the process has ended."""
        assert self.process is not None
        begun = time.monotonic()
        self.process.wait(timeout=deadline_s)
        return time.monotonic() - begun

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


def write_cidata(path: Path) -> None:
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    files = {
        "user-data": "#cloud-config\nhostname: web1\nfqdn: web1.lab.test\nmanage_etc_hosts: true\n",
        "meta-data": "instance-id: 1\n",
        "network-config": NETWORK_CONFIG,
    }
    for number, (name, text) in enumerate(files.items()):
        data = text.encode()
        iso.add_fp(io.BytesIO(data), len(data), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
    iso.write(str(path))
    iso.close()


@pytest.fixture
def guest(canary_image: Path, tmp_path: Path) -> Iterator[Guest]:
    made = Guest(canary_image, tmp_path)
    yield made
    made.kill()


def address_of(guest: Guest) -> list[str]:
    """None, too, while the agent is up already and the NIC's driver is not."""
    nics = [nic for nic in guest.agent("guest-network-get-interfaces") if nic.get("hardware-address") == MAC]
    return [f"{entry['ip-address']}/{entry['prefix']}" for nic in nics for entry in nic.get("ip-addresses", [])]


def run_in(guest: Guest, *argv: str) -> str:
    pid = guest.agent("guest-exec", path=argv[0], arg=list(argv[1:]), **{"capture-output": True})["pid"]

    def ended() -> Any:
        status = guest.agent("guest-exec-status", pid=pid)
        return status if status["exited"] else None

    return base64.b64decode(wait_for("end of the command", ended).get("out-data", "")).decode()


def test_settings_agent_and_power_button(guest: Guest) -> None:
    guest.start()
    wait_for("guest agent", guest.agent_is_up)
    wait_for("address", lambda: "10.77.0.5/24" in address_of(guest))
    assert guest.agent("guest-get-host-name") == {"host-name": "web1"}
    assert guest.agent("guest-get-osinfo")["id"] == "pvelab-canary"
    assert "default via 10.77.0.1 dev eth0" in run_in(guest, "/bin/ip", "route")
    assert "nameserver 10.77.0.2" in run_in(guest, "/bin/cat", "/etc/resolv.conf")
    assert guest.agent("guest-fsfreeze-status") == "thawed"
    guest.qmp("system_powerdown")
    assert guest.gone(30) < 10
    assert "canary stop" in guest.all_serial().read_text()
    verdict = canary.check(guest.disk, guest.all_serial())
    assert verdict.sound
    assert verdict.intact == verdict.acked > 0


def test_a_shell_answers_on_the_second_serial_port(guest: Guest) -> None:
    port = f"{guest.folder}/serial1"
    guest.start("-chardev", f"socket,id=second,path={port},server=on,wait=off", "-serial", "chardev:second")
    wait_for("guest agent", guest.agent_is_up)
    heard = b""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(1)
        link.connect(port)

        def answered() -> bool:
            nonlocal heard
            # What is typed before the shell reads is nobody's.
            link.sendall(b"echo shell-$((6 * 7))\n")
            try:
                heard += link.recv(4096)
            except TimeoutError:
                return False
            return b"shell-42" in heard

        wait_for(f"answer of the shell: {heard!r}", answered)
    assert canary.parse_serial((guest.folder / "serial.1").read_text(errors="replace")), "the first port is its own"


def test_nothing_acknowledged_is_lost_when_qemu_is_killed(guest: Guest) -> None:
    for _ in range(2):
        guest.start()
        wait_for("heartbeats", lambda: len(guest.acks()) >= 10)
        guest.kill()
    verdict = canary.check(guest.disk, guest.all_serial())
    assert verdict.sound
    assert verdict.boots == 2
    assert verdict.intact == verdict.acked >= 20
    numbers = [ack.seq for ack in canary.parse_serial(guest.serial.read_text())]
    assert numbers == sorted(set(numbers)), "the second boot did not go on where the first one ended"


def test_the_agent_shuts_down_and_a_dropped_write_is_found(guest: Guest) -> None:
    guest.start()
    wait_for("guest agent", guest.agent_is_up)
    with socket.socket(socket.AF_UNIX) as link:  # answers with nothing
        link.connect(f"{guest.folder}/qga")
        link.sendall(b'{"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}\n')
        guest.gone(30)
    serial = guest.all_serial()
    assert canary.check(guest.disk, serial).sound
    last = canary.parse_serial(serial.read_text())[-1]
    line = f"canary ack seq={last.seq + 1} boot={last.boot} mono_us=1 real_us=1 lat_us=1 crc=00000001\n"
    serial.write_text(serial.read_text() + line)
    assert canary.check(guest.disk, serial).lost == [last.seq + 1]


PACES = {"scsi": 500, "sata": 20, "ide": None}


@pytest.mark.parametrize("bus", PACES)
def test_it_boots_from_any_bus_at_the_pace_that_it_is_given(canary_image: Path, tmp_path: Path, bus: str) -> None:
    guest = Guest(canary_image, tmp_path, bus=bus, nic="e1000" if bus == "sata" else "virtio-net-pci")
    try:
        guest.start("-smbios", f"type=1,family=canary pace_ms={PACES[bus]}" if PACES[bus] else "type=1")
        wait_for("guest agent", guest.agent_is_up)
        wait_for("address", lambda: "10.77.0.5/24" in address_of(guest))
    finally:
        guest.kill()
    assert f" pace_ms={PACES[bus] or 100}\n" in guest.all_serial().read_text()
    assert canary.check(guest.disk, guest.all_serial()).sound

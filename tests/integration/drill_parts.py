# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the role drill share: the package, a plan, a guest as its host sees it, a node, and a systemd."""

from __future__ import annotations

import importlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import ROOT, until

PROGRAMS = ROOT / "roles/drill/files"
BLOCK = 4096
RUN = "20261122T021500Z-test-1a2b3c"


class Package:
    """The modules of the package drill, by name: ``drill.verdict``."""

    def __getattr__(self, name: str) -> Any:
        return importlib.import_module(f"drill.{name}")


def package() -> Iterator[Package]:
    """For a fixture: the package, which no other file of tests sees afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PROGRAMS))
        yield Package()
    for name in [name for name in sys.modules if name.split(".")[0] == "drill"]:
        del sys.modules[name]


def wanted(folder: Path, **more: Any) -> dict[str, Any]:
    """A plan as its file has it: guest 103 is to suffer, 101 is not, and all is over soon."""
    limits = {"baseline_s": 0.25, "observe_s": 5, "hold_s": 0.05, "recover_s": 5, "verify_s": 8, "undo_after_s": 60}
    return {
        "run": RUN,
        "drill": {
            "name": "test",
            "title": "A test",
            "hypothesis": "When it is held, it stands still.",
            "blast_radius": more.pop("radius", "guest"),
            "learn": ["That it works."],
            "remedy": "It was let go.",
        },
        "fault": {"kind": "test", "options": {"stall_s": 0.4, **more.pop("options", {})}},
        "node": "pve1",
        "api": {"url": "https://127.0.0.1:9", "token_file": str(folder / "token")},
        "victims": [103],
        "bystanders": [101],
        "places": {"serial": f"{folder}/{{vmid}}.serial", "pid": f"{folder}/{{vmid}}.pid", "images": "images"},
        "limits": {**limits, **more.pop("limits", {})},
        "guards": {"allow": True, **more.pop("guards", {})},
        "directory": str(folder / "drills"),
        "program": str(folder / "drill.py"),
        **more,
    }


# a canary ---------------------------------------------------------------------------------------------------------


def record(seq: int, filling: int | None = None) -> bytes:
    """A record as labnode/image/canary.c writes it, but for the bytes behind its head."""
    head = struct.pack("<IIQQQ16s", 0x59524E43, 700, seq, seq * 1000, seq * 2000, b"of sixteen bytes")
    rest = bytes([seq % 251 if filling is None else filling])
    body = (head + struct.pack("<I", zlib.crc32(head))).ljust(BLOCK - 4, rest)
    return body + struct.pack("<I", zlib.crc32(body))


def crc(seq: int) -> int:
    """The checksum by which an acknowledgement names a record."""
    return int(struct.unpack("<I", record(seq)[-4:])[0])


def header(slots: int, block: int = BLOCK) -> bytes:
    return struct.pack("<16sII", b"pvelab-canary-1\n", block, slots).ljust(BLOCK, b"\0")


def ack_line(seq: int, latency_us: int = 700, boot: str = "0a1b2c3d") -> str:
    return (
        f"canary ack seq={seq} boot={boot} mono_us={seq} real_us={seq * 2} lat_us={latency_us} crc={crc(seq):08x}\r\n"
    )


AHEAD = len("canary ack")


class Guest:
    """A guest as its host sees it: a process, a disk, and a serial port on which a canary talks.

    It stands still while ``held`` says so. ``lies``: it acknowledges what it does not write."""

    slots = 512
    pace_s = 0.03

    def __init__(self, folder: Path, vmid: int, held: Callable[[], bool] = lambda: False) -> None:
        self.vmid, self.held, self.lies = vmid, held, False
        self.port, self.pid_file = folder / f"{vmid}.serial", folder / f"{vmid}.pid"
        self.disk = folder / f"images/{vmid}/disk.raw"
        self.disk.parent.mkdir(parents=True)
        self.disk.write_bytes(header(self.slots) + bytes(self.slots * BLOCK))
        self.sent: list[float] = []
        self.shut = 0.0
        self.seq = 0
        self._pauses: list[tuple[float, bool]] = []
        self._spoken_to: socket.socket | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def __enter__(self) -> Guest:
        self.process = subprocess.Popen(["sleep", "600"])
        self.pid_file.write_text(f"{self.process.pid}\n")
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ends.set()
        self._thread.join(10)
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self, seconds: float, *, closed: bool = False) -> None:
        """Stand still for a time from the next beat on; ``closed``: without a serial port meanwhile."""
        self._pauses.append((seconds, closed))

    def silence(self) -> float:
        """The longest time between two lines that it has said; ``shut``: from the last one before its port was closed
        to the first that it could say on it afterwards, whether anybody was there to hear it or not."""
        return max((b - a for a, b in zip(self.sent, self.sent[1:], strict=False)), default=0.0)

    def _live(self) -> None:
        with self.disk.open("r+b", buffering=0) as disk:
            while not self._ends.is_set():
                with socket.socket(socket.AF_UNIX) as port:
                    self.port.unlink(missing_ok=True)
                    port.bind(str(self.port))
                    port.listen()
                    port.settimeout(0)
                    closed = self._talk(port, disk)
                self.port.unlink()
                self._ends.wait(closed)
                self.shut = time.monotonic() + self.pace_s - self.sent[-1] if self.sent else 0.0

    def _talk(self, port: socket.socket, disk: Any) -> float:
        """Beat until the port is to be closed; for how long."""
        line: socket.socket | None = None
        try:
            while not self._ends.wait(self.pace_s):
                if self._pauses:
                    seconds, closed = self._pauses.pop()
                    if closed:
                        return seconds
                    self._ends.wait(seconds)
                if self.held():
                    continue
                if line is None:
                    line = _accepted(port)
                if not self._beat(disk, line):
                    line = None
        finally:
            if line is not None:
                line.close()
        return 0.0

    def _beat(self, disk: Any, line: socket.socket | None) -> bool:
        self.seq += 1
        if not self.lies:
            disk.seek((1 + (self.seq - 1) % self.slots) * BLOCK)
            disk.write(record(self.seq))
        if line is None:
            return False
        try:
            # Lines come in pieces: the next one begins with this one's end.
            said = AHEAD if line is self._spoken_to else 0
            line.sendall((ack_line(self.seq)[said:] + ack_line(self.seq + 1)[:AHEAD]).encode())
            self._spoken_to = line
        except OSError:
            line.close()
            return False
        self.sent.append(time.monotonic())
        return True


def _accepted(port: socket.socket) -> socket.socket | None:
    try:
        line, _address = port.accept()
    except BlockingIOError:
        return None
    line.setblocking(True)
    return line


# a node -----------------------------------------------------------------------------------------------------------


class FakeNode:
    """What a node answers. ``answers`` are by path; an exception among them is raised."""

    def __init__(self, folder: Path = Path("/none"), **more: Any) -> None:
        row = {"status": "running", "qmpstatus": "running", "tags": "canary;drill-ok"}
        self.guests = [{"vmid": 101, **row, "tags": "canary"}, {"vmid": 103, **row}]
        self.done: list[tuple[str, str]] = []
        self.answers: dict[str, Any] = {
            "/nodes": [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "offline"}],
            "/nodes/{node}/qemu": self.guests,
            "/nodes/{node}/lxc": [],
            "/nodes/{node}/tasks": [],
            "/cluster/ha/resources": [],
            "/version": {"version": "9.1.7", "release": "9.1"},
            **{f"/nodes/{{node}}/qemu/{n}/status/current": {"running-qemu": "10.1.2"} for n in (101, 103)},
            "/storage/local": {"type": "dir", "path": str(folder)},
            **{f"/nodes/{{node}}/qemu/{n}/config": {"scsi0": f"local:{n}/disk.raw,size=2M"} for n in (101, 103)},
            **more,
        }

    def get(self, path: str, **_params: Any) -> Any:
        answer = self.answers[path]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def task(self, method: str, path: str, *, within_s: float) -> str:
        assert within_s > 0
        self.done.append((method, path))
        return "OK"

    def close(self) -> None:
        return


# a systemd --------------------------------------------------------------------------------------------------------

_RUN = """#!{python} -SE
import os, subprocess, sys, time
state, words = {state!r}, sys.argv[1:]
options = {{}}
while words[0].startswith("--"):
    name, _equals, value = words.pop(0).partition("=")
    options[name] = value
unit = os.path.join(state, options["--unit"])
if os.path.exists(unit + ".timer") or os.path.exists(unit + ".service"):
    sys.exit("Failed to start transient unit: it was already loaded or has a fragment file.")
if "--wait" in options:
    sys.exit(subprocess.call(words))
due = time.monotonic() + float(options["--on-active"].removesuffix("s"))
with open(unit + ".timer", "w") as file:
    hours, left = divmod(due, 3600)
    span = f"{{hours:.0f}}h {{left // 60:.0f}}min {{left % 60:.6f}}s"
    file.write(f"LoadState=loaded\\nActiveState=active\\nNextElapseUSecMonotonic={{span}}\\n")
with open(unit + ".service", "w") as file:
    file.write("LoadState=loaded\\nExecStart={{ path=/bin/sh ; argv[]=" + " ".join(words) + " }}\\n")
if os.fork():
    sys.exit(0)
os.setsid()
for number in range(3):
    os.dup2(os.open(os.devnull, os.O_RDWR), number)
while os.path.exists(unit + ".timer"):
    if time.monotonic() >= due:
        os.unlink(unit + ".timer")
        subprocess.call(words)
        os.unlink(unit + ".service")
    time.sleep(0.05)
"""
_CONTROL = """#!/bin/sh
cd {state} || exit 1
echo "$*" >> calls
[ "$1" != --quiet ] || shift
[ "$1" != --no-reload ] || shift
verb=$1
shift
case $verb in
show)
    [ ! -e "lie.$verb.${{2##*.}}" ] || {{ cat "lie.$verb.${{2##*.}}"; exit 0; }}
    [ -e "$2" ] && cat "$2" || printf 'LoadState=not-found\\nActiveState=inactive\\nExecStart=\\n' ;;
list-units) for unit in pvelab-*; do [ ! -e "$unit" ] || echo "$unit loaded active waiting something"; done ;;
is-system-running) cat running ;;
enable) : > "enabled.$1" ;;
is-enabled) [ -e "enabled.$1" ] ;;
disable) rm -f "enabled.$1" ;;
stop | start)
    for unit in "$@"; do
        case $verb.$unit in
        start.*) printf 'LoadState=loaded\\nActiveState=active\\n' > "$unit" ;;
        stop.pve[!l]*) printf 'LoadState=loaded\\nActiveState=inactive\\n' > "$unit" ;;
        *) [ -e "$unit" ] || exit 5
            rm -f "$unit" "${{unit%.timer}}.service" ;;
        esac
    done ;;
daemon-reload | reset-failed) ;;
*) exit 64 ;;
esac
"""


class Systemd:
    """Stand-ins for systemctl and systemd-run, first on PATH, that keep their units as files in ``state``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state, self.programs = folder / "units", folder / "programs"
        self.state.mkdir()
        self.programs.mkdir()
        (self.state / "running").write_text("degraded\n")
        program(self.programs / "systemd-run", _RUN.format(python=sys.executable, state=str(self.state)))
        program(self.programs / "systemctl", _CONTROL.format(state=self.state))
        monkeypatch.setenv("PATH", f"{self.programs}:{os.environ['PATH']}")

    @property
    def calls(self) -> str:
        """What systemctl was asked, a line each."""
        return (self.state / "calls").read_text() if (self.state / "calls").exists() else ""

    def units(self) -> list[str]:
        """All of a way back that is loaded or enabled."""
        return sorted(path.name for path in self.state.iterdir() if re.match(r"pvelab-(?!hog-)|enabled", path.name))

    def lie(self, kind: str, **properties: str) -> None:
        """Have `systemctl show` say this of every timer, or of every service."""
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.state / f"lie.show.{kind}").write_text(text)

    def end(self) -> None:
        """No timer is left to run something."""
        for path in self.state.glob("*.timer"):
            path.unlink()


class Stands:
    """A host of which only the shell is real: ``program`` puts a stand-in first on PATH."""

    def __init__(self, drill: Package, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.drill, self.folder = drill, folder
        self.systemd = Systemd(folder, monkeypatch)
        (folder / "drill.py").write_text("")

    def program(self, name: str, text: str) -> None:
        program(self.systemd.programs / name, text)

    def fault(self, kind: str, **options: Any) -> Any:
        """A fault, whose two texts a shell takes."""
        reach = [{"from": 101, "to": "10.0.0.3"}]
        data = {**wanted(self.folder), "fault": {"kind": kind, "options": options}, "reach": reach}
        made = self.drill.faults.prepare(self.drill.plan.from_json(data), FakeNode())
        takes(made.inject)
        takes(made.undo)
        assert made.targets
        return made

    def do(self, text: str) -> None:
        """Run a text as a drill does; it succeeds, and says nothing."""
        argv = ["/bin/sh", "-ec", text]
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=30
        )
        assert (done.returncode, done.stdout) == (0, ""), text


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def takes(text: str) -> None:
    """/bin/sh can read it."""
    done = subprocess.run(["/bin/sh", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), text


def soon(condition: Callable[[], Any], what: str) -> Any:
    """As ``until``, for what takes no longer than a few seconds."""
    return until(condition, what, 15.0)


def named(rows: list[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    """The one row of that name."""
    (found,) = [row for row in rows if row["name"] == name]
    return found

# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that is known through its agent: any Linux with qemu-guest-agent, a shell and dd.

Once a second the node's API has the agent write a record of 512 bytes into a ring in a file of the guest, with fsync.
It counts as acknowledged when the host has heard that the program ended without an error, so its time is that of the
host, and how long it took is the whole way there and back. A number whose fate is not known is written again with the
same contents, so it does not matter which of the two the disk has.
"""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import clock
from ..canary import Ack, Heard, OnDisk
from ..node import Node, Silent
from ..plan import Plan
from ..shell import Trouble

RECORD = 512
SLOTS = 4096
_TAIL = len(" 01234567\n")
LOOK_S = 0.05
SLOW_LOOK_S = 0.25
# A program that only tidies up takes no longer than that.
SHORT_S = 30.0
READ_S = 120.0
# What is written to these never reaches a disk.
MEMORY = ("tmpfs", "ramfs")
BEGIN = (
    "/bin/sh",
    "-c",
    'umask 077; : > "$1" && sync && kind=$(stat -f -c %T "$1") && echo "$kind"'
    f' && case $kind in {"|".join(MEMORY)}) rm -f "$1" ;; esac',
    "pvelab-canary",
)
WRITE = (
    "/bin/sh",
    "-c",
    'dd of="$1" bs=512 count=1 seek="$2" conv=notrunc,fsync 2> /dev/null'
    " && cat /proc/sys/kernel/random/boot_id && date +%s",
    "pvelab-canary",
)
# Past the guest's own cache where its file system can: what only memory has is not on the disk.
READ = (
    "/bin/sh",
    "-c",
    'if dd if="$1" of=/dev/null iflag=direct bs=65536 2> /dev/null'
    '; then echo direct; dd if="$1" iflag=direct bs=65536 2> /dev/null; else echo cached; cat "$1"; fi'
    " | LC_ALL=C tr -c ' -~\\n' '?'",
    "pvelab-canary",
)
REMOVE = ("/bin/sh", "-c", 'rm -f "$1"; [ ! -e "$1" ]', "pvelab-canary")
_RECORD = re.compile(r"pvelab-pulse-1 (?P<run>\S+) (?P<seq>\d+) ")
NOTHING = "?" * RECORD


def file(plan: Plan, vmid: int) -> str:
    """The ring's file in the guest; each run has its own."""
    return f"{plan.pulse(vmid).directory.rstrip('/')}/pvelab-canary-{plan.run}"


def record(run: str, seq: int) -> tuple[str, int]:
    """A record as text, always the same for a number of a run, and its checksum."""
    body = f"pvelab-pulse-1 {run} {seq} ".ljust(RECORD - _TAIL, "0123456789abcdef"[seq % 16])
    crc = zlib.crc32(body.encode("ascii"))
    return f"{body} {crc:08x}\n", crc


@dataclass
class Agent:
    """The pulse of one guest; ``connect`` makes a connection to its node, ``note`` takes what was acknowledged."""

    plan: Plan
    vmid: int
    heard: Heard
    ends: threading.Event
    connect: Callable[[], Node]
    note: Callable[[Ack], None]
    _contact: float = field(default_factory=clock.now)
    _unseen_since: float | None = None

    def __post_init__(self) -> None:
        self._path = file(self.plan, self.vmid)
        self._begun = bool(self.heard.acks)  # a run that goes on has its file

    def live(self) -> None:
        """One record after the other, each begun ``every_s`` after the one before."""
        node, every_s = self.connect(), self.plan.pulse(self.vmid).every_s
        while not self.ends.is_set():
            began = clock.now()
            try:
                self._beat(node)
                self._seen()
            except Silent as why:
                self.heard.trouble = str(why)
                self._whose_silence(node)
            except Trouble as why:
                self._seen()
                self.heard.trouble = str(why)
            self.ends.wait(max(0.0, every_s - (clock.now() - began)))
        if self._unseen_since is not None:
            self.heard.unseen.append((self._unseen_since, clock.now()))
        node.close()

    def _beat(self, node: Node) -> None:
        if not self._begun:
            self._begin(node)
        seq = self.heard.acks[-1].seq + 1 if self.heard.acks else 1
        text, crc = record(self.plan.run, seq)
        began = clock.now()
        code, said = self._wait(node, begin(node, self.vmid, [*WRITE, self._path, str((seq - 1) % SLOTS)], text))
        at = clock.now()
        words = said.split()
        if code or len(words) != 2:
            what = f"a write through the agent failed ({code})"
            self.heard.errors[what] = self.heard.errors.get(what, 0) + 1
            self.heard.last_error = at
            raise Trouble(f"guest {self.vmid}: {what}")
        boot = words[0].replace("-", "")[:8]
        self.note(Ack(at, seq, boot, round((at - began) * 1000, 1), crc, int(words[1]) * 1_000_000))

    def _begin(self, node: Node) -> None:
        """Have the file. Raises Trouble where it cannot be, or would prove nothing."""
        pid = begin(node, self.vmid, [*BEGIN, self._path])
        self.heard.touched = True
        code, said = self._wait(node, pid)
        if code:
            raise Trouble(f"{self._path} cannot be made in guest {self.vmid}: its shell ended with {code}")
        if said.strip() in MEMORY:
            where = f"{self._path} would lie in the memory of guest {self.vmid} ({said.strip()})"
            raise Trouble(f"{where}; name a directory on its disk in drill_canaries")
        self._begun = True

    def _wait(self, node: Node, pid: int) -> tuple[int, str]:
        """A program's exit code and output, however long it takes: as long as a write is on its way, none other is."""
        pause = LOOK_S
        while not self.ends.wait(pause):
            if (found := ended(node, self.vmid, pid)) is not None:
                return found
            self._seen()
            pause = min(2 * pause, SLOW_LOOK_S)
        raise Trouble("the recorder has ended")

    def _seen(self) -> None:
        """The node has answered, be it that the guest is silent."""
        self._contact = clock.now()
        if self._unseen_since is not None:
            self.heard.unseen.append((self._unseen_since, self._contact))
            self._unseen_since = None

    def _whose_silence(self, node: Node) -> None:
        """A node that answers nothing at all says nothing of its guests."""
        try:
            node.get("/version")
        except Silent:
            self._unseen_since = self._contact if self._unseen_since is None else self._unseen_since
        else:
            self._seen()


def begin(node: Node, vmid: int, argv: Sequence[str], stdin: str = "") -> int:
    """Start a program in a guest; its number there. Raises Silent."""
    body: dict[str, object] = {"command": list(argv)}
    if stdin:
        body["input-data"] = stdin
    return int(node.ask("POST", f"/nodes/{{node}}/qemu/{vmid}/agent/exec", body)["pid"])


def ended(node: Node, vmid: int, pid: int) -> tuple[int, str] | None:
    """Exit code and output of a program in a guest, None as long as it runs. Raises Silent; Trouble where not all of
    its output came."""
    found = node.get(f"/nodes/{{node}}/qemu/{vmid}/agent/exec-status", pid=pid)
    if not found.get("exited"):
        return None
    if found.get("out-truncated"):
        raise Trouble(f"guest {vmid} has said more than its agent passes on")
    return int(found.get("exitcode", -1)), str(found.get("out-data", ""))


def execute(node: Node, vmid: int, argv: Sequence[str], within_s: float) -> tuple[int, str]:
    """Run a program in a guest to its end. Raises Silent, and Trouble where it takes longer."""
    pid, pause = begin(node, vmid, argv), threading.Event()
    until = clock.now() + within_s
    while clock.now() < until:
        if (found := ended(node, vmid, pid)) is not None:
            return found
        pause.wait(LOOK_S)
    raise Trouble(f"a program in guest {vmid} did not end within {within_s:g} s")


def read_back(plan: Plan, node: Node, vmid: int) -> OnDisk:
    """The ring as the guest's disk has it now. Raises Trouble, also where it could only be read from its memory."""
    code, said = execute(node, vmid, [*READ, file(plan, vmid)], READ_S)
    how, _newline, text = said.partition("\n")
    if code or how not in ("direct", "cached"):
        raise Trouble(f"{file(plan, vmid)} cannot be read in guest {vmid}: its shell ended with {code}")
    if how == "cached":
        raise Trouble(
            f"{file(plan, vmid)} could only be read from the memory of guest {vmid}, which says nothing of its disk;"
            " name a directory on a file system that takes direct reads"
        )
    return ring(plan.run, text)


def ring(run: str, text: str) -> OnDisk:
    """What a ring holds: slots of text, in which each byte that is no character is a question mark."""
    records: dict[int, tuple[int, int]] = {}
    damaged = []
    for slot in range(min(SLOTS, -(-len(text) // RECORD))):
        block = text[slot * RECORD : (slot + 1) * RECORD]
        if block == NOTHING:
            continue
        match = _RECORD.match(block)
        seq = int(match["seq"]) if match else 0
        known, crc = record(run, seq)
        if seq and block == known and (seq - 1) % SLOTS == slot:
            records[slot] = (seq, crc)
        else:
            damaged.append(slot)
    return OnDisk(SLOTS, records, tuple(damaged))


def remove(plan: Plan, node: Node, vmid: int) -> None:
    """Take the file away again. Raises Trouble where it is not certain that it is gone."""
    code, _said = execute(node, vmid, [*REMOVE, file(plan, vmid)], SHORT_S)
    if code:
        raise Trouble(f"its shell ended with {code}")

# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy that was made of a guest's backup: whether its canary works, and what its disk has of the guest's writes."""

from __future__ import annotations

import socket
import threading

from . import canary, clock, site
from .node import Node
from .plan import Plan
from .shell import Trouble


class Copy:
    """It is asked again and again, by one thread, and never makes it wait: the disk is read beside it."""

    def __init__(self, plan: Plan, node: Node, vmid: int) -> None:
        self.plan, self.node, self.vmid = plan, node, vmid
        self.why = ""
        self._heard = canary.Heard()
        self._line: socket.socket | None = None
        self._rest = b""
        self._disk: canary.OnDisk | None = None
        self._reader: threading.Thread | None = None

    def first_ack(self) -> float | None:
        """When the copy's canary was first heard, on the clock of the run."""
        if not self._heard.acks:
            self._listen()
        if not self._heard.acks:
            return None
        self._hang_up()
        return self._heard.acks[0].at

    def _listen(self) -> None:
        """Take what the copy's serial port has to say by now."""
        try:
            if self._line is None:
                self._line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                self._line.setblocking(False)
                self._line.connect(str(self.plan.place("serial", self.vmid)))
            data = self._line.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._heard.line(line.decode("ascii", "replace"), clock.now())

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line, self._rest = None, b""

    def compare(self, acks: list[canary.Ack], began: float, again: float) -> str | None:
        """What of the guest's acknowledged writes the copy has, where it has all from before the backup ``began``; the
        guest counts as lost when it was restored ``again``. Nothing as long as that is not known, or where one is
        missing: ``why`` says so."""
        disk = self._read()
        if disk is None:
            return None
        before = [ack for ack in acks if ack.at < clock.of_this_boot(began)]
        lost, _corrupt = canary.judge(before, disk)
        kept = [ack for ack in acks if disk.records.get((ack.seq - 1) % disk.slots) == (ack.seq, ack.crc)]
        checked = sum(ack.at < clock.of_this_boot(began) for ack in kept)
        if lost or not checked:
            self.why = f"{len(lost)} of {len(before)} writes from before the backup are not on the copy"
            return None
        newest = max(kept, key=lambda ack: ack.seq)
        later = [ack for ack in acks if ack.seq > newest.seq and ack.at < clock.of_this_boot(again)]
        return (
            f"all {checked} that its disk can still show; its newest is {newest.seq}, heard "
            f"{newest.at - clock.of_this_boot(began):.1f} s after the backup began; {len(later)} records, "
            f"{clock.of_this_boot(again) - newest.at:.1f} s, came after it (RPO)"
        )

    def _read(self) -> canary.OnDisk | None:
        """The copy's disk, once it is read."""
        if self._reader is None:
            try:
                path = site.disk(self.plan, self.node, self.vmid)
            except Trouble as why:
                self.why = str(why)
                return None
            scratch = self.plan.home / "copy"
            scratch.mkdir(exist_ok=True)

            def read() -> None:
                try:
                    self._disk = canary.read_disk(path, scratch)
                except Trouble as why:
                    self.why = str(why)

            self._reader = threading.Thread(target=read, name="read the copy", daemon=True)
            self._reader.start()
        return self._disk

# SPDX-License-Identifier: GPL-3.0-or-later
"""fill|drain POOL LEDGER: use up the metadata of a thin pool, and give it back.

A thin device that holds nothing takes one block of its pool's metadata. Its id is far above those that LVM gives, which
counts from 1, so LVM never meets it. LEDGER is a file with the first id and the one behind the last; it is written
ahead of what it tells of, so what was made can be taken back however this ended.

Each message makes the pool commit its metadata. When a commit finds nothing free but the pool's own reserve (a tenth),
the kernel makes the pool read-only, and takes no message any more, not even one that would give something back. A new
load of the pool's table makes it writable again; the reserve is there so that something can be deleted then.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from pathlib import Path

from . import shell
from .shell import Trouble

FIRST = 8_000_000
STEP = 64
TRIES = 20
CONTROL = Path("/dev/mapper/control")
# struct dm_ioctl of linux/dm-ioctl.h: version, data_size, data_start, target_count, open_count, flags, event_nr,
# padding, dev, name, uuid and what is left of its 312 bytes.
HEAD = struct.Struct("=3IIIIiIIIQ128s129s7x")
VERSION = (4, 0, 0)
DEV_SUSPEND = 0xC138FD06  # without a flag it resumes
TARGET_MSG = 0xC138FD0E
SECTOR = struct.Struct("=Q")


class Pool:
    """A thin pool that is active, by the name of its device."""

    def __init__(self, name: str) -> None:
        self.name = name

    def message(self, text: str) -> int:
        """Have the pool do something; 0, or the kernel's errno."""
        return self._ask(TARGET_MSG, SECTOR.pack(0) + text.encode("ascii") + b"\0")

    def renew(self) -> None:
        """Load the pool's own table anew and put it in the place of the old one: what the kernel had made read-only
        for want of metadata is writable again. I/O waits meanwhile; nothing is lost. Raises Trouble."""
        table = shell.run(["dmsetup", "table", self.name]).strip()
        shell.run(["dmsetup", "load", self.name, "--table", table])
        # Not by dmsetup: without a cookie udev keeps what it knows of the device.
        if code := self._ask(DEV_SUSPEND, b""):
            raise Trouble(f"the new table of {self.name} could not be put in place: {os.strerror(code)}")

    def mode(self) -> str:
        """What the kernel says of it: rw, ro, out_of_data_space or Fail; with needs_check where that is so. Raises
        Trouble."""
        words = status(self.name)
        if len(words) < 8:
            return " ".join(words[3:])
        return " ".join([words[7], *(word for word in words if word == "needs_check")])

    def _ask(self, request: int, data: bytes) -> int:
        head = HEAD.pack(*VERSION, HEAD.size + len(data), HEAD.size, 0, 0, 0, 0, 0, 0, self.name.encode("ascii"), b"")
        buffer = bytearray(head + data)
        with CONTROL.open("r+b", buffering=0) as control:
            try:
                fcntl.ioctl(control, request, buffer, True)
            except OSError as error:
                return error.errno or errno.EIO
        return 0


def status(name: str) -> list[str]:
    """The words of `dmsetup status`: start, length, thin-pool, transaction, used/all metadata, used/all data, held
    root, mode and more. Raises Trouble."""
    return shell.run(["dmsetup", "status", name]).split()


def fill(pool: Pool, ledger: Path) -> None:
    """Make empty devices until the pool is read-only. Raises Trouble where it does not come to that."""
    words = status(pool.name)
    end = FIRST + int(words[4].partition("/")[2])
    for number in range(FIRST, end):
        if (number - FIRST) % STEP == 0:
            shell.write(ledger, f"{FIRST} {number + STEP}\n")
        code = pool.message(f"create_thin {number}")
        if code in (errno.EOPNOTSUPP, errno.ENOSPC):
            shell.write(ledger, f"{FIRST} {number}\n")
            break
        if code:
            raise Trouble(f"{pool.name} does not make the thin device {number}: {os.strerror(code)}")
    if (mode := pool.mode()) != "ro":
        raise Trouble(f"{pool.name} has no metadata left, and is not read-only for that, but {mode}")


def drain(pool: Pool, ledger: Path) -> None:
    """Take back what was made, from the last to the first, and leave the pool writable. Raises Trouble."""
    if not ledger.exists():
        return
    first, end = map(int, ledger.read_text(encoding="ascii").split())
    for number in range(end - 1, first - 1, -1):
        _delete(pool, number)
        if (number - first) % STEP == 0:
            shell.write(ledger, f"{first} {number}\n")
    if pool.mode() == "ro":
        pool.renew()
    if (mode := pool.mode()) != "rw":
        raise Trouble(f"{pool.name} has its metadata back, and is not writable, but {mode}")
    ledger.unlink()


def _delete(pool: Pool, number: int) -> None:
    """Delete a device, if there is one of that id."""
    for _try in range(TRIES):
        code = pool.message(f"delete {number}")
        if code in (0, errno.ENODATA):
            return
        if code != errno.EOPNOTSUPP or "needs_check" in pool.mode():
            break
        # A guest's flush may have made it read-only again by the time the message comes.
        pool.renew()
    raise Trouble(f"{pool.name} does not delete the thin device {number}: {os.strerror(code)}; it is {pool.mode()}")


def main(verb: str, name: str, ledger: str) -> int:
    try:
        {"fill": fill, "drain": drain}[verb](Pool(name), Path(ledger))
    except (Trouble, OSError) as why:
        print(f"drill: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

# SPDX-License-Identifier: GPL-3.0-or-later
"""build PLACE | damage PLACE KIND… | restore PLACE KIND…: a chain of images, with what it holds written down.

A base and two overlays of qcow2 are made of bytes that anybody can make again. The manifest says of each region which
checksum it has as the newest overlay shows it; a copy of the chain is kept. Each kind of damage gets a chain of its
own, so that what one does is not seen in another.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import shell
from .shell import Trouble

LAYERS = ("base.qcow2", "first.qcow2", "second.qcow2")
# A region is a cluster of qcow2.
REGION = 65536
REGIONS = 64
# Which regions a layer has written, the base first: one is damaged below in each of them.
WRITTEN = (range(REGIONS), range(16, 32), range(24, 40))
IN_BASE, IN_SECOND = 5, 30
OFFSET = (1 << 56) - (1 << 9)  # of a cluster, in an entry of the tables L1 and L2
ENTRY = struct.Struct(">Q")


@dataclass(frozen=True)
class Found:
    """What a chain shows: why it cannot be read, or which regions are not as the manifest says; and with what
    `qemu-img check` ended, layer by layer."""

    unreadable: str
    differ: tuple[int, ...]
    checks: tuple[int, ...]

    @property
    def evidence(self) -> str:
        what = (
            f"it cannot be read ({self.unreadable})"
            if self.unreadable
            else f"{len(self.differ)} of {REGIONS} regions differ"
        )
        return f"{what}; qemu-img check ended with {', '.join(map(str, self.checks))}"


def build(place: Path) -> None:
    """Make the chain, its manifest and its copy in a directory that is not there yet. Raises Trouble."""
    try:
        place.mkdir()
    except OSError as error:
        raise Trouble(f"{place} cannot be made: {error.strerror}") from error
    kept = place / "kept"
    kept.mkdir()
    before = ""
    for depth, name in enumerate(LAYERS):
        raw = place / f"{name}.raw"
        raw.write_bytes(b"".join(_region(region, depth) for region in range(REGIONS)))
        if before:
            # What differs from the layer before, and no more, is copied into the new one.
            _qemu_img("create", "-q", "-f", "qcow2", "-b", str(raw), "-F", "raw", str(kept / name))
            _qemu_img("rebase", "-q", "-f", "qcow2", "-b", before, "-F", "qcow2", str(kept / name))
        else:
            _qemu_img("convert", "-q", "-f", "raw", "-O", "qcow2", str(raw), str(kept / name))
        raw.unlink()
        before = name
    sums = [hashlib.sha256(_region(region, len(LAYERS) - 1)).hexdigest() for region in range(REGIONS)]
    shell.write(place / "manifest.json", json.dumps({"region": REGION, "sha256": sums}) + "\n")


def _region(number: int, depth: int) -> bytes:
    """What a region holds, as the layer of that depth shows it."""
    layer = max(at for at in range(depth + 1) if number in WRITTEN[at])
    return random.Random(f"pvelab {layer} {number}").randbytes(REGION)


def _qemu_img(*words: str) -> None:
    shell.run(["qemu-img", *words])


def restore(place: Path, kind: str) -> None:
    """Put the copy in the place of a chain."""
    there = place / kind
    if there.exists():
        shutil.rmtree(there)
    shutil.copytree(place / "kept", there)


def look(place: Path, kind: str) -> Found:
    """Hold a chain against the manifest. Raises Trouble where there is no manifest."""
    try:
        sums = json.loads((place / "manifest.json").read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise Trouble(f"{place} has no manifest: {error}") from error
    raw = place / f"{kind}.raw"
    try:
        code, _out, err = shell.attempt(
            ["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", str(place / kind / LAYERS[-1]), str(raw)]
        )
        differ = () if code else _differ(raw, sums)
    finally:
        raw.unlink(missing_ok=True)
    check = ["qemu-img", "check", "-q", "-f", "qcow2"]
    checks = tuple(shell.attempt([*check, str(place / kind / name)])[0] for name in LAYERS)
    # The last of it names the file that is not there.
    why = err.strip().removeprefix("qemu-img: ").rpartition("Could not open backing file: ")[2]
    return Found(why if code else "", differ, checks)


def _differ(raw: Path, sums: list[str]) -> tuple[int, ...]:
    with raw.open("rb") as file:
        found = [hashlib.sha256(file.read(REGION)).hexdigest() for _sum in sums]
    return tuple(number for number, (one, other) in enumerate(zip(found, sums, strict=True)) if one != other)


# damage -----------------------------------------------------------------------------------------------------------


def damage(place: Path, kind: str) -> None:
    """Damage a chain of that name, which is made of the copy first."""
    restore(place, kind)
    KINDS[kind](place / kind)


def _bad_cluster(chain: Path) -> None:
    """The newest overlay forgets where a cluster is, and shows what the layer below has."""
    with (chain / LAYERS[-1]).open("r+b") as file:
        file.seek(_entry(file.fileno(), IN_SECOND))
        file.write(bytes(ENTRY.size))


def _lost_backing(chain: Path) -> None:
    """The base is somewhere else."""
    (chain / LAYERS[0]).rename(chain / f"{LAYERS[0]}.moved")


def _changed_base(chain: Path) -> None:
    """Somebody has written to the base below its overlays."""
    with (chain / LAYERS[0]).open("r+b") as file:
        (entry,) = ENTRY.unpack(os.pread(file.fileno(), ENTRY.size, _entry(file.fileno(), IN_BASE)))
        file.seek(entry & OFFSET)
        file.write(random.Random("pvelab somebody").randbytes(REGION))


def _half_snapshot(chain: Path) -> None:
    """The newest overlay was cut off while it was written."""
    newest = chain / LAYERS[-1]
    os.truncate(newest, newest.stat().st_size // 2)


def _entry(image: int, cluster: int) -> int:
    """Where in an image the entry of L2 for a cluster of its disk is. Raises Trouble where it has none."""
    magic, version, bits, first = struct.unpack(">4sI12xI16xQ", os.pread(image, 48, 0))
    if magic != b"QFI\xfb" or version != 3 or 1 << bits != REGION:
        raise Trouble("the image is no qcow2 of version 3 with clusters of 64 KiB")
    # One table L2 has an entry for each 8 bytes of a cluster.
    table, index = divmod(cluster, REGION // ENTRY.size)
    (second,) = ENTRY.unpack(os.pread(image, ENTRY.size, first + table * ENTRY.size))
    if not second & OFFSET:
        raise Trouble(f"the image has nothing of cluster {cluster}")
    return int(second & OFFSET) + index * ENTRY.size


KINDS: dict[str, Callable[[Path], None]] = {
    "bad_cluster": _bad_cluster,
    "lost_backing": _lost_backing,
    "changed_base": _changed_base,
    "half_snapshot": _half_snapshot,
}


def main(verb: str, place: str, *kinds: str) -> int:
    try:
        if verb == "build":
            build(Path(place))
        for kind in kinds:
            {"damage": damage, "restore": restore}[verb](Path(place), kind)
    except (Trouble, OSError) as why:
        print(f"drill: {why}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

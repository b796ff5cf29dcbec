# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the storage below a guest's disk. What they add is named pvelab-filler, and only that is ever removed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from shlex import quote

from .. import shell, signs
from ..node import Node
from ..plan import Plan
from ..shell import Trouble
from .fault import Fault, Prepare, Skip
from .guests import stall_s

FILLER = "pvelab-filler"


def _halted(plan: Plan) -> tuple[signs.Sign, ...]:
    """A guest whose write finds no room is held in io-error, while the node goes on calling it running."""
    return tuple(
        sign for vmid in plan.victims for sign in (signs.stalled(vmid, stall_s(plan)), signs.status(vmid, "io-error"))
    )


def directory_full(plan: Plan, _node: Node) -> Fault:
    """A directory with guests' disks has no block left."""
    path = Path(str(plan.option("path")))
    if not path.is_dir():
        raise Trouble(f"{path} is no directory on this host; name the one of the storage in the drill's options")
    if path.stat().st_dev == Path("/").stat().st_dev or os.path.realpath(path) == "/":
        raise Trouble(f"{path} lies on the host's own root file system, which no drill fills; give it one of its own")
    first, last = quote(str(path / FILLER)), quote(str(path / f"{FILLER}-rest"))
    inject = (
        # At once as much as can be had so, and then block by block what is left: a file system keeps some back.
        f"fallocate -l $(($(stat -f -c '%a * %S' {quote(str(path))}) - 1048576)) {first}\n"
        f"dd if=/dev/zero of={last} bs=65536 2>/dev/null || true\n"
        f"dd if=/dev/zero bs=4096 2>/dev/null >> {last} || true\n"
        f"sync -f {quote(str(path))}"
    )
    return Fault(
        targets=(f"file system of {path}",),
        inject=inject,
        undo=f"rm -f {first} {last}\nsync -f {quote(str(path))}\n{plan.restore(*plan.victims)}",
        signs=_halted(plan),
        fill={str(path): lambda: _used(path)},
    )


def _used(path: Path) -> float:
    found = os.statvfs(path)
    return 100.0 * (found.f_blocks - found.f_bavail) / max(found.f_blocks, 1)


def zfs_full(plan: Plan, _node: Node) -> Fault:
    """A ZFS pool has nothing left to give: a data set reserves all that was available, without writing a byte."""
    pool = str(plan.option("pool"))
    available = int(shell.run(["zfs", "get", "-Hpo", "value", "available", pool]))
    filler, sync = quote(f"{pool}/{FILLER}"), f"zpool sync {quote(pool.partition('/')[0])}"
    inject = (
        f"zfs create -o mountpoint=none {filler}",
        f"free=$(zfs get -Hpo value available {filler})",
        # Not always is all that is available granted; the last try's answer is the fault's.
        f"for less in 0 65536 262144; do zfs set refreservation=$((free - less)) {filler} 2>/dev/null && break; done",
        f'[ "$(zfs get -Hpo value refreservation {filler})" != 0 ]',
        sync,
    )
    return Fault(
        targets=(f"{available >> 20} MiB that are available in {pool}",),
        inject="\n".join(inject),
        undo=(f"! zfs list -H {filler} >/dev/null 2>&1 || zfs destroy {filler}\n{sync}\n{plan.restore(*plan.victims)}"),
        signs=_halted(plan),
        fill={f"zfs {pool}": lambda: _zfs_used(pool)},
    )


def _zfs_used(pool: str) -> float:
    used, free = (int(text) for text in shell.run(["zfs", "get", "-Hpo", "value", "used,available", pool]).split())
    return 100.0 * used / max(used + free, 1)


def thin_pool_full(plan: Plan, _node: Node) -> Fault:
    """A thin pool has no data block left: for a minute the kernel queues writes, and nobody is told."""
    group, pool = str(plan.option("vg")), str(plan.option("pool"))
    columns = ["-o", "lv_size,data_percent,seg_monitor"]
    words = shell.run(["lvs", "--noheadings", "--units", "b", "--nosuffix", *columns, f"{group}/{pool}"]).split()
    free = int(int(words[0]) * (100.0 - float(words[1])) / 100.0)
    monitored = words[2:] == ["monitored"]  # else "not monitored"
    filler, size = f"{group}/{FILLER}", f"--virtualsize {free + (16 << 20)}b --thinpool {group}/{pool}"
    full = f"dmsetup status {_mapped(group, pool)} | grep -q out_of_data"
    # Without a device of its own the filler could not be removed while the kernel still holds its writes back.
    inject = [f"lvchange --monitor n {group}/{pool}"] if monitored else []
    inject += [
        f"lvcreate --quiet --yes --wipesignatures n --zero n {size} --name {FILLER}",
        f"dd if=/dev/zero of=/dev/{filler} bs=1M count={(free >> 20) + 8} oflag=direct conv=fsync >/dev/null 2>&1 &",
        "filled=$!",
        f"for _round in $(seq 600); do {full} && break; kill -0 $filled || break; sleep 0.2; done",
        "kill $filled 2>/dev/null || true",
    ]
    undo = [
        f"! lvs {filler} >/dev/null 2>&1 || {{ pkill -f 'of=/dev/{filler}' || true; lvremove --quiet --yes {filler}; }}"
    ]
    undo += [f"lvchange --monitor y {group}/{pool}"] if monitored else []
    return Fault(
        targets=(f"{free >> 20} MiB that are free in {group}/{pool}",),
        inject="\n".join(inject),
        undo="\n".join([*undo, plan.restore(*plan.victims)]),
        signs=(
            signs.kernel("the kernel runs out of data space", r"thin: .*out-of-data-space"),
            *(signs.stalled(vmid, stall_s(plan)) for vmid in plan.victims),
        ),
        fill={f"thin {group}/{pool}": lambda: _thin_used(group, pool)},
    )


def _mapped(group: str, pool: str) -> str:
    return f"{group.replace('-', '--')}-{pool.replace('-', '--')}-tpool"


def _thin_used(group: str, pool: str) -> float:
    words = shell.run(["dmsetup", "status", _mapped(group, pool)]).split()
    used, _slash, total = words[5].partition("/")
    return 100.0 * int(used) / int(total)


def mirror_leg(plan: Plan, _node: Node) -> Fault:
    """One disk of a ZFS mirror is gone for a while; its guests go on, and it catches up when it is back."""
    pool = str(plan.option("pool"))
    status = shell.run(["zpool", "status", "-P", pool])
    leg = str(plan.options.get("device") or "")
    legs = re.findall(r"^\s+(/dev/\S+)\s+ONLINE", status, re.MULTILINE)
    if not re.search(r"\bmirror-|\braidz", status) or len(legs) < 2:
        raise Skip(f"{pool} has no second copy of anything, so a lost disk is a lost pool")
    leg = leg or legs[-1]

    def health() -> str:
        return shell.run(["zpool", "list", "-H", "-o", "health", pool])

    def whole() -> None:
        text = shell.run(["zpool", "status", pool])
        if health().strip() != "ONLINE" or "resilver in progress" in text:
            raise Trouble(f"{pool} is not whole yet: {health().strip()}")
        if "No known data errors" not in text:
            raise Trouble(f"{pool} has data errors; see zpool status -v {pool}")

    return Fault(
        targets=(f"disk {leg} of {pool}",),
        inject=f"zpool offline {quote(pool)} {quote(leg)}",
        undo=f"zpool status -P {quote(pool)} | grep -q '{leg} *ONLINE' || zpool online {quote(pool)} {quote(leg)}",
        signs=(signs.says(f"{pool} is degraded", health, "DEGRADED"),),
        outage=False,
        whole=whole,
    )


KINDS: dict[str, Prepare] = {
    "directory_full": directory_full,
    "zfs_full": zfs_full,
    "thin_pool_full": thin_pool_full,
    "mirror_leg_lost": mirror_leg,
}

# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the storage below a guest's disk. What they add is named pvelab-filler, and only that is ever removed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from shlex import quote

from .. import clock, shell, signs, site
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
    filler, size = f"{group}/{FILLER}", f"--virtualsize {(free >> 9) + (16 << 11)}s --thinpool {group}/{pool}"
    full = f"dmsetup status {mapped(group, pool)} | grep -q out_of_data"
    # Without a device of its own the filler could not be removed while the kernel still holds its writes back.
    inject = [f"lvcreate --quiet --yes --wipesignatures n {size} --name {FILLER}"]
    # Only now: whatever LVM makes in a pool has it monitored again.
    inject += [f"lvchange --monitor n {group}/{pool}"] if monitored else []
    inject += [
        f"dd if=/dev/zero of=/dev/{filler} bs=1M count={(free >> 20) + 8} oflag=direct conv=fsync >/dev/null 2>&1 &",
        "filled=$!",
        f"for _round in $(seq 600); do {full} && break; kill -0 $filled || break; sleep 0.2; done",
        "kill $filled 2>/dev/null || true",
    ]
    # What the kernel holds back would keep the filler open: it is to fail, and nothing of another volume with it.
    undo = [
        f"! lvs {filler} >/dev/null 2>&1 || {{ pkill -KILL -f 'of=/dev/{filler}' || true",
        f"dmsetup wipe_table --force --noflush {device(group, FILLER)} || true",
        f"for _try in 1 2 3; do lvremove --quiet --yes {filler} && break; sleep 1; done; }}",
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


def device(group: str, volume: str) -> str:
    """What the device mapper calls a logical volume."""
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}"


def mapped(group: str, pool: str) -> str:
    """What the device mapper calls the part of a thin pool that has its blocks."""
    return f"{device(group, pool)}-tpool"


def _thin_used(group: str, pool: str) -> float:
    words = shell.run(["dmsetup", "status", mapped(group, pool)]).split()
    used, _slash, total = words[5].partition("/")
    return 100.0 * int(used) / int(total)


def quota_full(plan: Plan, node: Node) -> Fault:
    """A ZFS data set has used up its quota. A volume below it passes that on as an I/O error and not as want of space,
    so QEMU does not hold the guest."""
    dataset = str(plan.option("dataset"))
    volumes = {vmid: _volume(site.disk(plan, node, vmid)) for vmid in plan.listed}
    for vmid, volume in volumes.items():
        below = volume.startswith(f"{dataset}/")
        if below != (vmid in plan.victims):
            what = "lies" if below else "does not lie"
            raise Trouble(f"the disk of guest {vmid} {what} below {dataset}; name exactly those that do as victims")
        if below and _zfs_get(volume, "refreservation"):
            raise Skip(f"{volume} has reserved all that it may need, so no quota keeps anything from it")
    before = _zfs_get(dataset, "quota")
    filler, here, old = quote(f"{dataset}/{FILLER}"), quote(dataset), before or "none"
    sync = f"zpool sync {quote(dataset.partition('/')[0])}"
    undo = (
        f'[ "$(zfs get -Hpo value quota {here})" = {before} ] || zfs set quota={old} {here}',
        f"! zfs list -H {filler} >/dev/null 2>&1 || zfs destroy {filler}",
        sync,
        plan.restore(*plan.victims),
    )
    return Fault(
        targets=(f"quota of {dataset}, which is {old}",),
        inject=_use_up_quota(here, filler, sync),
        undo="\n".join(undo),
        signs=unseen(plan),
        fill={f"zfs {dataset}": lambda: _zfs_used(dataset)},
        looks={"quotas": lambda: [f"{dataset} {_zfs_get(dataset, 'quota')}"]},
    )


def _use_up_quota(here: str, filler: str, sync: str) -> str:
    """A quota that is hardly above what is used, and a reservation for the rest of it."""
    return f"""\
zfs create -o mountpoint=none {filler}
{sync}
# Below what is used a quota is refused, and what is used goes on changing.
for more in 1048576 4194304 16777216; do
    zfs set quota=$(($(zfs get -Hpo value used {here}) + more)) {here} 2>/dev/null && break
done
# What is written anew takes as much as it gives back, so only where nothing at all is left nothing is written.
full=0
for _round in $(seq 30); do
    {sync}
    free=$(zfs get -Hpo value available {here})
    if [ "$free" = 0 ]; then full=$((full + 1)); else full=0; fi
    [ "$full" -lt 2 ] || break
    kept=$(zfs get -Hpo value refreservation {filler})
    [ "$free" = 0 ] || zfs set refreservation=$((kept + free)) {filler} 2>/dev/null || true
done
[ "$full" -ge 2 ]"""


def unseen(plan: Plan) -> tuple[signs.Sign, ...]:
    """A guest whose writes fail with an I/O error goes on running, and so does everybody who asks only that."""
    after_s = stall_s(plan)
    return tuple(
        sign for vmid in plan.victims for sign in (signs.failing(vmid, after_s), signs.unnoticed(vmid, after_s))
    )


def _volume(disk: Path) -> str:
    """The ZFS volume of a disk; nothing where it is none."""
    return str(disk).removeprefix("/dev/zvol/") if str(disk).startswith("/dev/zvol/") else ""


def _zfs_get(name: str, value: str) -> int:
    return int(shell.run(["zfs", "get", "-Hpo", "value", value, name]))


def slow(plan: Plan, node: Node) -> Fault:
    """A guest's disk does a few reads and writes a second, as on storage that others keep busy."""
    iops = int(plan.options.get("iops") or 3)
    inject, undo, targets, found = [], [], [], []
    for vmid in plan.victims:
        group, disk = site.cgroup(plan, vmid), site.disk(plan, node, vmid)
        device = None if _volume(disk) else site.held_by(disk)
        if device is None:
            raise Skip(f"{disk} lies on no block device that the kernel counts for a control group (ZFS, a network)")
        targets.append(f"control group {group} of guest {vmid}, {iops} reads and {iops} writes a second on {device}")
        limit = group / "io.max"
        before = io_limit(limit, device)
        start, end = _io_controller(group, limit)
        inject += [*start, f"echo {quote(f'{device} riops={iops} wiops={iops}')} > {quote(str(limit))}"]
        undo += [f"[ ! -e {quote(str(limit))} ] || echo {quote(before)} > {quote(str(limit))}", *end]
        found += [signs.slow_writes(vmid), waiting(vmid, group / "io.pressure")]
    return Fault(tuple(targets), "\n".join(inject), "\n".join(undo), tuple(found), outage=False)


def io_limit(limit: Path, device: str) -> str:
    """The line of io.max that stands for a device now, which is one without limits where there is none."""
    lines = limit.read_text(encoding="ascii").splitlines() if limit.exists() else []
    return next(
        (line for line in lines if line.split()[:1] == [device]), f"{device} rbps=max wbps=max riops=max wiops=max"
    )


def _io_controller(group: Path, limit: Path) -> tuple[list[str], list[str]]:
    """What has the group limit I/O at all, and what takes that back: systemd gives it the controller when it is to
    count I/O, and takes it away when nobody counts any more."""
    if limit.exists():
        return [], []
    if "io" not in (site.CGROUPS / "cgroup.controllers").read_text(encoding="ascii").split():
        raise Skip(f"{group} has no io controller, so one guest's disk cannot be slowed down by itself")
    counts = f"systemctl set-property --runtime {quote(group.name)} IOAccounting"
    wait = f"for _round in $(seq 50); do [ ! -e {quote(str(limit))} ] || break; sleep 0.1; done"
    gone = f"! systemctl --quiet is-active {quote(group.name)} || {counts}=no"
    return [f"{counts}=yes", wait, f"[ -e {quote(str(limit))} ]"], [gone]


def waiting(vmid: int, pressure: Path) -> signs.Sign:
    """The kernel sees the group's tasks wait for I/O, for much more of the time than before the fault."""
    began = (clock.now(), _waited_us(pressure))
    first: list[tuple[float, int]] = []

    def test(_seen: object, _since: float) -> str | None:
        now, waited = clock.now(), _waited_us(pressure)
        first[:] = first or [(now, waited)]
        usual = _share(*began, *first[0])
        share = _share(*first[0], now, waited)
        if now - first[0][0] < WATCH_S or share < max(WAITS, 3 * usual):
            return None
        return f"{100 * share:.0f} % of the time instead of {100 * usual:.0f} %"

    return signs.Sign(f"the processes of guest {vmid} wait for their disk", test)


# For how long it is looked at, and which share of the time counts.
WATCH_S = 3.0
WAITS = 0.15


def _share(at: float, waited: int, later: float, by_then: int) -> float:
    return (by_then - waited) / 1e6 / (later - at) if later > at else 0.0


def _waited_us(pressure: Path) -> int:
    """What io.pressure has as its total of "some", in microseconds; 0 where it cannot be read."""
    try:
        found = re.search(r"^some .*total=(\d+)", pressure.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


KINDS: dict[str, Prepare] = {
    "directory_full": directory_full,
    "zfs_full": zfs_full,
    "thin_pool_full": thin_pool_full,
    "quota_full": quota_full,
    "storage_slow": slow,
}

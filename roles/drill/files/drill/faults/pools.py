# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a pool itself and of the disks below it: metadata, a mirror's leg."""

from __future__ import annotations

import os
import re
from pathlib import Path
from shlex import quote

from .. import shell, signs, site, thin
from ..node import Node
from ..plan import Plan
from ..recorder import Recorder
from ..shell import Trouble
from .fault import Fault, Prepare, Skip
from .storage import FILLER, mapped, unseen

# More than so many free blocks of metadata are not used up while a drill may last.
MOST_BLOCKS = 20_000


def part(plan: Plan, module: str, *words: str) -> str:
    """A line of shell that runs one module of this program."""
    return f"PYTHONPATH={quote(plan.program)} {quote(plan.python)} -m drill.{module} {' '.join(map(quote, words))}"


def thin_metadata_full(plan: Plan, node: Node) -> Fault:
    """A thin pool has no block of metadata left: the kernel makes it read-only at once, and guests get I/O errors."""
    group, pool = str(plan.option("vg")), str(plan.option("pool"))
    name, extend = mapped(group, pool), int(plan.options.get("extend_mib") or 0)
    used, total = _metadata(name)
    free, lv = total - used, f"{group}/{pool}"
    if (mode := thin.Pool(name).mode()) != "rw":
        raise Trouble(f"the thin pool {lv} is {mode}; have it writable first (lvs -o +lv_health_status {lv})")
    if free > MOST_BLOCKS:
        raise Skip(f"{lv} has {free} free blocks of metadata, and a drill uses up no more than {MOST_BLOCKS}")
    snapshots = {f"{group}/{FILLER}-{vmid}": _in_pool(plan, node, vmid, group, pool) for vmid in plan.victims}
    monitored = shell.run(["lvs", "--noheadings", "-o", "seg_monitor", lv]).strip() == "monitored"
    fill, drain = (part(plan, "thin", verb, name, str(plan.home / "thin-devices")) for verb in ("fill", "drain"))
    grow = f"lvextend --quiet --quiet --yes --poolmetadatasize +{extend or 4}m {lv} >/dev/null"
    # A block that is shared with a snapshot has to be mapped anew when it is written, and that takes metadata.
    inject = [
        f"lvcreate --quiet --quiet --snapshot --name {snap.partition('/')[2]} {disk} >/dev/null"
        for snap, disk in snapshots.items()
    ]
    # Only now: whatever LVM makes in a pool has it monitored again.
    inject += [*([f"lvchange --monitor n {lv}"] if monitored else []), fill]
    # A pool that does not become writable when it has its metadata back does when it gets more.
    back = [f"{{ {drain} || {{ {grow} && {drain}; }}; }}"]
    back += [f"{{ ! lvs {snap} >/dev/null 2>&1 || lvremove --quiet --yes {snap}; }}" for snap in snapshots]
    undo = [" &&\n".join(back), *([f"lvchange --monitor y {lv}"] if monitored else [])]
    return Fault(
        targets=(f"{free} free blocks of metadata of {lv}", *(f"a snapshot of {disk}" for disk in snapshots.values())),
        inject="\n".join(inject),
        undo="\n".join([*undo, plan.restore(*plan.victims)]),
        signs=(signs.kernel("the kernel makes the pool read-only", r"thin: .*read-only mode"), *unseen(plan)),
        fill={f"metadata of thin {lv}": lambda: _metadata_used(name)},
        whole=lambda: _writable(name, lv),
        relief=grow if extend else "",
        eased=tuple(signs.again(vmid) for vmid in plan.victims) if extend else (),
        looks={"thin pools": lambda: [f"{lv} {thin.Pool(name).mode()}"]},
    )


def _in_pool(plan: Plan, node: Node, vmid: int, group: str, pool: str) -> str:
    """The volume of a guest's first disk, as VG/LV. Raises Trouble where it is not in the pool."""
    disk = site.disk(plan, node, vmid)
    if disk.parent != Path("/dev", group):
        raise Trouble(f"the disk of guest {vmid} is {disk}, and not in {group}; name a guest whose disk is there")
    found = shell.run(["lvs", "--noheadings", "-o", "pool_lv", f"{group}/{disk.name}"]).strip()
    if found != pool:
        raise Trouble(f"the disk of guest {vmid} is in the thin pool {found or '(none)'}, and not in {pool}")
    return f"{group}/{disk.name}"


def _metadata(name: str) -> tuple[int, int]:
    used, _slash, total = thin.status(name)[4].partition("/")
    return int(used), int(total)


def _metadata_used(name: str) -> float:
    used, total = _metadata(name)
    return 100.0 * used / max(total, 1)


def _writable(name: str, lv: str) -> None:
    if (mode := thin.Pool(name).mode()) != "rw":
        raise Trouble(
            f"{lv} is {mode}; give it more metadata (lvextend --poolmetadatasize +4m {lv}), and where it says"
            f" needs_check, stop its guests, deactivate it, and lvconvert --repair {lv}"
        )


# ZFS --------------------------------------------------------------------------------------------------------------


def legs(pool: str) -> list[str]:
    """The disks of a pool that may be lost, one of them: of each mirror and each RAID-Z of which all are ONLINE. Raises
    Skip where there is none."""
    groups: list[list[tuple[str, str]]] = []
    inside: int | None = None
    for line in shell.run(["zpool", "status", "-P", pool]).splitlines():
        if line.strip() in ("logs", "cache", "spares"):
            break
        row = re.match(r"^(\s+)(\S+)\s+(ONLINE|DEGRADED|FAULTED|OFFLINE|UNAVAIL|REMOVED)\b", line)
        if row is None:
            continue
        depth = len(row[1].expandtabs())
        if re.match(r"mirror-|d?raid", row[2]):
            inside = depth
            groups.append([])
        elif inside is None or depth <= inside:
            inside = None
        else:
            groups[-1].append((row[2], row[3]))
    whole = [group for group in groups if len(group) > 1 and all(state == "ONLINE" for _name, state in group)]
    found = [name for group in whole for name, _state in group if name.startswith("/")]
    if not found:
        raise Skip(f"{pool} has no second copy of anything, so a lost disk is a lost pool")
    return found


def _leg(plan: Plan, pool: str) -> str:
    """The disk that the option `device` names, else the last one."""
    found = legs(pool)
    wanted = str(plan.options.get("device") or found[-1])
    if wanted not in found:
        raise Trouble(f"{wanted} is no disk of {pool} that is ONLINE; there is {', '.join(found)}")
    return wanted


def _health(pool: str) -> str:
    return shell.run(["zpool", "list", "-H", "-o", "health", pool]).strip()


def _no_errors(pool: str) -> None:
    text = shell.run(["zpool", "status", pool])
    if _health(pool) != "ONLINE" or "resilver in progress" in text:
        raise Trouble(f"{pool} is not whole yet: {_health(pool)}")
    if "No known data errors" not in text:
        raise Trouble(f"{pool} has data errors; see zpool status -v {pool}")


def mirror_leg(plan: Plan, _node: Node) -> Fault:
    """One disk of a ZFS mirror is gone for a while; its guests go on, and it catches up when it is back."""
    pool = str(plan.option("pool"))
    leg = _leg(plan, pool)
    return Fault(
        targets=(f"disk {leg} of {pool}",),
        inject=f"zpool offline {quote(pool)} {quote(leg)}",
        undo=f"zpool status -P {quote(pool)} | grep -q '{leg} *ONLINE' || zpool online {quote(pool)} {quote(leg)}",
        signs=(signs.says(f"{pool} is degraded", lambda: _health(pool), "DEGRADED"),),
        outage=False,
        whole=lambda: _no_errors(pool),
    )


def mirror_leg_corrupt(plan: Plan, _node: Node) -> Fault:
    """One disk of a ZFS mirror returns something else than was written to it, and does not say so."""
    pool = str(plan.option("pool"))
    leg = _leg(plan, pool)
    if (health := _health(pool)) != "ONLINE":
        raise Trouble(f"{pool} is {health}, so the copy that is damaged might be the only one; have it whole first")
    if "in progress" in (scan := _scan(pool)):
        raise Trouble(f"{pool} is at work ({scan}); wait until it has ended (zpool wait -t scrub,resilver {pool})")
    offset, amount = (int(plan.options.get(name) or least) for name, least in (("offset_mib", 8), ("amount_mib", 64)))
    size = _size_mib(leg)
    if offset < LABELS_MIB or offset + amount > size - LABELS_MIB:
        raise Trouble(
            f"{amount} MiB from {offset} MiB on do not lie between the first and the last {LABELS_MIB} MiB of {leg},"
            f" which has {size}; set offset_mib and amount_mib"
        )
    mark, here = quote(str(plan.home / "damaged")), quote(pool)
    how = f"bs=1M seek={offset} count={amount} iflag=fullblock oflag=direct conv=nocreat,notrunc status=none"
    return Fault(
        targets=(f"{amount} MiB from {offset} MiB on of disk {leg} of {pool}",),
        inject="\n".join(
            (
                f"zpool sync {here}",
                # What is damaged is known before it is, and after a boot.
                f": > {mark}",
                f"sync {mark}",
                f"dd if=/dev/urandom of={quote(leg)} {how}",
                f"zpool scrub -w {here}",
            )
        ),
        undo=_scrubbed(here, mark),
        signs=(_repaired(pool, scan), _only(pool, leg)),
        outage=False,
        whole=lambda: _healthy(pool),
        looks={f"disks of {pool}": lambda: [f"{disk} {errors} errors" for disk, errors in _errors(pool).items()]},
    )


# ZFS keeps what it knows a disk by in the first four and in the last half MiB.
LABELS_MIB = 8


def _scrubbed(pool: str, mark: str) -> str:
    """What is still damaged is put right from the other copy, and only then is it forgotten."""
    return f"""\
if [ -e {mark} ]; then
    zpool wait -t scrub,resilver {pool} &&
    zpool clear {pool} && zpool wait -t resilver {pool} &&
    zpool scrub -w {pool} && zpool clear {pool} && rm -f {mark}
fi"""


def _size_mib(path: str) -> int:
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise Trouble(f"{path} cannot be opened: {error.strerror}") from error
    try:
        return os.lseek(number, 0, os.SEEK_END) >> 20
    finally:
        os.close(number)


def _scan(pool: str) -> str:
    """What the pool says of its last scrub or resilver."""
    found = re.search(r"^\s*scan: (.*)", shell.run(["zpool", "status", pool]), re.MULTILINE)
    return found[1].strip() if found else ""


def _repaired(pool: str, before: str) -> signs.Sign:
    """A scrub that was not there before the fault has found something, and could put all of it right."""

    def test(_seen: Recorder, _since: float) -> str | None:
        try:
            now = _scan(pool)
        except Trouble:
            return None
        found = re.match(r"scrub repaired (\S+) in .*with 0 errors", now)
        return now if found and found[1] not in ("0", "0B") and now != before else None

    return signs.Sign(f"a scrub of {pool} repairs what was damaged", test)


def _errors(pool: str) -> dict[str, int]:
    """How often each disk has returned something else than was written."""
    text = shell.run(["zpool", "status", "-Pp", pool])
    return {disk: int(n) for disk, n in re.findall(r"^\s+(/\S+)\s+[A-Z]+\s+\d+\s+\d+\s+(\d+)", text, re.MULTILINE)}


def _only(pool: str, leg: str) -> signs.Sign:
    """The errors are counted at that disk, and at no other."""

    def test(_seen: Recorder, _since: float) -> str | None:
        try:
            found = _errors(pool)
        except Trouble:
            return None
        others = sum(found.values()) - found.get(leg, 0)
        return f"{found[leg]} checksum errors, none at another disk" if found.get(leg) and not others else None

    return signs.Sign(f"{pool} counts checksum errors at {leg} alone", test)


def _healthy(pool: str) -> None:
    said = shell.run(["zpool", "status", "-x", pool]).strip()
    if "is healthy" not in said:
        raise Trouble(f"{pool} is not healthy: {' '.join(said.split())}")


KINDS: dict[str, Prepare] = {
    "thin_metadata_full": thin_metadata_full,
    "mirror_leg_lost": mirror_leg,
    "mirror_leg_corrupt": mirror_leg_corrupt,
}

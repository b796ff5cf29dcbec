# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of what the node does with a guest for a longer time: a job that died, and a guest that is lost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from .. import acts, backups, clock, locks
from ..gauges import available_mib
from ..node import Node, Silent
from ..plan import Plan
from ..recorder import Recorder
from ..restored import Copy
from ..shell import Trouble
from ..signs import Sign
from .fault import Fault, Prepare, Skip
from .services import goes_on

LOCK, LOCKS = "snapshot", ("backup", "clone", "migrate", "rollback", "snapshot", "snapshot-delete")
# How often an order is tried that may be refused.
TRY_S = 2.0
# Where a free number for the copy is looked for.
NUMBERS = range(9900, 10000)
DISK = re.compile(r"(?:scsi|virtio|sata|ide|efidisk|tpmstate)\d+")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


# a lock -----------------------------------------------------------------------------------------------------------


def stuck_lock(plan: Plan, node: Node) -> Fault:
    """A guest is left locked, as by a job that died; nothing of what the guest does is touched."""
    lock = str(plan.options.get("lock") or LOCK)
    if lock not in LOCKS:
        raise Trouble(f"the option lock of the fault {plan.kind} is {lock}, and none of {', '.join(LOCKS)}")
    unlock = acts.line(plan, "unlock", *plan.victims)
    refused = [sign for vmid in plan.victims for sign in (_refused(node, vmid, lock), goes_on(vmid))]
    eased = [sign for vmid in plan.victims for sign in (_unheld(plan, vmid), _obeys(node, vmid))]
    return Fault(
        targets=tuple(f"lock of guest {vmid} ({lock})" for vmid in plan.victims),
        inject="\n".join(locks.how(plan, vmid, lock) for vmid in plan.victims),
        undo=unlock,
        signs=tuple(refused),
        outage=False,
        whole=lambda: _unlocked(plan, node),
        relief=unlock,
        eased=tuple(eased),
        looks={
            "locks": lambda: [f"guest {vmid} {locks.of(node, vmid) or 'not locked'}" for vmid in plan.listed],
            "volumes": lambda: [name for vmid in plan.victims for name in locks.volumes(node, vmid)],
        },
    )


def _unlocked(plan: Plan, node: Node) -> None:
    for vmid in plan.victims:
        if lock := locks.of(node, vmid):
            raise Trouble(f"guest {vmid} is locked ({lock})")


def orders(node: Node, vmid: int) -> Callable[[], str]:
    """An order that changes nothing: the guest's description is to be what it is. It gives what the node says against
    it, nothing where it obeys; it is tried every ``TRY_S``, and the answer kept in between."""
    path = f"/nodes/{{node}}/qemu/{vmid}/config"
    said: dict[str, Any] = {"at": None, "text": ""}

    def order() -> str:
        if said["at"] is None or time.monotonic() - said["at"] > TRY_S:
            text = ""
            try:
                now = node.get(path).get("description")
                node.ask("PUT", path, {"delete": "description"} if now is None else {"description": now})
            except Silent as why:
                text = str(why)
            said.update(at=time.monotonic(), text=text)
        return str(said["text"])

    return order


def _refused(node: Node, vmid: int, lock: str) -> Sign:
    """The node does nothing with the guest any more, and says why."""
    order, wanted = orders(node, vmid), f"VM is locked ({lock})"
    return Sign(
        f"the node takes no order for guest {vmid}", lambda _seen, _since: wanted if wanted in order() else None
    )


def _obeys(node: Node, vmid: int) -> Sign:
    order = orders(node, vmid)
    return Sign(
        f"the node takes orders for guest {vmid} again",
        lambda _seen, _since: "its description was set to what it is" if not order() else None,
    )


def _unheld(plan: Plan, vmid: int) -> Sign:
    """It was proved, before the lock was taken away, that nobody held it."""

    def test(_seen: object, _since: float) -> str | None:
        path = acts.said(plan, vmid)
        return path.read_text(encoding="utf-8").strip() if path.exists() else None

    return Sign(f"nothing held the lock of guest {vmid}", test)


# a backup ---------------------------------------------------------------------------------------------------------


def backup_restore(plan: Plan, node: Node) -> Fault:
    """A guest is backed up while it writes, and a copy is made of the backup, which has to do what the guest does."""
    if len(plan.victims) != 1:
        raise Trouble(f"the fault {plan.kind} backs up one guest, and {len(plan.victims)} are named as victims")
    (vmid,) = plan.victims
    if plan.pulse(vmid).by != "serial":
        raise Trouble(
            f"guest {vmid} has no canary on a serial port, so nobody could tell what its copy has of its writes"
        )
    storage, target = str(plan.option("storage")), str(plan.options.get("target") or "")
    config = node.get(f"/nodes/{{node}}/qemu/{vmid}/config")
    _alone(vmid, config)
    _room(plan, node, config, storage, target)
    scratch = _scratch(plan, node)
    compress = str(plan.options.get("compress") or "0")
    copy = Copy(plan, node, scratch)
    return Fault(
        targets=(f"a backup of guest {vmid} on {storage}", f"a copy of it as guest {scratch}, its links down"),
        inject=acts.line(plan, "backup", vmid, storage, compress),
        undo=acts.line(plan, "discard"),
        signs=(_backed_up(plan, vmid, storage), goes_on(vmid)),
        outage=False,
        relief=acts.line(plan, "restore", scratch, *([target] if target else [])),
        eased=(_works(plan, copy), _kept(plan, vmid, copy)),
        looks={
            "copy": lambda: _there(node, scratch),
            "backups": lambda: [str(row["volid"]) for row in backups.archives(plan, node, storage, vmid)],
            "locks": lambda: [f"guest {vmid} {locks.of(node, vmid) or 'not locked'}"],
        },
    )


def _there(node: Node, scratch: int) -> list[str]:
    return [f"guest {scratch}"] * (scratch in backups.guests(node)) + locks.volumes(node, scratch)


def _alone(vmid: int, config: Mapping[str, Any]) -> None:
    """A copy may run beside the guest, and its canary is heard."""
    shared = sorted(
        key for key in config if re.fullmatch(r"(hostpci|usb|parallel|virtiofs)\d+|args|ivshmem|hookscript", key)
    )
    if shared:
        raise Skip(f"guest {vmid} has {', '.join(shared)}, which a copy would share with it: it cannot run beside it")
    if config.get("serial0") != "socket":
        raise Trouble(f"guest {vmid} has no serial0 that is a socket, so its copy's canary could not be heard")


def _disks(config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The guest's disks: the storage that each lies on, and its size in bytes."""
    found = []
    for key, value in config.items():
        text = str(value)
        if DISK.fullmatch(key) and ":" in text.partition(",")[0] and "media=cdrom" not in text:
            size = re.search(r"\bsize=(\d+)([KMGT]?)\b", text)
            found.append((text.partition(":")[0], int(size[1]) * UNITS[size[2]] if size else 0))
    return found


def _room(plan: Plan, node: Node, config: Mapping[str, Any], storage: str, target: str) -> None:
    """The storages take a backup and a copy of all disks, as large as they can become, and the host takes one more
    guest's memory."""
    rows = {str(row["storage"]): row for row in node.get("/nodes/{node}/storage")}
    row = rows.get(storage)
    if row is None or "backup" not in str(row.get("content", "")).split(",") or not row.get("active", 1):
        raise Skip(f"storage {storage} keeps no backups here; give it the content backup, or name another one")
    needed = {storage: sum(size for _store, size in _disks(config))}
    for store, size in _disks(config):
        needed[target or store] = needed.get(target or store, 0) + size
    for store, size in needed.items():
        free = int(rows.get(store, {}).get("avail") or 0)
        if free < size:
            raise Trouble(f"storage {store} has {free >> 20} MiB free, and up to {size >> 20} MiB are needed on it")
    numbers = re.search(r"\d+", str(config.get("memory") or 512))
    memory, free_mib = int(numbers[0]) if numbers else 512, available_mib() or 0
    if free_mib < memory + plan.guards.min_available_mib:
        raise Trouble(f"the host has {free_mib} MiB of memory available, and a copy of the guest needs {memory} MiB")


def _scratch(plan: Plan, node: Node) -> int:
    """A number that no guest has, and no volume of an earlier one."""
    taken = backups.guests(node)
    if plan.options.get("scratch"):
        number = int(plan.options["scratch"])
        if number in taken:
            raise Trouble(f"there is a guest {number} already; name a free number in the option scratch")
    else:
        number = next((number for number in NUMBERS if number not in taken), 0)
        if not number:
            raise Trouble(f"no number from {NUMBERS[0]} to {NUMBERS[-1]} is free; name one in the option scratch")
    if volumes := locks.volumes(node, number):
        raise Trouble(f"there are volumes of an earlier guest {number}: {', '.join(volumes)}; name another number")
    return number


def _backed_up(plan: Plan, vmid: int, storage: str) -> Sign:
    def test(_seen: object, _since: float) -> str | None:
        made = backups.known(plan, backups.BACKUP)
        if "ended" not in made:
            return None
        return f"{made['volid']}, {made['size'] / (1 << 20):.1f} MiB in {made['ended'] - made['began']:.1f} s"

    return Sign(f"there is a backup of guest {vmid} on {storage}", test)


def _works(plan: Plan, copy: Copy) -> Sign:
    """The copy's canary acknowledges writes on its own serial port; how long that took is the time to recover."""

    def test(_seen: object, _since: float) -> str | None:
        made, first = backups.known(plan, backups.RESTORE), copy.first_ack()
        if "started" not in made or first is None:
            return None
        parts = f"{made['restored'] - made['began']:.1f} s until it was restored"
        return f"first acknowledgement after {first - clock.of_this_boot(made['began']):.1f} s (RTO), {parts}"

    return Sign(f"the copy {copy.vmid} works", test)


def _kept(plan: Plan, vmid: int, copy: Copy) -> Sign:
    """Each write that was acknowledged before the backup began is on the copy's disk; what came later is the RPO."""
    told: list[str] = []

    def test(seen: Recorder, _since: float) -> str | None:
        began, again = (backups.known(plan, name).get("began") for name in (backups.BACKUP, backups.RESTORE))
        if began is None or again is None:
            return None
        found = copy.compare(list(seen.heard[vmid].acks), began, again)
        if copy.why and copy.why not in told:
            told.append(copy.why)
            seen.event("runner", f"the copy {copy.vmid}: {copy.why}")
        return found

    return Sign(f"every write of guest {vmid} from before the backup is on the copy", test)


KINDS: dict[str, Prepare] = {"stuck_lock": stuck_lock, "backup_restore": backup_restore}

# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of a guest: create (with or without memory), describe, delete, roll back.

They take several steps that cannot be one, so the configuration tells at every moment how far they got:
``lock: snapshot``, ``snapshot-delete`` or ``rollback`` on the guest, ``snapstate: prepare`` or ``delete`` on the
snapshot. Order and texts are those of PVE::AbstractConfig.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError
from labnode.guests import disks, power, values
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import Drive, drives, parse_drive
from labnode.guests.out import Out

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

NOT_COPIED = frozenset(["snapstate", "snaptime", "vmstate", "lock", "digest", "description"])
STATE_KEYS = power.STATE_KEYS


def find(conf: GuestConfig, name: str) -> Section:
    """The section of a snapshot; ApiError "snapshot 'x' does not exist"."""
    if name not in conf.snapshots:
        raise ApiError(f"snapshot '{name}' does not exist")
    return conf.snapshots[name]


def disks_of(section: Section) -> list[Drive]:
    """Drives whose volumes a snapshot covers."""
    return [drive for drive in drives(section) if not drive.is_cdrom]


def copied(section: Section) -> Section:
    """What of one section goes into another when a snapshot is taken or restored."""
    return {k: v for k, v in section.items() if k not in NOT_COPIED and not k.startswith("unused")}


def listing(conf: GuestConfig, *, running: bool) -> list[dict[str, Any]]:
    """``GET .../snapshot``: every snapshot, the newest first, and ``current``."""
    rows = []
    for name in sorted(conf.snapshots, key=lambda n: _age(conf.snapshots, n), reverse=True):
        snap = conf.snapshots[name]
        row: dict[str, Any] = {
            "name": name,
            "snaptime": int(snap.get("snaptime", "0")),
            "vmstate": 1 if snap.get("vmstate") else 0,
            "description": snap.get("description", ""),
        }
        row.update({key: snap[key] for key in ("parent", "snapstate") if snap.get(key)})
        rows.append(row)
    current = {"name": "current", "digest": conf.digest, "running": int(running), "description": "You are here!"}
    if conf.main.get("parent"):
        current["parent"] = conf.main["parent"]
    return [*rows, current]


def _age(snapshots: Mapping[str, Section], name: str) -> tuple[int, int]:
    """What sorts snapshots by age: their second, and within one their distance from the first of the chain."""
    taken = int(snapshots[name].get("snaptime", "0"))
    chain: list[str] = []
    while name in snapshots and name not in chain:
        chain.append(name)
        name = snapshots[name].get("parent", "")
    return taken, len(chain)


def can_snapshot(g: GuestService, section: Section) -> bool:
    """Whether every disk is on a storage that can."""
    return all(g.storage.feature(drive.file, "snapshot") for drive in disks_of(section))


# create -----------------------------------------------------------------------------------------------------------


async def create(g: GuestService, vmid: int, name: str, out: Out, *, ram: bool, description: str | None) -> None:
    """Take a snapshot; with ``ram`` the memory of a running guest too. What fails half way is undone."""
    snap = await _prepare(g, vmid, name, out, ram=ram, description=description)
    done: list[str] = []
    try:
        async with _still(g, vmid, g.load(vmid).main, snap, out):
            for drive in disks_of(snap):
                out.log(f"snapshotting 'drive-{drive.key}' ({drive.file})")
                await _snapshot_disk(g, vmid, drive, name, out)
                done.append(drive.key)
    except BaseException:
        out.log("snapshot create failed: starting cleanup")
        await _undo(g, vmid, name, done, out)
        raise
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.lock != "snapshot":
            raise ApiError("missing snapshot lock")
        find(conf, name).pop("snapstate", None)
        del conf.main["lock"]
        conf.main["parent"] = name
        g.save(vmid, conf)


async def _prepare(g: GuestService, vmid: int, name: str, out: Out, *, ram: bool, description: str | None) -> Section:
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.is_template:
            raise ApiError("you can't take a snapshot if it's a template")
        g.check_lock(conf)
        if name in conf.snapshots:
            raise ApiError(f"snapshot name '{name}' already used")
        if not can_snapshot(g, conf.main):
            raise ApiError("snapshot feature is not available")
        for other in conf.snapshots.values():
            if other.get("parent") == name:  # a deleted snapshot's name used again must not close a circle
                del other["parent"]
        conf.main["lock"] = "snapshot"
        snap = conf.snapshots[name] = copied(conf.main)
        snap.update({"snapstate": "prepare", "snaptime": str(int(time.time()))})
        if description:
            snap["description"] = description
        if ram and g.running(vmid):
            storage = power.state_storage(g, conf.main)
            snap.update(await power.new_state(g, vmid, conf.main, name=name, storage=storage, out=out))
        g.save(vmid, conf)
        return dict(snap)


@contextlib.asynccontextmanager
async def _still(g: GuestService, vmid: int, main: Section, snap: Section, out: Out) -> AsyncIterator[None]:
    """Hold a running guest still: its memory saved, or its file systems frozen, or just its CPUs stopped."""
    if not g.running(vmid):
        yield
        return
    went = await g.machines.status(vmid) == "running"
    frozen = False
    try:
        if volid := snap.get("vmstate"):
            out.log(f"saving VM state and RAM using storage '{volid.partition(':')[0]}'")
            await g.machines.save_ram(vmid, g.storage.path(volid), log=out.log)
        else:
            frozen = went and await _freeze(g, vmid, main, out)
            if went:
                await g.machines.pause(vmid)
        yield
    finally:
        if went and g.running(vmid):
            await g.machines.cont(vmid)
        if frozen:
            await _thaw(g, vmid, out)


async def _freeze(g: GuestService, vmid: int, main: Section, out: Out) -> bool:
    agent = values.agent(main)
    if not agent or agent.get("freeze-fs") == "0":
        return False
    try:
        await g.machines.agent(vmid, "guest-ping", timeout=3.0)
    except ApiError:
        out.log("skipping guest filesystem freeze - agent configured but not running?")
        return False
    try:
        await g.machines.agent(vmid, "guest-fsfreeze-freeze", timeout=60.0)
    except ApiError as error:
        out.log(error.message)
    return True


async def _thaw(g: GuestService, vmid: int, out: Out) -> None:
    try:
        await g.machines.agent(vmid, "guest-fsfreeze-thaw", timeout=60.0)
    except ApiError as error:
        out.log(f"guest-fsfreeze-thaw problems - {error.message}")


async def _snapshot_disk(g: GuestService, vmid: int, drive: Drive, name: str, out: Out) -> None:
    if g.running(vmid) and g.storage.live_snapshot_by_qemu(drive.file):
        out.log("internal qemu snapshot")
        await g.machines.block_snapshot(vmid, drive.key, name)
    else:
        await g.storage.snapshot(drive.file, name)


async def _undo(g: GuestService, vmid: int, name: str, done: list[str], out: Out) -> None:
    try:
        await _remove(g, vmid, name, out, force=True, only=done)
    except ApiError as error:
        out.log(error.message)


# describe ---------------------------------------------------------------------------------------------------------


async def describe(g: GuestService, vmid: int, name: str, description: str) -> None:
    """Give a snapshot another description."""
    async with g.locked(vmid):
        conf = g.load(vmid)
        g.check_lock(conf)
        find(conf, name)["description"] = description
        g.save(vmid, conf)


# delete -----------------------------------------------------------------------------------------------------------


async def delete(g: GuestService, vmid: int, name: str, out: Out, *, force: bool = False) -> None:
    """Delete a snapshot; with ``force`` from the configuration even where a disk's part cannot be removed."""
    find(g.load(vmid), name)
    await g.set_lock(vmid, "snapshot-delete")
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.is_template:
            raise ApiError("you can't delete a snapshot if vm is a template")
        find(conf, name)["snapstate"] = "delete"
        g.save(vmid, conf)
    await _remove(g, vmid, name, out, force=force)


async def _remove(
    g: GuestService, vmid: int, name: str, out: Out, *, force: bool, only: list[str] | None = None
) -> None:
    """Remove the parts one by one, noting each; then the section. ``only``: disks whose snapshot was really taken."""
    snap = dict(find(g.load(vmid), name))
    unused: list[str] = []
    if volid := snap.get("vmstate"):
        await _try(g.storage.free(volid), force, out)
        await _forget(g, vmid, name, "vmstate")
    for drive in disks_of(snap):
        if only is None or drive.key in only:
            await _try(_delete_disk(g, vmid, drive, name), force, out)
            unused.append(drive.file)
        if not force:
            await _forget(g, vmid, name, drive.key)
    async with g.locked(vmid):
        conf = g.load(vmid)
        parent = find(conf, name).get("parent")
        for section in (conf.main, *conf.snapshots.values()):
            if section.get("parent") == name:
                section.pop("parent")
                if parent:
                    section["parent"] = parent
        del conf.snapshots[name]
        conf.main.pop("lock", None)
        attached = {drive.file for drive in drives(conf.main)}
        for volid in unused:
            if volid not in attached and not disks.in_use(g, conf, volid):
                await disks.add_unused(g, conf.main, volid, out)
        g.save(vmid, conf)


async def _try(doing: Any, force: bool, out: Out) -> None:
    try:
        await doing
    except ApiError as error:
        if not force:
            raise
        out.warn(error.message)


async def _delete_disk(g: GuestService, vmid: int, drive: Drive, name: str) -> None:
    attached = {d.file: d.key for d in drives(g.load(vmid).main)}
    if g.running(vmid) and drive.file in attached and g.storage.live_snapshot_by_qemu(drive.file):
        await g.machines.block_snapshot_delete(vmid, attached[drive.file], name)
    else:
        await g.storage.snapshot_delete(drive.file, name)


async def _forget(g: GuestService, vmid: int, name: str, key: str) -> None:
    """A part of the snapshot is gone: it no longer stands in its section (its volume does, as unused there)."""
    async with g.locked(vmid):
        conf = g.load(vmid)
        section = find(conf, name)
        value = section.pop(key, None)
        if value and key != "vmstate":
            free = next(f"unused{i}" for i in range(256) if f"unused{i}" not in section)
            section[free] = parse_drive(key, value).file
        g.save(vmid, conf)


# rollback ---------------------------------------------------------------------------------------------------------


@dataclass
class _Rollback:
    """A rollback between its two steps."""

    snap: Section
    volumes: list[Drive]


async def rollback(g: GuestService, vmid: int, name: str, out: Out, *, start: bool = False) -> None:
    """Put disks and configuration back; a snapshot with memory runs on afterwards, others only with ``start``."""
    step = await _begin_rollback(g, vmid, name, out)
    for drive in step.volumes:
        await g.storage.snapshot_rollback(drive.file, name)
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.lock != "rollback":
            raise ApiError("got wrong lock")
        state = await _restore_config(g, conf, name, out)
        g.save(vmid, conf)
        if state.get("vmstate"):
            await power.start_from_state(g, vmid, conf, state, out)
    if start and not g.running(vmid):
        await power.start(g, vmid, out)


async def _begin_rollback(g: GuestService, vmid: int, name: str, out: Out) -> _Rollback:
    async with g.locked(vmid):
        conf = g.load(vmid)
        if conf.is_template:
            raise ApiError("you can't rollback if vm is a template")
        snap = find(conf, name)
        found = disks_of(snap)
        for drive in found:
            await g.storage.rollback_is_possible(drive.file, name)
        if snap.get("snapstate"):
            raise ApiError(f"unable to rollback to incomplete snapshot (snapstate = {snap['snapstate']})")
        g.check_lock(conf)
        await power.stop_locked(g, vmid, out)
        conf = g.load(vmid)  # stopping applied what was pending
        conf.main["lock"] = "rollback"
        g.save(vmid, conf)
        return _Rollback(dict(snap), found)


async def _restore_config(g: GuestService, conf: GuestConfig, name: str, out: Out) -> Section:
    """Make the snapshot's options the guest's; the keys of its saved memory. Description and unused volumes stay."""
    snap = find(conf, name)
    kept = {k: v for k, v in conf.main.items() if k.startswith("unused") or k == "description"}
    later = [drive.file for drive in drives(conf.main) if not drive.is_disc]
    then = {drive.file for drive in drives(snap) if not drive.is_disc}
    conf.main = {**kept, **copied(snap), "parent": name}
    conf.pending = {}
    for volid in later:
        if volid not in then:
            await disks.add_unused(g, conf.main, volid, out)
    state = {k: v for k, v in snap.items() if k in STATE_KEYS}
    for key in STATE_KEYS:
        conf.main.pop(key, None)
    if conf.main.get("vmgenid"):
        conf.main["vmgenid"] = values.new_uuid()
    return state

# SPDX-License-Identifier: GPL-3.0-or-later
"""A new guest: from nothing, from an imported image, or from a backup.

The configuration exists with ``lock: create`` before the first volume does, so that work cut off at any moment leaves a
guest that can be seen and destroyed (``POST /nodes/{node}/qemu`` of qemu-server).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError, Forbidden, ParamError
from labnode.guests import access, disks, power, related, values
from labnode.guests import settings as checks
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import Drive, default_boot, render_boot_order
from labnode.guests.options import is_drive, kind, to_text
from labnode.guests.out import Out, Who
from labnode.guests.propstring import words
from labnode.guests.version import qemu_version

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

Restore = Callable[["GuestService", "Create", Out], Awaitable[None]]
CONTROL = words(
    "node vmid archive bwlimit force pool start ha-managed storage unique live-restore import-working-storage"
)


@dataclass
class Create:
    """A checked request for a new guest. ``settings`` are options as text, drives still in the form that allocates."""

    vmid: int
    who: Who
    settings: Section
    control: dict[str, Any] = field(default_factory=dict)

    @property
    def archive(self) -> str | None:
        """The backup to restore, None for a guest made anew."""
        return self.control.get("archive")

    @property
    def storage(self) -> str | None:
        """Where volumes go that name no storage."""
        return self.control.get("storage")

    @property
    def failed(self) -> str:
        """How error texts begin."""
        return f"unable to {'restore' if self.archive else 'create'} VM {self.vmid} -"


def plan(g: GuestService, who: Who, params: dict[str, Any]) -> Create:
    """Check a request as far as it can be checked without changing anything; ApiError, ParamError, Forbidden."""
    control = {k: v for k, v in params.items() if k in CONTROL}
    settings = {k: to_text(v) for k, v in params.items() if k not in CONTROL}
    req = Create(params["vmid"], who, settings, control)
    _may(g, req)
    if req.archive:
        for key in sorted(settings):
            if is_drive(key):
                raise ParamError({key: "option conflicts with option 'archive'"})
    checks.resolve_cdrom(settings)
    checks.check(g, who, req.vmid, settings, pool=control.get("pool"), storage=req.storage)
    return req


def _may(g: GuestService, req: Create) -> None:
    who, vmid, pool = req.who, req.vmid, req.control.get("pool")
    if pool:
        related.check_pool(g, pool)
    if req.storage:
        who.check(f"/storage/{req.storage}", ["Datastore.AllocateSpace"])
    if req.control.get("ha-managed"):
        who.check("/", ["Sys.Console"])
    if req.control.get("start"):
        access.vm_check(who, vmid, ["VM.PowerMgmt"], pool=pool)
    over = req.archive and req.control.get("force") and g.exists(vmid) and who.may(f"/vms/{vmid}", ["VM.Backup"])
    here = who.may(f"/vms/{vmid}", ["VM.Allocate"])
    there = pool and who.may(f"/pool/{pool}", ["VM.Allocate"])
    if not (here or there or over):
        raise Forbidden("Permission check failed")


async def reserve(g: GuestService, req: Create) -> None:
    """Write the configuration that holds the number, locked for the creation."""
    async with g.locked(req.vmid, 5):
        conf = GuestConfig()
        if g.exists(req.vmid):
            if not (req.archive and req.control.get("force")):
                where = f"on node '{g.node.name}'"
                raise ApiError(f"{req.failed} VM {req.vmid} already exists {where}")
            conf = g.load(req.vmid)
            if conf.lock:
                raise ApiError(f"{req.failed} VM is locked ({conf.lock})")
            if conf.main.get("protection") == "1":
                raise ApiError(f"{req.failed} - protection mode enabled")
            if g.running(req.vmid):
                raise ApiError(f"{req.failed} vm is running")
        conf.main["lock"] = "create"
        g.save(req.vmid, conf)


async def work(g: GuestService, req: Create, out: Out) -> None:
    """Make the guest. On failure its volumes and its configuration are gone again."""
    try:
        async with g.locked(req.vmid, 1):
            await _build(g, req, out)
    except BaseException:
        g.remove(req.vmid)
        raise
    await finish(g, req, out)


async def _build(g: GuestService, req: Create, out: Out) -> None:
    settings = req.settings
    settings["meta"] = values.meta(await qemu_version())
    conf = GuestConfig(main=settings)
    if "tags" in settings:
        access.check_tags(g, req.who, req.vmid, "", settings["tags"])
    try:
        made = await disks.make(g, disks.Request(req.vmid, req.who, conf, req.storage), settings, out)
    except ApiError as error:
        raise ApiError(f"{req.failed} {error.task_text()}") from error
    settings.update(made.values)
    if not settings.get("boot"):
        settings["boot"] = render_boot_order(default_boot(settings))
        if not settings["boot"]:
            del settings["boot"]
    settings.setdefault("smbios1", values.smbios_with_uuid())
    if settings.get("vmgenid", "1") == "1":
        settings["vmgenid"] = values.new_uuid()
    if "cipassword" in settings:
        settings["cipassword"] = values.hashed(settings["cipassword"])
    try:
        g.save(req.vmid, conf)
    except OSError as error:
        await disks.free_all(g, made.volids, out)
        raise ApiError(f"{req.failed} {error}") from error


async def finish(g: GuestService, req: Create, out: Out) -> None:
    """What is wished for besides the guest itself: pool, HA, start. A failure here is a warning."""
    if pool := req.control.get("pool"):
        related.add_to_pool(g, req.vmid, pool)
    if req.control.get("ha-managed"):
        out.log("Add as HA resource")
        related.set_ha(g, req.vmid, "started" if req.control.get("start") else "stopped")
    if req.control.get("start"):
        out.log("Execute autostart")
        try:
            await power.start(g, req.vmid, out)
        except ApiError as error:
            out.warn(error.task_text())


def restored_section(g: GuestService, req: Create, old: Section, volumes: dict[str, str]) -> Section:
    """The main section of a restored guest: ``old`` is the one in the backup, ``volumes`` maps drives to new volumes.

    Locks, unused volumes and parents are dropped, drives left out of the backup too; ``unique`` gives new MACs."""
    dropped = ("lock", "parent", "digest")
    main = {k: v for k, v in old.items() if k not in dropped and not k.startswith("unused")}
    for key in [k for k in main if is_drive(k)]:
        drive: Drive = disks.prepared(g, key, main[key])
        if key in volumes:
            drive.options.pop("format", None)
            drive.file = volumes[key]
            main[key] = str(drive)
        elif drive.options.get("backup") == "0":
            del main[key]
    if main.get("vmgenid", "0") != "0":
        main["vmgenid"] = values.new_uuid()
    if req.control.get("unique"):
        for key in [k for k in main if kind(k) == "net"]:
            main[key] = values.fresh_mac(main[key], g.mac_prefix())
        main["smbios1"] = values.smbios_with_uuid(main.get("smbios1", ""))
    return {**main, **req.settings}

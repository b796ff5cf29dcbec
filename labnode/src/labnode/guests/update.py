# SPDX-License-Identifier: GPL-3.0-or-later
"""Change a guest's options (PUT and POST ``.../config``).

Every change first goes to ``[PENDING]``, then what can take effect does: all of it on a stopped guest, the pluggable
part on a running one (``update_vm_api`` of qemu-server). Drives are made before anything else is written, so a request
that fails for want of space has changed nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labnode.errors import ApiError, ParamError
from labnode.guests import access, apply, disks, hotplug, options, pending, values
from labnode.guests import settings as checks
from labnode.guests.configfile import GuestConfig, Section
from labnode.guests.drive import boot_order, parse_drive, render_boot_order
from labnode.guests.out import Out, Who
from labnode.guests.propstring import Format, PropertyError, parse, split_list

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

CONTROL = frozenset(
    ["node", "vmid", "digest", "background_delay", "delete", "revert", "force", "skiplock", "import-working-storage"]
)


@dataclass
class Update:
    """A checked request to change a guest. ``settings`` are options as text; ``said`` is for the task's log."""

    vmid: int
    who: Who
    settings: Section
    delete: list[str] = field(default_factory=list)
    revert: list[str] = field(default_factory=list)
    digest: str = ""
    force: bool = False
    skiplock: bool = False
    said: str = ""


def plan(g: GuestService, who: Who, params: Mapping[str, Any]) -> Update:
    """Check a request as far as it can be checked without changing anything; ApiError, ParamError, Forbidden."""
    settings = {k: options.to_text(v) for k, v in params.items() if k not in CONTROL}
    access.root_only(who, "skiplock", params.get("skiplock"))
    checks.resolve_cdrom(settings)
    revert = split_list(params.get("revert", ""))
    delete = ["ide2" if key == "cdrom" else key for key in split_list(params.get("delete", ""))]
    if not (settings or revert or delete):
        raise ApiError("no options specified")
    _check_lists(settings, delete, revert)
    req = Update(
        vmid=params["vmid"],
        who=who,
        settings=settings,
        delete=delete,
        revert=revert,
        digest=params.get("digest", ""),
        force=bool(params.get("force")),
        skiplock=bool(params.get("skiplock")),
        said=_said(params),
    )
    _check_settings(g, req)
    _checked_config(g, req)
    return req


def _said(params: Mapping[str, Any]) -> str:
    hidden = ("node", "vmid", "digest", "background_delay", "import-working-storage")
    shown = {k: "<hidden>" if k == "cipassword" else options.to_text(v) for k, v in params.items() if k not in hidden}
    return " ".join(f"-{key} {value}" for key, value in sorted(shown.items()))


def _check_lists(settings: Section, delete: list[str], revert: list[str]) -> None:
    for name, keys in (("revert", revert), ("delete", delete)):
        for key in keys:
            if not options.exists(key):
                raise ParamError({name: f"unknown option '{key}'"})
            if key in settings:
                raise ParamError({"delete": f"you can't use '-{key}' and -{name} {key}' at the same time"})
    for key in delete:
        if key in revert:
            raise ParamError({"revert": f"you can't use '-delete {key}' and -revert {key}' at the same time"})


def _check_settings(g: GuestService, req: Update) -> None:
    access.check_options(req.who, req.vmid, req.delete)
    checks.check(g, req.who, req.vmid, req.settings)
    if req.settings.get("vmgenid") == "1":
        req.settings["vmgenid"] = values.new_uuid()


def _checked_config(g: GuestService, req: Update) -> GuestConfig:
    """The configuration, if the request still fits it."""
    conf = g.load(req.vmid)
    if req.digest and req.digest != conf.digest:
        raise ApiError("checksum mismatch (file change by other user?)")
    state_goes = "vmstate" in req.delete and conf.lock == "suspended"
    if not (req.skiplock or state_goes):
        g.check_lock(conf)
    if "memory" in req.settings or "balloon" in req.settings:
        after = {**conf.main, **conf.pending, **req.settings}
        if int(after.get("balloon", "0")) > values.memory_mib(after):
            raise ApiError("balloon value too large (must be smaller than assigned memory)")
    return conf


async def work(g: GuestService, req: Update, out: Out) -> None:
    """Make the change. ParamError at the end names options that could not be changed on the running guest."""
    async with g.locked(req.vmid):
        conf = _checked_config(g, req)
        out.log(f"update VM {req.vmid}: {req.said}")
        modified = await _write_pending(g, req, conf, out)
        if pending.cleanup(conf):
            g.save(req.vmid, conf)
        await take_effect(g, req.vmid, conf, req.who, out, only=modified)


async def take_effect(g: GuestService, vmid: int, conf: GuestConfig, who: Who, out: Out, *, only: set[str]) -> None:
    """Apply what is pending, as far as the guest's state lets it; ParamError names what went wrong. Hold the flock."""
    if not conf.pending:
        return
    if g.running(vmid):
        errors = await hotplug.hotplug_pending(g, vmid, conf, who, out, only=only)
    else:
        errors = await apply.apply_pending(g, vmid, conf, out, who=who)
    if errors:
        raise ParamError(errors)


async def _write_pending(g: GuestService, req: Update, conf: GuestConfig, out: Out) -> set[str]:
    settings = req.settings
    delete = list(req.delete)
    if "vmstate" in delete and conf.lock == "suspended":
        delete += ["lock", *(k for k in ("runningmachine", "runningcpu", "running-nets-host-mtu") if k in conf.main)]
    for key in req.revert:
        if key in conf.main:
            settings[key] = conf.main[key]
        elif key in conf.pending:
            delete.append(key)
    order = boot_order(conf.main)
    modified = {*settings, *delete}
    for key in sorted(k for k in settings if options.is_drive(k)):
        await _drive(g, req, conf, key, out)
        if order and key not in order and parse_drive(key, conf.pending[key]).is_disc:
            order.append(key)
            conf.pending["boot"] = render_boot_order(order)
            modified.add("boot")
    for key in delete:
        if await _delete(g, req, conf, key, out) and key in order:
            order.remove(key)
            _shorten_boot(conf, order)
            modified.add("boot")
    for key in sorted(k for k in settings if not options.is_drive(k)):
        _set(g, req, conf, key, settings)
    g.save(req.vmid, conf)
    return modified


def _shorten_boot(conf: GuestConfig, order: list[str]) -> None:
    if order:
        conf.pending["boot"] = render_boot_order(order)
    else:
        conf.pending.pop("boot", None)
        pending.add_delete(conf, "boot")


async def _drive(g: GuestService, req: Update, conf: GuestConfig, key: str, out: Out) -> None:
    value = req.settings[key]
    if conf.pending.get(key) == value:
        return
    if key in conf.main:
        access.check_drive(req.who, req.vmid, key, conf.main[key])
        _same_tpm(key, conf.main[key], value)
    access.check_drive(req.who, req.vmid, key, value)
    if key in conf.pending:
        await disks.detach(g, req.vmid, conf, parse_drive(key, conf.pending[key]), out)
    made = await disks.make(g, disks.Request(req.vmid, req.who, conf), {key: value}, out)
    conf.pending.update(made.values)
    pending.remove_delete(conf, key)
    g.save(req.vmid, conf)


def _same_tpm(key: str, old: str, new: str) -> None:
    if key != "tpmstate0":
        return
    before, after = parse_drive(key, old), parse_drive(key, new)
    versions = {drive.options.get("version", "v1.2") for drive in (before, after)}
    if before.file == after.file and len(versions) > 1:
        raise ApiError("cannot change TPM state version after creation")


async def _delete(g: GuestService, req: Update, conf: GuestConfig, key: str, out: Out) -> bool:
    """Let an option wait to be deleted (or delete it, where that needs no waiting); False when it is not set."""
    value = conf.main.get(key, conf.pending.get(key))
    if value is None:
        out.log(f"cannot delete '{key}' - not set in current configuration!")
        return False
    waited = conf.pending.pop(key, None)
    req_disks = disks.Request(req.vmid, req.who, conf)
    if options.is_unused(key):
        drive = parse_drive(key, value)
        g.check_protection(conf, f"can't remove unused disk '{drive.file}'")
        access.vm_check(req.who, req.vmid, ["VM.Config.Disk"])
        await disks.deallocate(g, req_disks, drive, out)
        conf.main.pop(key, None)
    elif key == "vmstate":
        g.check_protection(conf, f"can't remove vmstate '{value}'")
        await disks.deallocate(g, req_disks, parse_drive(key, value), out)
        conf.main.pop(key, None)
    elif options.is_drive(key):
        g.check_protection(conf, f"can't remove drive '{key}'")
        access.check_drive(req.who, req.vmid, key, value)
        if waited is not None:
            await disks.detach(g, req.vmid, conf, parse_drive(key, waited), out)
        pending.add_delete(conf, key, req.force)
    else:
        access.check_value(req.who, req.vmid, key, value)
        access.check_bridges(req.who, {key: value})
        if key == "tags":
            access.check_tags(g, req.who, req.vmid, value, "")
        pending.add_delete(conf, key, req.force)
    g.save(req.vmid, conf)
    return True


def _set(g: GuestService, req: Update, conf: GuestConfig, key: str, settings: Section) -> None:
    value = settings[key]
    if key in conf.main:
        access.check_value(req.who, req.vmid, key, conf.main[key])
        access.check_bridges(req.who, {key: conf.main[key]})
    if key == "tags":
        access.check_tags(g, req.who, req.vmid, conf.main.get("tags", ""), value)
        style = g.datacenter().get("tag-style", "")
        value = values.unique_tags(
            value, case_sensitive="case-sensitive=1" in style, keep_order="ordering=config" in style
        )
    elif key == "cipassword":
        value = values.hashed(value)
    elif key == "boot":
        value = _boot(req, conf, value, settings)
    conf.pending[key] = value
    pending.remove_delete(conf, key)


def _boot(req: Update, conf: GuestConfig, value: str, settings: Section) -> str:
    try:
        order = parse(value, Format("legacy")).get("order")
    except PropertyError as error:
        raise ParamError({"boot": f"invalid format - {error}\n"}) from None
    if order is None:
        return value
    devices = split_list(order)
    for dev in devices:
        there = dev in conf.main or dev in conf.pending or dev in settings
        if not there or dev in req.delete:
            raise ApiError(f"invalid bootorder: device '{dev}' does not exist'")
    if "bootdisk" in conf.main:
        pending.add_delete(conf, "bootdisk")
    return render_boot_order(devices)

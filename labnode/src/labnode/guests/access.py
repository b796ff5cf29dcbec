# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may change which option of a guest (facts from ``check_vm_modify_config_perm`` of qemu-server)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labnode.access import volumes
from labnode.errors import ApiError, Forbidden, ParamError
from labnode.guests import options
from labnode.guests.drive import Drive, parse_drive
from labnode.guests.out import Who
from labnode.guests.propstring import Format, PropertyError, parse
from labnode.guests.values import parse_net
from labnode.schema.formats import split_list

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

_ANY = Format("host")


def vm_check(who: Who, vmid: int, privs: list[str], *, pool: str | None = None, any_of: bool = False) -> None:
    """Privileges on the guest, or on the pool it is about to join."""
    if pool and who.may(f"/pool/{pool}", privs, any_of=any_of):
        return
    who.check(f"/vms/{vmid}", privs, any_of=any_of)


def root_only(who: Who, name: str, value: object) -> None:
    """ParamError unless root@pam itself gives this parameter."""
    if value and not who.is_root:
        raise ParamError({name: "Only root may use this option."})


def check_options(who: Who, vmid: int, keys: Iterable[str], *, pool: str | None = None) -> None:
    """Every option that is to change, by its name; those whose value decides are left to ``check_value``."""
    if who.is_root:
        return
    for key in keys:
        privilege = options.privilege(key)
        if privilege == options.ROOT:
            raise ApiError(f"only root can set '{key}' config")
        if privilege == "VM.Config.Cloudinit":
            vm_check(who, vmid, ["VM.Config.Cloudinit", "VM.Config.Network"], pool=pool, any_of=True)
        elif key == "vmstate":
            vm_check(who, vmid, ["VM.Config.Disk", "VM.PowerMgmt"], pool=pool)
        elif privilege:
            vm_check(who, vmid, [privilege], pool=pool)
        if key == "startup":
            who.check("/", ["Sys.Modify"])


def check_value(who: Who, vmid: int, key: str, value: str, *, pool: str | None = None) -> None:
    """Serial ports, USB and PCI devices, random number sources and shared directories: it depends on what they name."""
    kind = options.kind(key)
    if who.is_root or kind not in ("serial", "parallel", "usb", "hostpci", "rng0", "virtiofs"):
        return
    values = parse(value, _ANY)
    if kind == "serial":
        if value != "socket":
            raise ApiError(f"only root can set '{key}' config for real devices")
        vm_check(who, vmid, ["VM.Config.HWType"], pool=pool)
    elif kind == "virtiofs":
        vm_check(who, vmid, ["VM.Config.Disk"], pool=pool)
        who.check(f"/mapping/dir/{values.get('dirid', values.get('host', ''))}", ["Mapping.Use"])
    else:
        vm_check(who, vmid, ["VM.Config.HWType"], pool=pool)
        _check_device(who, key, kind, values)


def _check_device(who: Who, key: str, kind: str, values: Mapping[str, str]) -> None:
    if kind == "rng0":
        if values.get("source", values.get("host")) == "/dev/hwrng":
            who.check("/mapping/hwrng", ["Mapping.Use"])
    elif "mapping" in values:
        who.check(f"/mapping/{'usb' if kind == 'usb' else 'pci'}/{values['mapping']}", ["Mapping.Use"])
    elif values.get("host", "").lower() != "spice":
        raise ApiError(f"only root can set '{key}' config for real devices")


def check_tags(g: GuestService, who: Who, vmid: int, old: str, new: str) -> None:
    """Tags that come or go: registered ones, and others where tags are not free, take an administrator
    (``assert_tag_permissions`` of pve-guest-common)."""
    who.check(f"/vms/{vmid}", ["VM.Config.Options"])
    if who.may("/", ["Sys.Modify"]):
        return
    datacenter = g.datacenter()
    registered = set(split_list(datacenter.get("registered-tags", "")))
    rules = parse(datacenter.get("user-tag-access", ""), _ANY)
    allow = rules.get("user-allow", "free")
    known = set() if allow == "none" else set(split_list(rules.get("user-allow-list", "")))
    if allow == "existing":
        seen = (v for v in g.vmids() if who.may(f"/vms/{v}", ["VM.Audit"]))
        known = known.union(*(split_list(g.load(v).main.get("tags", "")) for v in seen))
    for tag in sorted(set(split_list(old)) ^ set(split_list(new))):
        if tag in registered or (allow != "free" and tag not in known):
            raise Forbidden(f"Permission check failed (/, Sys.Modify for modifying tag '{tag}')")


def check_bridges(who: Who, section: Mapping[str, str]) -> None:
    """SDN.Use on every bridge a NIC joins, or on the VLAN of it."""
    for key, value in section.items():
        if options.kind(key) != "net" or who.is_root:
            continue
        try:
            net = parse_net(value)
        except PropertyError:
            continue
        bridge, tag = net.get("bridge"), net.get("tag")
        if bridge:
            who.check(f"/sdn/zones/localnetwork/{bridge}" + (f"/{tag}" if tag else ""), ["SDN.Use"])


def check_drive(who: Who, vmid: int, key: str, value: str) -> None:
    """The privilege to change this drive: by what is in it (cloud-init, a CD, a disk)."""
    drive = parse_drive(key, value)
    if drive.is_cloudinit:
        vm_check(who, vmid, ["VM.Config.Cloudinit", "VM.Config.CDROM"])
    else:
        vm_check(who, vmid, ["VM.Config.CDROM" if drive.is_cdrom else "VM.Config.Disk"])


def check_volume(g: GuestService, who: Who, vmid: int, volid: str) -> None:
    """Whether the user may use a volume that exists; a path of the host only root may name."""
    if who.is_root:
        return
    if volid.startswith("/"):
        raise Forbidden("Only root can pass arbitrary filesystem paths.")
    volumes.check_volume(who, g.storage.parse(volid), vmid)


def check_storage(
    g: GuestService, who: Who, vmid: int, drives: Iterable[Drive], default_storage: str | None = None
) -> None:
    """Every storage and volume that new drives name: it exists, carries images, and the user may use it."""
    for drive in drives:
        if drive.file in ("none", "cloudinit") or drive.is_cloudinit:
            continue
        if drive.is_cdrom and drive.file == "cdrom":
            who.check("/", ["Sys.Console"])
        elif not drive.is_cdrom and drive.new_disk:
            storeid = drive.new_disk[0] or default_storage
            if not storeid:
                raise ApiError("no storage ID specified (and no default storage)")
            who.check(f"/storage/{storeid}", ["Datastore.AllocateSpace"])
            content = g.storage.definition(storeid).options.get("content", "images")
            if "images" not in content.split(","):
                raise ParamError({"storage": f"storage '{storeid}' does not support vm images"})
        else:
            check_volume(g, who, vmid, drive.file)
            if drive.storeid and g.storage.parse(drive.file).kind not in ("images", "iso"):
                raise ParamError({drive.key: "content type needs to be 'images' or 'iso'"})
        if source := drive.options.get("import-from"):
            _check_source(g, who, vmid, drive.key, source)


def _check_source(g: GuestService, who: Who, vmid: int, key: str, source: str) -> None:
    if source.startswith("/"):
        check_volume(g, who, vmid, source)
        return
    volume = g.storage.parse(source)
    if volume.kind not in ("images", "import"):
        raise ParamError({key: f"{source} has wrong type '{volume.kind}' - needs to be 'images' or 'import'"})
    if volume.kind == "images" and volume.vmid:
        who.check(f"/vms/{volume.vmid}", ["VM.Clone"])
    else:
        check_volume(g, who, vmid, source)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer files for the unattended installation of Proxmox VE: the keys, and what holds between them.

The rules are those of the installer itself (``proxmox-auto-installer`` and ``validate-answer`` of
``proxmox-auto-install-assistant``, 8.2 to 9.2) and a few more that it would only trip over on the machine. Keys may be
given with dashes or underscores; ``answer_toml`` writes them as the installer of a release wants them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Any, TypeAlias

from . import answer_values as values
from .answer_places import COUNTRIES, KEYBOARDS
from .steps import Failure

Version: TypeAlias = tuple[int, int]
FIRST: Version = (8, 2)
SECRET = frozenset(
    {
        "global.root-password",
        "global.root-password-hashed",
        "global.root_password",
        "global.root_password_hashed",
        "global.subscription-key",
        "post-installation-webhook.auth-token",
    }
)


@dataclass(frozen=True)
class Key:
    """One key: how its value is checked, the first release that knows it, and whether it has to be there."""

    check: values.Check | Table
    since: Version = FIRST
    required: bool = False


Table: TypeAlias = Mapping[str, Key]

_WEBHOOK: Table = {
    "url": Key(values.url, required=True),
    "cert-fingerprint": Key(values.fingerprint),
    "auth-token": Key(values.text, since=(9, 2)),
}
_FIRST_BOOT: Table = {
    "source": Key(values.one_of("from-iso", "from-url"), required=True),
    "ordering": Key(values.one_of("before-network", "network-online", "fully-up")),
    "url": Key(values.url),
    "cert-fingerprint": Key(values.fingerprint),
}
_PINNING: Table = {
    "enabled": Key(values.flag, required=True),
    "mapping": Key(values.pins),
}
_LVM: Table = {
    "hdsize": Key(values.disk_size),
    "swapsize": Key(values.size),
    "maxroot": Key(values.size),
    "maxvz": Key(values.size),
    "minfree": Key(values.size),
}
_ZFS: Table = {
    "raid": Key(values.level("raid0", "raid1", "raid10", "raidz-1", "raidz-2", "raidz-3"), required=True),
    "ashift": Key(values.whole(9, 16, "")),
    "arc-max": Key(values.whole(64, 1 << 24, "of MiB ")),
    "checksum": Key(values.one_of("on", "fletcher4", "sha256")),
    "compress": Key(values.one_of("on", "off", "lzjb", "lz4", "zle", "gzip", "zstd")),
    "copies": Key(values.whole(1, 3, "")),
    "hdsize": Key(values.disk_size),
}
_BTRFS: Table = {
    "raid": Key(values.level("raid0", "raid1", "raid10"), required=True),
    "compress": Key(values.one_of("on", "off", "zlib", "lzo", "zstd"), since=(8, 3)),
    "hdsize": Key(values.disk_size),
}
_GLOBAL: Table = {
    "keyboard": Key(values.one_of(*KEYBOARDS), required=True),
    "country": Key(values.country(COUNTRIES), required=True),
    "timezone": Key(values.timezone, required=True),
    "mailto": Key(values.mail, required=True),
    "root-password": Key(values.text),
    "root-password-hashed": Key(values.hashed_password, since=(8, 3)),
    "root-ssh-keys": Key(values.ssh_keys),
    "reboot-on-error": Key(values.flag),
    "reboot-mode": Key(values.one_of("reboot", "power-off"), since=(8, 4)),
    "subscription-key": Key(values.subscription, since=(9, 2)),
    "fqdn": Key(values.fqdn_or_source, required=True),
}
_NETWORK: Table = {
    "source": Key(values.one_of("from-dhcp", "from-answer")),
    "cidr": Key(values.cidr),
    "gateway": Key(values.address),
    "dns": Key(values.address),
    "filter": Key(values.udev_filter),
    "interface-name-pinning": Key(_PINNING, since=(9, 1)),
}
_DISKS: Table = {
    "filesystem": Key(values.one_of("ext4", "xfs", "zfs", "btrfs"), required=True),
    "disk-list": Key(values.disks),
    "filter": Key(values.udev_filter),
    "filter-match": Key(values.one_of("any", "all")),
    "lvm": Key(_LVM),
    "zfs": Key(_ZFS),
    "btrfs": Key(_BTRFS),
}
_ANSWER: Table = {
    "global": Key(_GLOBAL, required=True),
    "network": Key(_NETWORK, required=True),
    "disk-setup": Key(_DISKS, required=True),
    "post-installation-webhook": Key(_WEBHOOK, since=(8, 3)),
    "first-boot": Key(_FIRST_BOOT, since=(8, 3)),
}
# How many disks a RAID level needs, of ZFS and of Btrfs.
_LEAST_DISKS = {"raid0": 1, "raid1": 2, "raid10": 4, "raidz-1": 3, "raidz-2": 4, "raidz-3": 5}


def release(text: str) -> Version:
    """Of "9.1" (9, 1). Raises Failure for what is no release with an installer that takes answer files."""
    major, _dot, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()):
        raise Failure(f"version is {text!r} and should be the release on the ISO, such as '9.1', in quotes.")
    if (found := (int(major), int(minor))) < FIRST:
        raise Failure(f"version is {text}, and answer files are known since Proxmox VE 8.2. Use a newer ISO.")
    return found


def checked(given: Any, version: Version) -> dict[str, Any]:
    """The answer with its keys as the documentation writes them, in a fixed order, and every value checked.

    Raises Failure with the first thing that the installer of ``version`` would refuse or trip over.
    """
    found = _table("the answer", given, _ANSWER, version)
    if isinstance(found["global"]["fqdn"], Mapping):
        _known("global.fqdn as a table", (8, 4), version)
    _passwords(found["global"], version)
    _network(found["network"])
    _disks(found["disk-setup"])
    _first_boot(found.get("first-boot", {}))
    for section in ("post-installation-webhook", "first-boot"):
        _pinned(section, found.get(section, {}))
    return found


def _table(path: str, given: Any, keys: Table, version: Version) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise Failure(f"{path} is {values.kind(given)} and should be a table with {', '.join(keys)}.")
    inside = "" if path == "the answer" else f"{path}."
    found: dict[str, Any] = {}
    for name, value in given.items():
        key = str(name).replace("_", "-")
        if key not in keys:
            raise Failure(f"{inside}{name} is no key of the installer{values.meant(key, keys)}. Remove or rename it.")
        if key in found:
            raise Failure(f"{inside}{key} is there twice, with a dash and with an underscore. Leave one out.")
        # An empty list or filter is none, as the installer has it; an empty section lacks what it must have.
        if value is not None and not (callable(keys[key].check) and value in ([], {})):
            found[key] = _value(f"{inside}{key}", value, keys[key], version)
    missing = [f"{inside}{key}" for key, rule in keys.items() if rule.required and key not in found]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise Failure(f"{' and '.join(missing)} {verb} missing. The installer has no default for it.")
    return {key: found[key] for key in keys if key in found}


def _value(path: str, value: Any, rule: Key, version: Version) -> Any:
    _known(path, rule.since, version)
    return rule.check(path, value) if callable(rule.check) else _table(path, value, rule.check, version)


def _known(path: str, since: Version, version: Version) -> None:
    if version < since:
        raise Failure(
            f"{path} is known since Proxmox VE {since[0]}.{since[1]} only, and this is for "
            f"{version[0]}.{version[1]}. Leave it out or use a newer ISO."
        )


def _passwords(section: Mapping[str, Any], version: Version) -> None:
    plain, hashed = section.get("root-password"), section.get("root-password-hashed")
    if plain is not None and hashed is not None:
        raise Failure("global.root-password and global.root-password-hashed are both there. Keep the hashed one.")
    if plain is None and hashed is None:
        raise Failure("global.root-password-hashed is missing. Give it, or root-password, which is hashed here.")
    least = 8 if version >= (8, 4) else 5
    if plain is not None and len(plain.encode()) < least:
        raise Failure(f"global.root-password has fewer than {least} characters, which the installer refuses.")


def _network(section: Mapping[str, Any]) -> None:
    by_hand = ("cidr", "gateway", "dns", "filter")
    if section.get("source") != "from-answer":
        given = [key for key in by_hand if key in section]
        if given:
            raise Failure(f"network.{given[0]} is not for source from-dhcp. Remove it or use source from-answer.")
        return
    missing = [f"network.{key}" for key in by_hand if key not in section]
    if missing:
        raise Failure(f"{' and '.join(missing)} must be there with source from-answer. Give it or use from-dhcp.")
    own, gateway = ip_interface(section["cidr"]), ip_address(section["gateway"])
    if own.version != gateway.version:
        raise Failure(
            f"network.gateway is {gateway}, of another family than network.cidr. Give one of IPv{own.version}."
        )
    if own.ip == gateway:
        raise Failure(f"network.gateway is {gateway}, the host's own address. Give the address of the router.")
    alone = own.network.prefixlen == own.max_prefixlen
    if gateway not in own.network and not gateway.is_link_local and not alone:
        raise Failure(f"network.gateway is {gateway}, outside of {own.network}. Correct it or network.cidr.")


def _disks(section: Mapping[str, Any]) -> None:
    system, listed = section["filesystem"], section.get("disk-list", [])
    if bool(listed) == ("filter" in section):
        wrong = "are both there" if listed else "are both missing"
        raise Failure(f"disk-setup.disk-list and disk-setup.filter {wrong}. Choose the disks by one of them.")
    if listed and "filter-match" in section:
        raise Failure("disk-setup.filter-match belongs to disk-setup.filter, which is not there. Remove it.")
    own = "lvm" if system in ("ext4", "xfs") else system
    other = next((f"disk-setup.{key}" for key in ("lvm", "zfs", "btrfs") if key in section and key != own), None)
    if other:
        raise Failure(f"{other} is not for filesystem {system}. Remove it or change the file system.")
    if own == "lvm":
        _lvm(section.get("lvm", {}), listed, system)
    else:
        _raid(own, section.get(own, {}).get("raid"), listed)


def _lvm(options: Mapping[str, Any], listed: list[str], system: str) -> None:
    if len(listed) > 1:
        raise Failure(f"disk-setup.disk-list names {len(listed)} disks, and {system} is put on one. Name that one.")
    whole, swap = options.get("hdsize"), options.get("swapsize")
    if whole is not None and swap is not None and swap > whole / 2:
        raise Failure(
            f"disk-setup.lvm.swapsize is {swap} GiB, more than half of hdsize ({whole} GiB). Make it smaller."
        )


def _raid(system: str, raid: str | None, listed: list[str]) -> None:
    if raid is None:
        raise Failure(f"disk-setup.{system}.raid is missing. Use raid0 for a single disk.")
    least = _LEAST_DISKS[raid]
    if listed and len(listed) < least:
        raise Failure(
            f"disk-setup.disk-list names {len(listed)} disks, and {raid} of {system} needs {least}. Add some."
        )
    if raid == "raid10" and len(listed) % 2:
        raise Failure(
            f"disk-setup.disk-list names {len(listed)} disks, and raid10 takes them in pairs. Add or drop one."
        )


def _first_boot(section: Mapping[str, Any]) -> None:
    if section.get("source") == "from-url" and "url" not in section:
        raise Failure("first-boot.url is missing, and first-boot.source is from-url. Give it, or use from-iso.")
    stray = next((key for key in ("url", "cert-fingerprint") if key in section), None)
    if section.get("source") == "from-iso" and stray:
        raise Failure(f"first-boot.{stray} is not for source from-iso. Remove it or use source from-url.")


def _pinned(path: str, section: Mapping[str, Any]) -> None:
    if "cert-fingerprint" in section and not str(section.get("url", "")).lower().startswith("https:"):
        raise Failure(
            f"{path}.cert-fingerprint says which certificate to trust, but {path}.url is not https. Change it."
        )

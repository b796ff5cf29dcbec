# SPDX-License-Identifier: GPL-3.0-or-later
"""Named string formats: what Proxmox VE accepts under each name, and what it says otherwise.

A checker takes a value and returns None or the text of the refusal, without trailing newline. Facts from pve-common
(JSONSchema.pm), pve-access-control, pve-storage (Plugin.pm), qemu-server, pve-firewall and pve-ha-manager.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from labnode import privileges

Checker = Callable[[str], str | None]

STORAGE_ID = r"[A-Za-z][A-Za-z0-9\-_.]*[A-Za-z0-9]"
NODE_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?"
_EMAIL_USER = r"[\w+\-~]+(?:\.[\w+\-~]+)*"
_EMAIL = _EMAIL_USER + r"@[a-zA-Z0-9\-]+(?:\.[a-zA-Z0-9\-]+)*"
_DNS = rf"(?:{NODE_NAME}\.)*{NODE_NAME}"
_CALENDAR = r"[0-9a-zA-Z*,./:\- ]+"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_\-+.]*"
_CPUSET = r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*"
_BOOT_DEVICE = (
    r"(?:ide[0-3]|sata[0-5]|scsi(?:[12]?\d|30)|virtio(?:1[0-5]|\d)|net(?:[12]?\d|3[01])|usb\d+|hostpci\d+|unused\d+)"
)
CONTENT_TYPES = ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none")


def split_list(text: str) -> list[str]:
    """Items of a list parameter: separated by comma, semicolon, blanks or NUL."""
    if "\0" in text:
        return [item for item in text.split("\0") if item]
    return re.sub(r"[,;]", " ", text).split()


def matching(pattern: str, refusal: str, *, flags: int = 0) -> Checker:
    """A checker for values that match a whole pattern; ``{}`` in the refusal stands for the value."""
    regex = re.compile(pattern, flags | re.ASCII)
    return lambda value: None if regex.fullmatch(value) else refusal.replace("{}", value)


def is_ip(text: str, version: int | None = None) -> bool:
    """Whether the text is an IP address (of the version, if one is given)."""
    try:
        return version in (None, ipaddress.ip_address(text).version) and "%" not in text
    except ValueError:
        return False


def is_number(value: str) -> bool:
    """Digits and nothing else; Python also counts '¹' among the digits, and reads other scripts' as numbers."""
    return value.isascii() and value.isdigit()


def is_cidr(text: str, version: int | None = None) -> bool:
    """An address with a prefix of 8 bits or more, host bits allowed."""
    address, slash, bits = text.partition("/")
    if not (slash and is_number(bits) and is_ip(address, version)):
        return False
    return 7 < int(bits) <= (128 if ":" in address else 32)


def that(test: Callable[[str], bool], refusal: str) -> Checker:
    """A checker from a predicate."""
    return lambda value: None if test(value) else refusal.replace("{}", value)


def _identifier(kind: str) -> Checker:
    def check(value: str) -> str | None:
        if len(value) < 2:
            return f"{kind} ID '{value}' cannot be shorter than 2 characters"
        return None if re.fullmatch(STORAGE_ID, value) else f"{kind} ID '{value}' contains illegal characters"

    return check


def _sdn_id(kind: str, longest: int) -> Checker:
    def check(value: str) -> str | None:
        if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9]*[a-zA-Z0-9]", value, re.ASCII):
            return f"{kind} ID '{value}' contains illegal characters"
        return f"{kind} ID '{value}' can't be more length than {longest} characters" if len(value) > longest else None

    return check


def _userid(value: str) -> str | None:
    if len(value) < 3:
        return f"user name '{value}' is too short"
    if len(value) > 64:
        return f"user name '{value}' is too long ({len(value)} > 64)"
    if re.fullmatch(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+", value):
        return None
    return f"value '{value}' does not look like a valid user name"


def _tokenid(value: str) -> str | None:
    user, bang, name = value.rpartition("!")
    if bang and _userid(user) is None and re.fullmatch(r"[A-Za-z][A-Za-z0-9.\-_]+", name):
        return None
    return f"value '{value}' does not look like a valid token ID"


def _poolid(value: str) -> str | None:
    if len(value.split("/")) > 3:
        return f"pool name '{value}' nested too deeply (max levels = 3)"
    if re.fullmatch(r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}", value):
        return None
    return f"pool name '{value}' contains invalid characters"


def _vlan(value: str) -> str | None:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", value, re.ASCII)
    if not match:
        return f"invalid VLAN configuration '{value}'"
    tags = [tag for tag in match.groups() if tag]
    for tag in tags:
        if not 2 <= int(tag) <= 4094:
            return f"invalid VLAN tag '{tag}'"
    if len(tags) == 2 and int(tags[0]) >= int(tags[1]):
        return f"VLAN range must go from lower to higher tag '{value}'"
    return None


def _startup(value: str) -> str | None:
    parts = [part for part in value.split(",") if part.strip()]
    good = value and all(re.fullmatch(r"(?:order=|up=|down=)?\d+", part, re.ASCII) for part in parts)
    return None if good else "unable to parse startup options"


def _hotplug(value: str) -> str | None:
    if value in ("0", "1"):
        return None
    for feature in split_list(value):
        if feature not in ("network", "disk", "cpu", "memory", "usb", "cloudinit"):
            return f"invalid hotplug feature '{feature}'"
    return None


def _id_pair(kind: str, unit: Checker) -> Checker:
    def check(value: str) -> str | None:
        for part in [] if value == "1" else value.split(":", 1):
            refusal = unit(part)
            if refusal:
                return f"entry '{value}' contains invalid ID - {refusal}"
        return None

    return check


def _volume_or_path(value: str) -> str | None:
    return None if value.startswith("/") else FORMATS["pve-volume-id"](value)


def _command_batch(value: str) -> str | None:
    return None if value.lstrip().startswith("[") else "value is not a valid JSON array of commands"


def _dir_override(value: str) -> str | None:
    kind, equals, path = value.partition("=")
    good = equals and kind in CONTENT_TYPES and ".." not in path and 0 < len(path) < 1023
    return None if good else f"invalid override '{value}'"


def _subnet(value: str) -> str | None:
    cidr = value if "/" in value else "/".join(value.split("-", 2)[1:])
    return None if is_cidr(cidr) else "value does not look like a valid CIDR network"


def _mask(value: str) -> bool:
    try:
        ipaddress.IPv4Network(f"0.0.0.0/{value}")
    except ValueError:
        return False
    return value.count(".") == 3


def _ip_or_cidr(value: str) -> bool:
    address, slash, bits = value.partition("/")
    return is_ip(address) and (not slash or (is_number(bits) and int(bits) <= (128 if ":" in address else 32)))


def _address_list(value: str) -> str | None:
    for item in re.split(r"\s*,\s*", value.strip()):
        first, dash, last = item.partition("-")
        is_range = bool(dash) and is_ip(first) and is_ip(last)
        if not (is_range or _ip_or_cidr(item) or re.fullmatch(r"\+?(?:dc/|guest/)?[A-Za-z][A-Za-z0-9\-_/]+", item)):
            return f"invalid address '{item}'" if item else "address list is empty"
    return None


def _ports(value: str) -> str | None:
    for item in value.split(","):
        bounds = item.split(":")
        if all(is_number(part) for part in bounds) and len(bounds) <= 2:
            if any(int(part) > 65535 for part in bounds):
                return f"invalid port '{item}'"
        elif not re.fullmatch(r"[A-Za-z][A-Za-z0-9\-_]*", item):
            return f"invalid port '{item}'"
    return None


_IFACE = "invalid network interface name '{}'"
_HA_ID = "value does not look like a valid ha resource id"
_WORD = r"[A-Za-z0-9.\-_]+"

FORMATS: dict[str, Checker] = {
    "string": lambda value: None,
    "CIDR": that(is_cidr, "value does not look like a valid CIDR network"),
    "CIDRv4": that(lambda v: is_cidr(v, 4), "value does not look like a valid IPv4 CIDR network"),
    "CIDRv6": that(lambda v: is_cidr(v, 6), "value does not look like a valid IPv6 CIDR network"),
    "IPorCIDR": that(_ip_or_cidr, "value does not look like a valid IP address or CIDR network"),
    "IPorCIDRorAlias": that(
        lambda v: bool(re.fullmatch(r"(?:dc/|guest/)?[A-Za-z][A-Za-z0-9\-_]+", v)) or _ip_or_cidr(v),
        "value does not look like a valid IP address or CIDR network",
    ),
    "address": that(lambda v: is_ip(v) or bool(re.fullmatch(_DNS, v)), "value does not look like a valid address: {}"),
    "bridge-pair": _id_pair("bridge", matching(r"[-_.\w]+", "invalid bridge ID '{}'")),
    "disk-size": matching(r"\d+(?:\.\d+)?(?:[KMGT](?:iB)?)?", "value does not look like a valid disk size: {}"),
    "dns-name": matching(_DNS, "value does not look like a valid DNS name"),
    "email": matching(_EMAIL, "value does not look like a valid email address"),
    "email-or-username": matching(
        f"(?:{_EMAIL}|{_EMAIL_USER})", "value does not look like a valid email address or user name"
    ),
    "ip": that(is_ip, "value does not look like a valid IP address"),
    "ipv4": that(lambda v: is_ip(v, 4), "value does not look like a valid IPv4 address"),
    "ipv4mask": that(_mask, "value does not look like a valid IP netmask"),
    "ipv6": that(lambda v: is_ip(v, 6), "value does not look like a valid IPv6 address"),
    "ldap-simple-attr": matching(r"[a-zA-Z0-9]+", "value '{}' does not look like a simple ldap attribute name"),
    "mac-addr": matching(
        r"[a-fA-F0-9][02468aceACE](?::[a-fA-F0-9]{2}){5}", "value does not look like a valid unicast MAC address"
    ),
    "mac-prefix": matching(
        r"[a-fA-F0-9][02468aceACE](?::[a-fA-F0-9]{2}){0,2}(?::[a-fA-F0-9]?)?",
        "value is not a valid unicast MAC address prefix",
    ),
    "pve-acme-alias": matching(_DNS, "value does not look like a valid DNS name"),
    "pve-acme-domain": matching(r"(?:\*\.)?" + _DNS, "value does not look like a valid domain name!"),
    "pve-bridge-id": matching(r"[-_.\w]+", "invalid bridge ID '{}'"),
    "pve-calendar-event": matching(_CALENDAR, "invalid calendar event '{}' - unable to parse calendar event"),
    "pve-command-batch": _command_batch,
    "pve-configid": matching(r"[a-z][a-z0-9_-]+", "invalid configuration ID '{}'", flags=re.IGNORECASE),
    "pve-cpuset": matching(_CPUSET, "unable to parse cpuset option"),
    "pve-day-of-week": matching(r"mon|tue|wed|thu|fri|sat|sun", "invalid day '{}'"),
    "pve-dir-override": _dir_override,
    "pve-fw-addr-spec": _address_list,
    "pve-fw-conntrack-helper": matching(
        r"(?:amanda|ftp|irc|netbios-ns|pptp|sane|sip|snmp|tftp)(?:,(?:amanda|ftp|irc|netbios-ns|pptp|sane|sip|snmp|tftp))*",
        "unknown helper {}",
    ),
    "pve-fw-dport-spec": _ports,
    "pve-fw-sport-spec": _ports,
    "pve-fw-icmp-type-spec": matching(r"[a-z0-9\-/]*", "invalid icmp-type value '{}'"),
    "pve-fw-protocol-spec": matching(r"[a-zA-Z0-9][a-zA-Z0-9.\-+]*", "unknown protocol '{}'"),
    "pve-groupid": matching(_WORD, "group name '{}' contains invalid characters"),
    "pve-ha-node": matching(NODE_NAME + r"(?::\d+)?", "value does not look like a valid ha node"),
    "pve-ha-resource-id": matching(r"[a-z]+:\S+", _HA_ID),
    "pve-ha-resource-or-vm-id": matching(r"[a-z]+:\S+|\d+", _HA_ID),
    "pve-hotplug-features": _hotplug,
    "pve-iface": matching(r"[a-zA-Z][a-zA-Z0-9_]{1,20}(?:[:.]\d+)?", _IFACE),
    "pve-ipv4-config": that(
        lambda v: v in ("dhcp", "manual") or is_cidr(v, 4),
        "value does not look like a valid ipv4 network configuration",
    ),
    "pve-ipv6-config": that(
        lambda v: v in ("auto", "dhcp", "manual") or is_cidr(v, 6),
        "value does not look like a valid ipv6 network configuration",
    ),
    "pve-node": matching(NODE_NAME, "value does not look like a valid node name"),
    "pve-phys-bits": matching(r"host|[1-9]\d?", "value must be an integer between 8 and 64 or 'host'"),
    "pve-poolid": _poolid,
    "pve-priv": that(lambda v: v in privileges.ALL, "invalid privilege '{}'"),
    "pve-qm-bootdev": matching(_BOOT_DEVICE, "invalid boot device '{}'"),
    "pve-qm-bootdisk": matching(r"(?:ide|sata|scsi|virtio)\d+", "invalid boot disk '{}'"),
    "pve-realm": matching(r"[A-Za-z][A-Za-z0-9.\-_]+", "value does not look like a valid realm"),
    "pve-replication-job-id": matching(r"[1-9]\d{2,8}-\d{1,9}", "invalid replication job id '{}'"),
    "pve-roleid": matching(_WORD, "role name '{}' contains invalid characters"),
    "pve-sdn-bgp-rt": matching(r"\d+:\d+", "value does not look like a valid BGP route target"),
    "pve-sdn-fabric-id": _sdn_id("fabric", 8),
    "pve-sdn-subnet-id": _subnet,
    "pve-sdn-vnet-id": _sdn_id("vnet", 8),
    "pve-sdn-zone-id": _sdn_id("zone", 8),
    "pve-startup-order": _startup,
    "pve-storage-content": that(lambda v: v in CONTENT_TYPES, "invalid content type '{}'"),
    "pve-storage-id": _identifier("storage"),
    "pve-storage-options": matching(r"\S+", "invalid options '{}'"),
    "pve-storage-path": matching(r"/[^;()]+", "value does not look like a valid absolute path"),
    "pve-storage-portal-dns": matching(
        rf"(?:{_DNS}|[0-9a-fA-F:.]+|\[[0-9a-fA-F:.]+\])(?::\d+)?", "value does not look like a valid portal address"
    ),
    "pve-storage-server": that(
        lambda v: is_ip(v) or bool(re.fullmatch(_DNS, v)), "value does not look like a valid server name or IP address"
    ),
    "pve-storage-vgname": matching(
        r"[a-zA-Z0-9][a-zA-Z0-9\-_.]*[a-zA-Z0-9]", "lvm name '{}' contains illegal characters"
    ),
    "pve-tag": matching(_TAG, "invalid characters in tag"),
    "pve-task-status-type": matching(r"ok|error|warning|unknown", "invalid status '{}'", flags=re.IGNORECASE),
    "pve-tokenid": _tokenid,
    "pve-userid": _userid,
    "pve-vlan-id-or-range": _vlan,
    "pve-vmid": matching(r"[1-9][0-9]{2,8}", "value does not look like a valid VM ID"),
    "pve-volume-id": matching(STORAGE_ID + r":.+", "unable to parse volume ID '{}'"),
    "pve-volume-id-or-absolute-path": _volume_or_path,
    "pve-volume-id-or-qm-path": lambda value: None if value in ("none", "cdrom") else _volume_or_path(value),
    "storage-pair": _id_pair("storage", _identifier("storage")),
    "urlencoded": matching(r"[-%a-zA-Z0-9_.!~*'()]*", "invalid urlencoded string: {}"),
}


def check_named(name: str, value: str) -> str | None:
    """Check a value against a named format, its ``-list`` and ``-opt`` forms included; None or the refusal.

    Raises KeyError for a name nobody registered.
    """
    if name in FORMATS:
        return FORMATS[name](value)
    base, _, form = name.rpartition("-")
    unit = FORMATS[base]
    if form == "opt":
        return unit(value) if value else None
    return next((refusal for item in split_list(value) if (refusal := unit(item))), None)

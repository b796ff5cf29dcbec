# SPDX-License-Identifier: GPL-3.0-or-later
"""What a single value of an answer file may be.

Each check takes the dotted key and the value, gives the value as it is written, and raises a Failure that names the
key, what is wrong with it and what to write instead. A value of a secret key is never shown.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from ipaddress import ip_address, ip_interface
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from .answer_places import TIMEZONES
from .steps import Failure

Check = Callable[[str, Any], Any]

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LOCAL_PART = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+")
_CRYPT = re.compile(r"\$(?:y|gy|7|6|5|2[aby])\$[./A-Za-z0-9$=,]{20,}")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}")
_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,14}")
_SUBSCRIPTION = re.compile(r"pve[0-9]+[cbsp]-[0-9a-f]{10}")


def text(path: str, value: Any) -> str:
    """A text that is not empty and has no control characters."""
    if not isinstance(value, str):
        raise Failure(f"{path} is {kind(value)} and should be a text. Put it into quotes.")
    if not value or any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise Failure(f"{path} is empty or has control characters in it. Write one line of text.")
    return value


def flag(path: str, value: Any) -> bool:
    """true or false, and no text that looks like it."""
    if not isinstance(value, bool):
        raise Failure(f"{path} is {kind(value)} and should be true or false, without quotes.")
    return value


def one_of(*choices: str) -> Check:
    """One of a few words."""

    def check(path: str, value: Any) -> str:
        if value not in choices:
            raise Failure(f"{path} is {value!r}{meant(str(value), choices)}. Use one of {', '.join(choices)}.")
        return str(value)

    return check


def level(*choices: str) -> Check:
    """The name of a RAID level, which may be written in capitals, too."""
    plain = one_of(*choices)
    return lambda path, value: plain(path, value.lower() if isinstance(value, str) else value)


def whole(least: int, most: int, unit: str) -> Check:
    """A whole number within limits."""

    def check(path: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            shown = repr(value) if isinstance(value, int | float) else kind(value)
            raise Failure(f"{path} is {shown} and should be a whole number {unit}from {least} to {most}.")
        return value

    return check


def size(path: str, value: Any) -> float | int:
    """A size in GiB. 0 means none where the installer has a default."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 30:
        shown = repr(value) if isinstance(value, int | float) else kind(value)
        raise Failure(f"{path} is {shown} and should be a number of GiB, without quotes and without a unit.")
    return value


def disk_size(path: str, value: Any) -> float | int:
    """How much of a disk is used, in GiB."""
    if size(path, value) < 8:
        raise Failure(f"{path} is {value} GiB, on which Proxmox VE does not fit. Give it 8 GiB or more.")
    return float(value) if isinstance(value, float) else int(value)


def texts(path: str, value: Any) -> list[str]:
    """A list of texts, which is not empty."""
    if not isinstance(value, list) or not value:
        raise Failure(f"{path} is {kind(value)} and should be a list of texts with at least one entry.")
    return [text(f"{path}[{i}]", entry) for i, entry in enumerate(value)]


def domain(path: str, value: Any) -> str:
    """A domain name of one label or more."""
    name = text(path, value)
    if len(name) > 253:
        raise Failure(f"{path} has {len(name)} characters, and a name has 253 at most. Choose a shorter one.")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise Failure(
                f"{path} is {name!r}, in which {label!r} is no part of a name. "
                "Use letters, digits and inner dashes, 63 characters at most between two dots."
            )
    return name


def fqdn(path: str, value: Any) -> str:
    """A host's name with its domain; the host's part is not a number."""
    name = domain(path, value)
    host, dot, _rest = name.partition(".")
    if not dot:
        raise Failure(f"{path} is {name!r}, which has no domain. Write it in full, such as {name}.example.com.")
    if host.isdigit():
        raise Failure(f"{path} is {name!r}, and a host cannot be called by a number alone. Put a letter into {host!r}.")
    return name


def fqdn_or_source(path: str, value: Any) -> str | dict[str, str]:
    """A host's name in full, or a table that lets DHCP give it. An empty domain is none, as the installer has it."""
    if not isinstance(value, Mapping):
        return fqdn(path, value)
    checks: dict[str, Check] = {"source": one_of("from-dhcp"), "domain": domain}
    found = {"source": "from-dhcp"}
    for key, entry in value.items():
        if key not in checks:
            raise Failure(f"{path}.{key} is no key of the installer{meant(str(key), checks)}. Remove or rename it.")
        if entry not in ("", None):
            found[key] = checks[key](f"{path}.{key}", entry)
    return found


def mail(path: str, value: Any) -> str:
    """A mail address; not the one that the installer shows as an example."""
    address = text(path, value)
    local, _at, host = address.rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise Failure(f"{path} is {address!r}, which is no mail address. Write one such as admin@example.com.")
    if address == "mail@example.invalid":
        raise Failure(f"{path} is {address!r}, which the installer refuses as a mere example. Give a real address.")
    return address


def timezone(path: str, value: Any) -> str:
    """A zone that the installer knows."""
    zone = text(path, value)
    if zone not in TIMEZONES:
        raise Failure(f"{path} is {zone!r}, which the installer does not know{meant(zone, TIMEZONES)}. Or use UTC.")
    return zone


def country(known: Iterable[str]) -> Check:
    """A country's code of two small letters."""
    codes = frozenset(known)

    def check(path: str, value: Any) -> str:
        code = text(path, value)
        if code not in codes:
            remedy = f"Write {code.lower()!r}." if code.lower() in codes else "Use two small letters, such as at or us."
            raise Failure(f"{path} is {code!r}, which is no code of a country. {remedy}")
        return code

    return check


def hashed_password(path: str, value: Any) -> str:
    """What crypt(5) made of a password."""
    if not _CRYPT.fullmatch(text(path, value)):
        raise Failure(
            f"{path} does not look like what crypt makes of a password ($y$…, $6$…). "
            "Make it with mkpasswd, or give root-password and let it be hashed here."
        )
    return str(value)


def ssh_key(path: str, value: Any) -> str:
    """One line of an authorized_keys file. Options may stand before the type of the key."""
    line = text(path, value)
    if "PRIVATE KEY" in line:
        raise Failure(f"{path} is a private key. Give the public one, and make a new pair: this one has been seen.")
    if any(_names_itself(name, blob) for name, blob in pairwise(line.split())):
        return line
    raise Failure(
        f"{path} is {line[:40]!r}…, which is no public key. Give the one line of a file such as id_ed25519.pub."
    )


def ssh_keys(path: str, value: Any) -> list[str]:
    """Public keys, each of which is there once."""
    lines = [ssh_key(f"{path}[{i}]", entry) for i, entry in enumerate(texts(path, value))]
    return _distinct(path, lines)


def _names_itself(name: str, blob: str) -> bool:
    """A public key begins with the length and the text of its own type."""
    try:
        data = b64decode(blob, validate=True)
    except (NotBase64, ValueError):
        return False
    length = int.from_bytes(data[:4], "big")
    return len(data) > 4 + length and data[4 : 4 + length] == name.encode()


def subscription(path: str, value: Any) -> str:
    """A key for Proxmox VE."""
    if not _SUBSCRIPTION.fullmatch(text(path, value)):
        raise Failure(f"{path} is no key for Proxmox VE. One looks like pve2c-0123456789.")
    return str(value)


def cidr(path: str, value: Any) -> str:
    """An address of a host with the length of its network's prefix."""
    given = text(path, value)
    if "/" not in given:
        raise Failure(f"{path} is {given!r} without the length of a prefix. Write it such as {given}/24.")
    try:
        found = ip_interface(given)
    except ValueError as error:
        raise Failure(f"{path} is {given!r}, which is no address with a prefix: {error}.") from None
    if not given.rpartition("/")[2].isdigit():
        raise Failure(f"{path} is {given!r} with a mask. Write the length of the prefix: {found.with_prefixlen}.")
    net = found.network
    if found.version == 4 and net.prefixlen < 31 and found.ip in (net.network_address, net.broadcast_address):
        raise Failure(f"{path} is {given!r}, which names the network and no host in it. Give the host's own address.")
    return given


def address(path: str, value: Any) -> str:
    """One address, IPv4 or IPv6."""
    given = text(path, value)
    try:
        ip_address(given)
    except ValueError:
        raise Failure(
            f"{path} is {given!r}, which is no address. Write one such as 192.0.2.1, without a prefix."
        ) from None
    if "%" in given:
        raise Failure(f"{path} is {given!r} with a zone, which the installer does not take. Leave out what follows %.")
    return given


def url(path: str, value: Any) -> str:
    """An address of the web."""
    given = text(path, value)
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in given:
        raise Failure(f"{path} is {given!r}. Write an address that begins with http:// or https:// and names a host.")
    return given


def fingerprint(path: str, value: Any) -> str:
    """SHA-256 of a certificate, with colons or without."""
    if not _FINGERPRINT.fullmatch(text(path, value)):
        raise Failure(f"{path} is {value!r}, which is no SHA-256 fingerprint: 32 pairs of hexadecimal digits.")
    return str(value)


def disks(path: str, value: Any) -> list[str]:
    """Names of disks as the kernel gives them: that is what the installer compares with."""
    names = texts(path, value)
    for name in names:
        if not re.fullmatch(r"(?:/dev/)?[a-z0-9]+", name):
            raise Failure(
                f"{path} has {name!r}, and the installer knows disks by names such as sda or nvme0n1 only. "
                "Choose a lasting property with filter instead, such as ID_SERIAL."
            )
    return _distinct(path, names)


def udev_filter(path: str, value: Any) -> dict[str, str]:
    """Patterns for properties of udev."""
    if not isinstance(value, Mapping) or not value:
        raise Failure(
            f"{path} is {kind(value)} and should map names of udev properties to patterns, such as ID_SERIAL."
        )
    return {str(name): _pattern(f"{path}.{name}", str(name), entry) for name, entry in value.items()}


def _pattern(path: str, name: str, value: Any) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise Failure(f"{path} is no name of a udev property. proxmox-auto-install-assistant device-info lists them.")
    found = text(path, value)
    if "**" in found or re.search(r"\[[^\]]*$", found):
        raise Failure(f"{path} is {found!r}, which is no pattern: only *, ?, [a-z] and [!a-z] are known in one.")
    return found


def pins(path: str, value: Any) -> dict[str, str]:
    """Names for network interfaces by their MAC addresses, which are written in small letters."""
    if not isinstance(value, Mapping):
        raise Failure(f"{path} is {kind(value)} and should map MAC addresses to names.")
    found: dict[str, str] = {}
    for given, name in value.items():
        hardware = mac(path, given)
        if not isinstance(name, str) or not _INTERFACE.fullmatch(name):
            raise Failure(f"{path} names {hardware} {name!r}. Use a letter and 1 to 14 letters, digits or underscores.")
        if hardware in found or name in found.values():
            raise Failure(f"{path} has {hardware} or {name} twice. Each interface has one name of its own.")
        found[hardware] = name
    return found


def mac(path: str, value: Any) -> str:
    """A MAC address in its usual form: small letters and colons."""
    if not isinstance(value, str) or not _MAC.fullmatch(value):
        raise Failure(
            f"{path} has {value!r}, which is no MAC address. Write it in quotes, such as '52:54:00:12:34:56'."
        )
    return value.lower().replace("-", ":")


def meant(given: str, choices: Iterable[str]) -> str:
    """Words that name the known one which the given one looks like, if there is one."""
    close = get_close_matches(given, sorted(choices), n=1, cutoff=0.7)
    return f" and may be meant as {close[0]!r}" if close else ""


def kind(value: Any) -> str:
    """What a value is, for people, without showing it."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        type(None): "empty",
    }
    return names.get(type(value), "a table" if isinstance(value, Mapping) else f"a {type(value).__name__}")


def _distinct(path: str, values: list[str]) -> list[str]:
    twice = next((v for i, v in enumerate(values) if v in values[:i]), None)
    if twice is not None:
        raise Failure(f"{path} has {twice[:60]!r} twice. Leave one out.")
    return values

# SPDX-License-Identifier: GPL-3.0-or-later
"""The other structured options (NICs, tags, SMBIOS, memory, agent, hotplug, startup order) and their rewriting."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from passlib.handlers.sha2_crypt import sha256_crypt

from labnode.guests.propstring import Format, PropertyError, parse, render, split_list, words

NIC_MODELS = words(
    "e1000 e1000-82540em e1000-82544gc e1000-82545em e1000e i82551 i82557b i82559er ne2k_isa ne2k_pci pcnet rtl8139 "
    "virtio vmxnet3"
)
NET = Format("model", frozenset({"firewall", "link_down"}), (), {}, NIC_MODELS, "macaddr")
SMBIOS = Format(None, frozenset({"base64"}))
AGENT = Format(
    "enabled",
    words("enabled freeze-fs freeze-fs-on-backup fstrim_cloned_disks guest-fsfreeze"),
    aliases={"freeze-fs-on-backup": "freeze-fs", "guest-fsfreeze": "freeze-fs"},
)
META = Format()
MAC_PREFIX = "BC:24:11"
HOTPLUG = words("network disk cpu memory usb cloudinit")
DEFAULT_HOTPLUG = "network,disk,usb"
DEFAULT_MEMORY = 512


def random_mac(prefix: str = MAC_PREFIX) -> str:
    """A fresh locally administered address behind the datacenter's prefix."""
    raw = bytearray(secrets.token_bytes(6))
    raw[0] = (raw[0] & 0xFE) | 2
    address = ":".join(f"{byte:02X}" for byte in raw)
    return prefix.upper().rstrip(":") + address[len(prefix.rstrip(":")) :]


def parse_net(text: str) -> dict[str, str]:
    """Model, macaddr, bridge and the rest of a NIC; raises PropertyError."""
    return parse(text, NET)


def print_net(values: Mapping[str, str]) -> str:
    """The NIC string, the model carrying its MAC in front."""
    return render(values, NET)


def with_mac(text: str, prefix: str = MAC_PREFIX) -> str:
    """The NIC rewritten; one that names no MAC gets a new one, every time it is sent."""
    values = parse_net(text)
    values.setdefault("macaddr", random_mac(prefix))
    return print_net(values)


def fresh_mac(text: str, prefix: str = MAC_PREFIX) -> str:
    """The NIC with another MAC (for a clone)."""
    return print_net({**parse_net(text), "macaddr": random_mac(prefix)})


def new_uuid() -> str:
    """A random UUID."""
    return str(uuid.uuid4())


def smbios_with_uuid(text: str = "") -> str:
    """The SMBIOS option with a new UUID, everything else kept."""
    return render({**parse(text, SMBIOS), "uuid": new_uuid()}, SMBIOS)


def meta(qemu_version: str, ctime: int | None = None) -> str:
    """What a guest remembers of its creation."""
    return render({"creation-qemu": qemu_version, "ctime": str(int(time.time()) if ctime is None else ctime)}, META)


def unique_tags(tags: str, *, case_sensitive: bool = False, keep_order: bool = False) -> str:
    """Tags as a change writes them: each once, lower case unless the datacenter is case sensitive, sorted unless it
    keeps the order given, joined by semicolons. (Creating a guest leaves them as they are: recorded on 9.1.)"""
    items = split_list(tags)
    if not keep_order:
        items = sorted(items, key=lambda tag: tag if case_sensitive else tag.lower())
    if not case_sensitive:
        items = [tag.lower() for tag in items]
    return ";".join(dict.fromkeys(items))


def memory_mib(section: Mapping[str, str]) -> int:
    """MiB of memory the guest is given."""
    text = section.get("memory", "")
    current = parse(text, Format("current")).get("current", "") if text else ""
    return int(current) if current.isdecimal() else DEFAULT_MEMORY


def cpus(section: Mapping[str, str]) -> int:
    """Virtual CPUs the guest can have at most."""
    return int(section.get("sockets", "1")) * int(section.get("cores", "1"))


def agent(section: Mapping[str, str]) -> dict[str, str]:
    """Options of the guest agent; empty when it is not enabled."""
    try:
        found = parse(section.get("agent", ""), AGENT)
    except PropertyError:
        return {}
    return found if found.get("enabled") == "1" else {}


def hotplug_features(section: Mapping[str, str]) -> frozenset[str]:
    """What may be plugged into the running guest: network, disk, usb unless ``hotplug`` says otherwise."""
    text = section.get("hotplug", "1")
    if text == "0":
        return frozenset()
    return frozenset(split_list(DEFAULT_HOTPLUG if text == "1" else text)) & HOTPLUG


def clamp_cpuunits(value: str) -> str:
    """cgroup v2 knows weights from 1 to 10000."""
    return str(min(max(int(value), 1), 10000))


@dataclass(frozen=True)
class Startup:
    """The ``startup`` option: place in the order (None: last), seconds to wait after start and to shut down."""

    order: int | None = None
    up: int | None = None
    down: int | None = None


def startup(section: Mapping[str, str]) -> Startup:
    """Parse ``startup``: ``order=2,up=10,down=20``, the bare number being the order."""
    found: dict[str, int] = {}
    for part in split_list(section.get("startup", "")):
        if match := re.fullmatch(r"(?:(order|up|down)=)?(\d+)", part):
            found[match[1] or "order"] = int(match[2])
    return Startup(**found)


def hashed(password: str) -> str:
    """A cloud-init password as it is stored: hashed (SHA-256 crypt) unless it already is."""
    if re.match(r"\$(?:[156]|2[ay])(?:\$.+){2}", password):
        return password
    return str(sha256_crypt.using(rounds=5000).hash(password))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Property-string formats that the published schema only names: their keys, types and limits.

Facts from the format registrations of qemu-server (QemuServer.pm, CPUConfig.pm, PCI.pm, RNG.pm, Network.pm),
pve-storage
(Plugin.pm), pve-guest-common (VZDump/Common.pm), pve-access-control (Auth/Plugin.pm) and pve-common (JSONSchema.pm).
"""

from __future__ import annotations

from typing import Any

Facts = dict[str, Any]


def _text(**facts: Any) -> Facts:
    return {"type": "string", "optional": 1, **facts}


def _flag(**facts: Any) -> Facts:
    return {"type": "boolean", "optional": 1, **facts}


def _int(**facts: Any) -> Facts:
    return {"type": "integer", "optional": 1, **facts}


_BASE64 = r"[A-Za-z0-9+\/]+={0,2}"
_HEX_ID = r"0x[0-9a-fA-F]{4}"
_PCI_ID = r"(?:[a-f0-9]{4,}:)?[a-f0-9]{2}:[a-f0-9]{2}(?:\.[a-f0-9])?"
_CPU_FLAG = r"[+-]?[a-zA-Z0-9\-_\.]+"
_PCI_ADDRESS = {key: _text(pattern=_HEX_ID) for key in ("vendor-id", "device-id", "sub-vendor-id", "sub-device-id")}
_KEEP = {f"keep-{span}": _int(minimum=0) for span in ("last", "hourly", "daily", "weekly", "monthly", "yearly")}

SUBFORMATS: dict[str, dict[str, Facts]] = {
    "pve-qm-boot": {
        "legacy": _text(default_key=1, pattern="[acdn]{1,4}"),
        "order": _text(format="pve-qm-bootdev-list"),
    },
    "pve-qm-cicustom": {key: _text(format="pve-volume-id") for key in ("meta", "network", "user", "vendor")},
    "pve-vm-cpu-conf": {
        "cputype": _text(default_key=1),
        "reported-model": _text(),
        "hidden": _flag(),
        "hv-vendor-id": _text(pattern="[a-zA-Z0-9]{1,12}"),
        "flags": _text(pattern=f"{_CPU_FLAG}(?:;{_CPU_FLAG})*"),
        "guest-phys-bits": _int(minimum=32, maximum=64),
        "phys-bits": _text(format="pve-phys-bits"),
        "level": _int(minimum=0, maximum=4294967295),
    },
    "pve-qm-hostpci": {
        "host": _text(default_key=1, pattern=f"{_PCI_ID}(?:;{_PCI_ID})*"),
        "mapping": _text(format="pve-configid"),
        "rombar": _flag(),
        "romfile": _text(pattern="[^,;]+"),
        "pcie": _flag(),
        "x-vga": _flag(),
        "legacy-igd": _flag(),
        "mdev": _text(pattern=r"[^/\.:]+"),
        "driver": _text(enum=["vfio", "keep"]),
        **_PCI_ADDRESS,
    },
    "pve-qm-ipconfig": {
        "ip": _text(format="pve-ipv4-config"),
        "gw": _text(format="ipv4", requires="ip"),
        "ip6": _text(format="pve-ipv6-config"),
        "gw6": _text(format="ipv6", requires="ip6"),
    },
    "pve-qm-rng": {
        "source": {"type": "string", "default_key": 1, "enum": ["/dev/urandom", "/dev/random", "/dev/hwrng"]},
        "max_bytes": _int(),
        "period": _int(),
    },
    "pve-qm-smbios1": {
        "uuid": _text(pattern="[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}"),
        **{key: _text(pattern=_BASE64) for key in ("version", "serial", "manufacturer", "product", "sku", "family")},
        "base64": _flag(),
    },
    "pve-qm-watchdog": {
        "model": _text(default_key=1, enum=["i6300esb", "ib700"]),
        "action": _text(enum=["reset", "shutdown", "poweroff", "pause", "debug", "none"]),
    },
    "pve-qemu-sev-fmt": {
        "type": {"type": "string", "default_key": 1, "enum": ["std", "es", "snp"], "maxLength": 3},
        **{key: _flag() for key in ("no-debug", "no-key-sharing", "allow-smt", "kernel-hashes")},
    },
    "pve-qemu-tdx-fmt": {
        "type": {"type": "string", "default_key": 1, "enum": ["tdx"]},
        "attestation": _flag(),
        "vsock-cid": _int(minimum=2),
        "vsock-port": _int(minimum=0),
    },
    "prune-backups": {"keep-all": _flag(), **_KEEP},
    "backup-fleecing": {"enabled": _flag(default_key=1), "storage": _text(format="pve-storage-id")},
    "backup-performance": {
        "max-workers": _int(minimum=1, maximum=256),
        "pbs-entries-max": _int(minimum=1),
    },
    "realm-sync-options": {
        "scope": _text(enum=["users", "groups", "both"]),
        "remove-vanished": _text(pattern="(?:(?:(?:acl|properties|entry);)*(?:acl|properties|entry))|none"),
        "full": _flag(),
        "enable-new": _flag(),
        "purge": _flag(),
    },
    "pve-tfa-config": {
        "type": {"type": "string", "enum": ["yubico", "oath"]},
        **{key: _text() for key in ("id", "key", "url")},
        "digits": _int(minimum=6, maximum=8),
        "step": _int(minimum=10),
    },
    "pve-sdn-dhcp-range": {
        "start-address": {"type": "string", "format": "ip"},
        "end-address": {"type": "string", "format": "ip"},
    },
    "proxmox-remote": {
        "host": {"type": "string"},
        "port": _int(),
        "apitoken": {"type": "string"},
        "fingerprint": _text(pattern="([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}"),
    },
}

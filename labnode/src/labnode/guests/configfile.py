# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file of a guest: ``etc/nodes/NODE/qemu-server/VMID.conf``.

    #description, a line each, percent-encoded
    key: value
    [PENDING]           changes that wait for the next start, `delete: a,!b` among them
    [special:cloudinit] what the cloud-init drive was last made from
    [snapname]          one section a snapshot

Values are text exactly as in the file. Source of the rules: ``parse_vm_config`` and ``write_vm_config`` of qemu-server.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from labnode.errors import ApiError
from labnode.guests import options
from labnode.guests.drive import drives
from labnode.store import Store

log = logging.getLogger(__name__)

Section = dict[str, str]
_SAFE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) not in ":%")
_HEAD_RE = re.compile(r"\[(special:)?([a-zA-Z][a-zA-Z0-9_\-]*)\]\s*")
_LINE_RE = re.compile(r"([a-z][a-z_\-]*\d*):\s*(.+?)\s*")


@dataclass
class GuestConfig:
    """One guest's configuration. ``digest`` is the SHA-1 of the text it was read from ("" for a new one)."""

    main: Section = field(default_factory=dict)
    pending: Section = field(default_factory=dict)
    snapshots: dict[str, Section] = field(default_factory=dict)
    special: dict[str, Section] = field(default_factory=dict)
    digest: str = ""

    @property
    def lock(self) -> str:
        """What the guest is locked for (backup, clone, create, ...), "" when it is not."""
        return self.main.get("lock", "")

    @property
    def is_template(self) -> bool:
        """Whether the guest is a template."""
        return self.main.get("template") == "1"


def parse(text: str, name: str = "?") -> GuestConfig:
    """Take a file apart. Lines that make no sense are logged (under ``name``) and skipped, as Proxmox VE does."""
    conf = GuestConfig(digest=Store.digest(text))
    section: Section | None = conf.main
    for line in text.splitlines():
        if not line.strip():
            continue
        if line.startswith("[") and line.rstrip().endswith("]"):
            section = _open(conf, line, name)
        elif section is None:
            continue
        elif line.startswith("#"):
            section["description"] = section.get("description", "") + unquote(line[1:]) + "\n"
        elif (match := _LINE_RE.fullmatch(line)) and _known(conf, section, match[1]):
            _put(section, match[1], match[2])
        else:
            log.warning("guest %s: line skipped, it is no setting: %s", name, line)
    for part in (conf.main, conf.pending, *conf.snapshots.values()):
        if "description" in part:
            part["description"] = part["description"].rstrip()
    return conf


def _open(conf: GuestConfig, line: str, name: str) -> Section | None:
    match = _HEAD_RE.fullmatch(line)
    if not match:
        log.warning("guest %s: unknown section skipped: %s", name, line)
        return None
    if match[1]:
        return conf.special.setdefault(match[2], {})
    if match[2].upper() == "PENDING":
        return conf.pending
    return conf.snapshots.setdefault(match[2], {})


def _known(conf: GuestConfig, section: Section, key: str) -> bool:
    if options.exists(key) or key == "snapstate":
        return True
    return key == "delete" if section is conf.pending else any(section is own for own in conf.special.values())


def _put(section: Section, key: str, value: str) -> None:
    if key == "description":
        section[key] = section.get(key, "") + unquote(value)
    elif key in options.BOOLEANS:
        section[key] = options.to_text(options.typed(key, value))
    else:
        section["ide2" if key == "cdrom" else key] = value


def render(conf: GuestConfig) -> str:
    """The text of the file; ``parse`` of it gives the same configuration back.

    An ``unusedN`` whose volume is attached again is left out."""
    used = {drive.file for drive in drives(conf.main)} | {drive.file for drive in drives(conf.pending)}
    main = {k: v for k, v in conf.main.items() if not (options.is_unused(k) and v in used)}
    text = _lines(main)
    if conf.pending:
        text += "\n[PENDING]\n" + _lines(conf.pending, empty_description=True)
    has_cloudinit = any(drive.is_cloudinit for drive in drives(main))
    for special, section in sorted(conf.special.items()):
        if section and (special != "cloudinit" or has_cloudinit):
            text += f"\n[special:{special}]\n" + _lines(section)
    for snap, section in sorted(conf.snapshots.items()):
        text += f"\n[{snap}]\n" + _lines(section)
    return text


def check_line(key: str, value: str) -> None:
    """ApiError for a value that would be more than one line of the file, and so could set other options."""
    if "\n" in value or "\r" in value:
        raise ApiError(f"unable to parse value of '{key}' - property contains a line feed")


def _lines(section: Section, *, empty_description: bool = False) -> str:
    out = []
    description = section.get("description")
    if description:
        out = ["#" + quote(line, safe=_SAFE) for line in description.rstrip("\n").split("\n")]
    elif description is not None and empty_description:
        out = ["#"]
    for key, value in sorted(section.items()):
        if key != "description" and value.strip():
            check_line(key, value)
            out.append(f"{key}: {value}")
    return "".join(line + "\n" for line in out)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume ids: taking them apart, and the file names each kind of content may have.

Facts from parse_volname of the storage plugins of Proxmox VE 9. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from labnode.errors import ApiError
from labnode.storage.model import Volume

ISO = re.compile(r"[^/]+\.(?:iso|img)", re.I)
VZTMPL = re.compile(r"[^/]+\.(?:tar|tar\.(?:gz|xz|zst|bz2))", re.I)
SNIPPET = re.compile(r"(?!\.)[^/]+")
BACKUP = re.compile(r"[^/]+\.(tgz|(?:tar|vma)(?:\.(?:gz|lzo|zst|bz2))?)")
BACKUP_STD = re.compile(r"vzdump-(openvz|lxc|qemu)-(\d+)-(\d{4})_(\d\d)_(\d\d)-(\d\d)_(\d\d)_(\d\d)\.(.+)")
SAFE = r"[a-zA-Z0-9\-.+=_]"
UPLOAD_IMPORT = re.compile(SAFE + r"+\.(ova|qcow2|raw|vmdk)")
IMPORT = re.compile(r"[ a-zA-Z0-9\-.+=_]+\.(ova|ovf|qcow2|raw|vmdk)")
OVA_MEMBER = re.compile(r"([ a-zA-Z0-9\-.+=_]+\.ova)/([ a-zA-Z0-9\-.+=_]+\.(qcow2|raw|vmdk))")
IMAGE = re.compile(r"(?:(\d+)/(\S+)/)?(\d+)/(\S+)")
IMAGE_FILE = re.compile(r"(vm|base|subvol|basevol)?-?[^/\s]*\.(raw|qcow2|vmdk|subvol)")
BLOCK = re.compile(r"(?:((?:base|basevol)-(\d+)-[^\s/]+)/)?((vm|base|subvol|basevol)-(\d+)-[^\s/]+)")
SUBDIRS = {
    "images": "images",
    "rootdir": "private",
    "iso": "template/iso",
    "vztmpl": "template/cache",
    "backup": "dump",
    "snippets": "snippets",
    "import": "import",
}


def split_volid(volid: str) -> tuple[str, str]:
    """(storage id, volume name); ApiError "unable to parse volume ID 'x'"."""
    storeid, colon, name = volid.partition(":")
    if not colon or not name or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]", storeid):
        raise ApiError(f"unable to parse volume ID '{volid}'")
    return storeid, name


def parse_directory(storeid: str, name: str) -> Volume:
    """A volume name on a storage that keeps files."""
    if match := IMAGE.fullmatch(name):
        base_vmid, base, vmid, file = match.groups()
        form = IMAGE_FILE.fullmatch(file)
        if form is None or (base is not None and not IMAGE_FILE.fullmatch(base)):
            raise ApiError(f"unable to parse volume filename '{file}'")
        base_name = f"{base_vmid}/{base}" if base else None
        is_base = form[1] in ("base", "basevol")
        return Volume(
            storeid, name, "images", form[2], int(vmid), base_name, int(base_vmid) if base_vmid else None, is_base
        )
    kind, _, file = name.partition("/")
    found = _parse_file(kind, file)
    if found is None:
        raise ApiError(f"unable to parse directory volume name '{name}'")
    fmt, owner = found
    return Volume(storeid, name, kind, fmt, owner)


def _parse_file(kind: str, file: str) -> tuple[str, int | None] | None:
    """(format, owner) of a file of one kind of content; None when that kind takes no such name."""
    if kind == "backup" and BACKUP.fullmatch(file):
        std = re.match(r"vzdump-(?:openvz|lxc|qemu)-(\d+)-.+", file)
        return "raw", int(std[1]) if std else None
    if kind == "import":
        if member := OVA_MEMBER.fullmatch(file):
            return f"ova+{member[3]}", None
        image = IMPORT.fullmatch(file)
        return (image[1], None) if image else None
    patterns = {"iso": ISO, "vztmpl": VZTMPL, "snippets": SNIPPET}
    return ("raw", None) if kind in patterns and patterns[kind].fullmatch(file) else None


def parse_block(storeid: str, name: str, what: str) -> Volume:
    """A volume name on LVM or ZFS, where a linked clone on ZFS carries its base in front
    (`base-1-disk-0/vm-2-disk-0`)."""
    match = BLOCK.fullmatch(name)
    if match is None or (what == "lvm" and match[1]):
        raise ApiError(f"unable to parse {what} volume name '{name}'")
    base, base_vmid, _own, kind, vmid = match.groups()
    fmt = "subvol" if kind in ("subvol", "basevol") else "raw"
    return Volume(
        storeid, name, "images", fmt, int(vmid), base, int(base_vmid) if base_vmid else None, kind.startswith("base")
    )


def free_name(vmid: int, taken: Iterable[str], suffix: str = "") -> str:
    """The first `vm-ID-disk-N` no volume of the guest uses (whatever its suffix, and base images count too)."""
    pattern = re.compile(rf"(?:vm|base|subvol|basevol)-{vmid}-disk-(\d+)(?:\.\w+)?")
    used = {int(match[1]) for name in taken if (match := pattern.fullmatch(name))}
    number = next(n for n in range(len(used) + 1) if n not in used)
    return f"vm-{vmid}-disk-{number}{suffix}"


def upload_name(content: str, filename: str) -> str:
    """The file name an upload gets: path parts and odd characters taken off; ParamError-worthy ones raise ApiError
    400 in the API."""
    name = re.split(r"[/\\]", filename.strip())[-1]
    return re.sub(r"[^a-zA-Z0-9_.\-+=]", "_", name)

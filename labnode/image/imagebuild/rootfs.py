# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system of the guest: collected in memory, written as a newc archive (the kernel's initramfs format)."""

from __future__ import annotations

import lzma
import os
import re
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .errors import BuildError
from .packages import run

# Only what this image can use; dependencies are found in the modules themselves.
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "virtio_console", "virtio_balloon", "virtio_rng"),
    *("sd_mod", "sr_mod", "ata_piix", "ahci", "e1000", "isofs", "button", "evdev", "i6300esb"),
)


@dataclass
class Tree:
    """Paths without a leading slash -> what is there. Folders appear by themselves."""

    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    devices: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def add_folder(self, source: Path) -> None:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                name = path.relative_to(source).as_posix()
                self.files[name] = (stat.S_IMODE(path.stat().st_mode) & 0o755 | 0o444, path.read_bytes())

    def cpio(self) -> bytes:
        """The archive; the same tree gives the same bytes."""
        folders = set(self.folders)
        for name in (*self.files, *self.links, *self.devices):
            folders.update(parent.as_posix() for parent in PurePosixPath(name).parents)
        folders.discard(".")
        parts: list[bytes] = []
        number = 0
        for name in sorted(folders):
            number += 1
            parts.append(_entry(number, name, stat.S_IFDIR | 0o755))
        for name, (major, minor, mode) in sorted(self.devices.items()):
            number += 1
            parts.append(_entry(number, name, stat.S_IFCHR | mode, rdev=(major, minor)))
        for name, target in sorted(self.links.items()):
            number += 1
            parts.append(_entry(number, name, stat.S_IFLNK | 0o777, target.encode()))
        for name, (mode, data) in sorted(self.files.items()):
            number += 1
            parts.append(_entry(number, name, stat.S_IFREG | mode, data))
        parts.append(_entry(0, "TRAILER!!!", 0))
        return b"".join(parts)


def _entry(number: int, name: str, mode: int, data: bytes = b"", rdev: tuple[int, int] = (0, 0)) -> bytes:
    raw = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(raw), 0)
    head = b"070701" + b"".join(b"%08x" % value for value in fields) + raw
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def busybox(tree: Tree, package: Path) -> None:
    """busybox and a link for every applet it has; what the tree brings itself under the same name stays in front."""
    binary = _one(package, "busybox")
    tree.files["bin/busybox"] = (0o755, binary.read_bytes())
    for applet in run([str(binary), "--list"]).split():
        if applet != "busybox":
            tree.links[f"bin/{applet}"] = "busybox"
    for name in ("init", "sbin/init"):
        tree.links[name] = "/bin/busybox"
    for name in ("sh", "init", "modprobe"):
        if f"bin/{name}" not in tree.links:
            raise BuildError(f"the busybox-static package of this system has no applet {name}; the guest needs it")


def program(tree: Tree, name: str, packages: list[Path], target: str) -> None:
    """A dynamically linked program and every library it loads, asked of the packages' own loader."""
    binary = next((found for package in packages for found in package.rglob(name) if found.is_file()), None)
    if binary is None:
        raise BuildError(f"no unpacked package has the program {name}")
    folders = sorted({str(found.parent) for package in packages for found in package.rglob("*.so*")})
    loader = next((found for package in packages for found in package.rglob("ld-linux-x86-64.so.2")), None)
    if loader is None:
        raise BuildError("the libc6 package has no ld-linux-x86-64.so.2; only amd64 guests can be built")
    listing = run([str(loader), "--library-path", ":".join(folders), "--list", str(binary)])
    tree.files[target] = (0o755, binary.read_bytes())
    tree.files["lib64/ld-linux-x86-64.so.2"] = (0o755, loader.resolve().read_bytes())
    for soname, path in re.findall(r"^\s*(\S+) => (/\S+)", listing, re.MULTILINE):
        if not any(Path(path).is_relative_to(package) for package in packages):
            raise BuildError(f"{name} needs {soname}, which no package it depends on has brought")
        if not soname.startswith("/"):
            tree.files[f"lib/x86_64-linux-gnu/{soname}"] = (0o644, Path(path).resolve().read_bytes())


@dataclass(frozen=True)
class Kernel:
    release: str
    image: bytes
    modules: dict[str, Path]

    @classmethod
    def of(cls, package: Path) -> Kernel:
        image = _one(package, "vmlinuz-*")
        release = image.name.removeprefix("vmlinuz-")
        modules = {_stem(path): path for path in package.rglob("*.ko*")}
        return cls(release, image.read_bytes(), modules)


def _stem(path: Path) -> str:
    return path.name.split(".ko")[0]


def kernel_modules(tree: Tree, kernel: Kernel, wanted: Iterable[str] = MODULES) -> None:
    """The wanted modules and what they depend on, with the two index files that modprobe reads.

    A module that this kernel has built in, or does not have at all, is left out: modprobe -q says nothing of it.
    """
    by_name = {name.replace("-", "_"): path for name, path in kernel.modules.items()}
    base = f"lib/modules/{kernel.release}"
    depends: dict[str, list[str]] = {}
    aliases: list[str] = []

    def take(name: str) -> None:
        if name in depends or name not in by_name:
            return
        data = _module_bytes(by_name[name])
        info = _modinfo(data)
        depends[name] = [item.replace("-", "_") for item in info.get("depends", [""])[0].split(",") if item]
        aliases.extend(f"alias {pattern} {name}" for pattern in info.get("alias", []))
        tree.files[f"{base}/{name}.ko"] = (0o644, data)
        for needed in depends[name]:
            take(needed)

    for name in wanted:
        take(name.replace("-", "_"))
    lines = []
    for name in sorted(depends):
        lines.append(f"{name}.ko:" + "".join(f" {other}.ko" for other in _closure(name, depends)))
    tree.files[f"{base}/modules.dep"] = (0o644, ("\n".join(lines) + "\n").encode())
    tree.files[f"{base}/modules.alias"] = (0o644, ("\n".join(aliases) + "\n").encode())


def _closure(name: str, depends: dict[str, list[str]]) -> list[str]:
    """What must be loaded before, in modules.dep's order: the last one listed is loaded first."""
    order: list[str] = []
    for other in depends.get(name, []):
        for item in (other, *_closure(other, depends)):
            if item in order:
                order.remove(item)
            order.append(item)
    return [item for item in order if item in depends]


def _module_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.name.endswith(".xz") else data


def _modinfo(data: bytes) -> dict[str, list[str]]:
    """The .modinfo section of a 64-bit ELF module: zero-terminated key=value strings."""
    at = struct.unpack_from("<Q", data, 0x28)[0]
    size, count, names = struct.unpack_from("<HHH", data, 0x3A)
    section = [struct.unpack_from("<IIQQQQ", data, at + index * size) for index in range(count)]
    name_base = section[names][4]
    info: dict[str, list[str]] = {}
    for head in section:
        start = name_base + head[0]
        if data[start : data.index(b"\0", start)] == b".modinfo":
            for item in data[head[4] : head[4] + head[5]].split(b"\0"):
                key, _, value = item.decode("latin-1").partition("=")
                if value or key:
                    info.setdefault(key, []).append(value)
    return info


def _one(package: Path, pattern: str) -> Path:
    found = [path for path in package.rglob(pattern) if path.is_file() and not os.path.islink(path)]
    if not found:
        raise BuildError(f"the package {package.name} has no {pattern}")
    return sorted(found, key=lambda path: (len(path.parts), path.name))[0]

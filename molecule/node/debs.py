# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of Debian and repositories of them, without any of its tools: deb(5), and RepositoryFormat in its wiki."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

MAGIC = b"!<arch>\n"
MEMBER = 60


@dataclass(frozen=True)
class Package:
    """One package. `files`: path → (text, mode); `scripts`: postinst and the like; `like`: a real .deb whose files and
    scripts it has."""

    name: str
    version: str
    depends: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    like: Path | None = None

    def control(self) -> str:
        """The control file, which is its entry in an index, too."""
        entries = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "amd64",
            "Maintainer": "Stand-in <root@lab.test>",
            **({"Depends": self.depends} if self.depends else {}),
            **self.fields,
            "Description": f"stand-in for {self.name}",
        }
        return "".join(f"{key}: {value}\n" for key, value in entries.items())

    def build(self) -> bytes:
        """The .deb."""
        scripts = dict(self.scripts)
        data = gzip.compress(_tar(self.files), 1)
        if self.like:
            members = members_of(self.like.read_bytes())
            data = gzip.compress(unpacked(members, "data.tar"), 1)
            scripts = {**scripts_of(unpacked(members, "control.tar")), **scripts}
        control = {"control": (self.control(), 0o644), **{name: (text, 0o755) for name, text in scripts.items()}}
        parts = {"debian-binary": b"2.0\n", "control.tar.gz": gzip.compress(_tar(control), 1), "data.tar.gz": data}
        return MAGIC + b"".join(_member(name, body) for name, body in parts.items())


def _member(name: str, body: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode()
    return header + body + b"\n" * (len(body) % 2)


def members_of(deb: bytes) -> dict[str, bytes]:
    """The parts of a .deb by name."""
    found, at = {}, len(MAGIC)
    while at < len(deb):
        name, size = deb[at : at + 16].decode().strip().rstrip("/"), int(deb[at + 48 : at + 58])
        found[name] = deb[at + MEMBER : at + MEMBER + size]
        at += MEMBER + size + size % 2
    return found


def unpacked(members: Mapping[str, bytes], part: str) -> bytes:
    """A tar archive of a .deb."""
    (name,) = [member for member in members if member.startswith(part)]
    return lzma.decompress(members[name]) if name.endswith(".xz") else gzip.decompress(members[name])


def scripts_of(archive: bytes) -> dict[str, str]:
    """What is in control.tar beside the control file and the checksums."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            name: body.read().decode()
            for member in tar.getmembers()
            if (name := member.name.removeprefix("./")) not in ("", ".", "control", "md5sums")
            and (body := tar.extractfile(member))
        }


def _tar(files: Mapping[str, tuple[str, int]]) -> bytes:
    """Paths with their directories, all of them root's."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        parents = {str(up) for path in files for up in Path(path).parents if str(up) != "."}
        for directory in sorted(parents):
            entry = tarfile.TarInfo(f"./{directory}/")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for path, (text, mode) in files.items():
            body = text.encode()
            entry = tarfile.TarInfo(f"./{path}")
            entry.size, entry.mode = len(body), mode
            tar.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


def write_repository(root: Path, origin: str, suite: str, components: Mapping[str, list[Package]]) -> None:
    """Pool, indices and an unsigned Release file below `root`."""
    dists = root / "dists" / suite
    sums = []
    for component, packages in components.items():
        index = "".join(_entry(root, component, package) for package in packages).encode()
        for name, body in (("Packages", index), ("Packages.gz", gzip.compress(index))):
            path = dists / component / "binary-amd64" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
            sums.append(f" {hashlib.sha256(body).hexdigest()} {len(body)} {path.relative_to(dists)}")
    now = datetime.now(UTC)
    lines = [f"Origin: {origin}", f"Label: {origin} stand-in", f"Suite: {suite}", f"Codename: {suite}"]
    lines += [f"Date: {format_datetime(now, usegmt=True)}", "Architectures: amd64", "Acquire-By-Hash: no"]
    lines += [f"Components: {' '.join(components)}", "SHA256:", *sums]
    (dists / "Release").write_text("\n".join(lines) + "\n")


def _entry(root: Path, component: str, package: Package) -> str:
    path = root / "pool" / component / f"{package.name}_{package.version.replace(':', '%3a')}_amd64.deb"
    path.parent.mkdir(parents=True, exist_ok=True)
    body = package.build()
    path.write_bytes(body)
    where = f"Filename: {path.relative_to(root)}\nSize: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n"
    return f"{package.control()}{where}\n"

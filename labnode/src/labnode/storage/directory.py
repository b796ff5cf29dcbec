# SPDX-License-Identifier: GPL-3.0-or-later
"""Storages that keep files: dir, btrfs, nfs, cifs, cephfs.

An image is made under a hidden name and renamed when it is whole, so a kill leaves no half image under a real name.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

from labnode.errors import ApiError
from labnode.storage import images, names
from labnode.storage.backend import Backend, Log, Usage
from labnode.storage.definitions import split_list, truth
from labnode.storage.kinds import KINDS
from labnode.storage.model import Volume, VolumeInfo
from labnode.storage.run import run

UNFINISHED = ".unfinished"
ANY = {"base", "current"}
FEATURES: dict[str, dict[str, set[str]]] = {
    "qcow2": {
        "snapshot": {"current"},
        "clone": {"base"},
        "template": {"current"},
        "copy": {*ANY, "snap"},
        "sparseinit": ANY,
        "rename": {"current"},
    },
    "raw": {"clone": {"base"}, "template": {"current"}, "copy": ANY, "sparseinit": ANY, "rename": {"current"}},
    "vmdk": {"clone": {"base"}, "template": {"current"}, "copy": ANY, "sparseinit": ANY, "rename": {"current"}},
}


class DirectoryBackend(Backend):
    """Files below one directory, in the places Proxmox VE has for each kind of content."""

    @property
    def root(self) -> Path:
        """The storage's directory."""
        path = self.definition.options.get("path")
        if not path:
            raise ApiError("storage definition has no path")
        return Path(path)

    def content(self) -> list[str]:
        """Content types of this storage."""
        return split_list(self.definition.options.get("content", "") or ",".join(KINDS[self.definition.type].default))

    def directory(self, content: str) -> Path:
        """Directory of one content type; `content-dirs` may override the usual place."""
        own = dict(item.partition("=")[::2] for item in split_list(self.definition.options.get("content-dirs", "")))
        return self.root / own.get(content, names.SUBDIRS[content]).lstrip("/")

    def has_feature(self, volume: Volume, feature: str, snap: str | None) -> bool:
        state = "snap" if snap else "base" if volume.is_base else "current"
        return volume.kind == "images" and state in FEATURES.get(volume.fmt, {}).get(feature, set())

    def parse(self, name: str) -> Volume:
        volume = names.parse_directory(self.storeid, name)
        if ".." in Path(name).parts:
            raise ApiError(f"unable to parse directory volume name '{name}'")
        return volume

    def path(self, name: str, snap: str | None = None) -> Path:
        volume = self.parse(name)
        if volume.kind == "images":
            owner, file = name.split("/")[-2:]
            return self.directory("images") / owner / file
        return self.directory(volume.kind) / name.partition("/")[2]

    async def activate(self) -> None:
        root, options = self.root, self.definition.options
        if self.definition.type in ("nfs", "cifs", "cephfs"):
            await self._mount()
        mountpoint = options.get("is_mountpoint", "no")
        if mountpoint not in ("0", "no", "off", "false"):
            where = root if mountpoint in ("1", "yes", "on", "true") else Path(mountpoint)
            if not where.is_mount():
                raise ApiError(
                    f"unable to activate storage '{self.storeid}' - directory is expected to be a mount point"
                    f" but is not mounted: '{where}'"
                )
        making = truth(options.get("mkdir", "1"))
        if truth(options.get("create-base-path", "1")) and making:
            _make(root, f"unable to create directory '{root}' of storage '{self.storeid}'")
        if not root.is_dir():
            raise ApiError(
                f"unable to activate storage '{self.storeid}' - directory '{root}' does not exist or is unreachable"
            )
        if truth(options.get("create-subdirs", "1")) and making:
            for content in self.content():
                if content in names.SUBDIRS:
                    where = self.directory(content)
                    _make(where, f"failed to create content directory '{where}' for content '{content}'")

    async def _mount(self) -> None:
        options, kind = self.definition.options, self.definition.type
        if self.root.is_mount():
            return
        source = {
            "nfs": f"{options.get('server')}:{options.get('export')}",
            "cifs": f"//{options.get('server')}/{options.get('share')}{options.get('subdir', '')}",
        }.get(kind, f"{options.get('monhost', '').replace(' ', ',')}:{options.get('subdir', '/')}")
        given = ["-o", options["options"]] if options.get("options") else []
        _make(self.root, f"unable to create mount point '{self.root}' of storage '{self.storeid}'")
        kinds = {"cephfs": "ceph"}
        await run(
            ["mount", "-t", kinds.get(kind, kind), *given, source, str(self.root)],
            error=f"mount error of storage '{self.storeid}'",
            timeout=30,
        )

    async def usage(self) -> Usage:
        if not self.root.is_dir():
            return Usage()
        stat = os.statvfs(self.root)
        block = stat.f_frsize
        return Usage(True, stat.f_blocks * block, (stat.f_blocks - stat.f_bfree) * block, stat.f_bavail * block)

    async def images(self, vmid: int | None = None) -> list[dict[str, Any]]:
        found = []
        top = self.directory("images")
        owners = [top / str(vmid)] if vmid is not None else sorted(top.glob("[0-9]*")) if top.is_dir() else []
        for directory in owners:
            for path in sorted(directory.iterdir()) if directory.is_dir() else []:
                if names.IMAGE_FILE.fullmatch(path.name) and not path.name.startswith(".") and path.is_file():
                    found.append(await self._entry(directory.name, path))
        return found

    async def _entry(self, owner: str, path: Path) -> dict[str, Any]:
        fmt = path.suffix[1:]
        entry: dict[str, Any] = {
            "volid": f"{self.storeid}:{owner}/{path.name}",
            "content": "images",
            "format": fmt,
            "vmid": int(owner),
        }
        try:
            info = await images.inspect(path, fmt)
        except (ApiError, OSError):
            return {**entry, "size": 0, "used": 0, "parent": None, "ctime": int(path.stat().st_mtime)}
        if info.parent and (base := re.fullmatch(r"\.\./(\d+)/([^/]+)", info.parent)):
            entry["volid"] = f"{self.storeid}:{base[1]}/{base[2]}/{owner}/{path.name}"
        return {
            **entry,
            "size": info.size,
            "used": info.used,
            "parent": info.parent,
            "ctime": int(path.stat().st_mtime),
        }

    async def files(self, content: str) -> list[dict[str, Any]]:
        directory = self.directory(content)
        pattern = {"iso": names.ISO, "vztmpl": names.VZTMPL, "backup": names.BACKUP, "import": names.IMPORT}.get(
            content
        )
        found = []
        for path in sorted(directory.iterdir()) if directory.is_dir() else []:
            if path.name.startswith(".") or not path.is_file() or (pattern and not pattern.fullmatch(path.name)):
                continue
            found.append(_file_entry(self.storeid, content, path))
        return found

    async def info(self, name: str) -> VolumeInfo | None:
        path = self.path(name)
        volume = self.parse(name)
        if volume.fmt.startswith("ova+"):
            return VolumeInfo(volume.fmt, 0, 0) if path.parent.is_file() else None
        if not path.is_file():
            return None
        fmt = volume.fmt if volume.kind in ("images", "import") and volume.fmt not in ("ova", "ovf") else "raw"
        info = await images.inspect(path, fmt)
        shown = (
            _file_entry(self.storeid, volume.kind, path)["format"]
            if volume.kind not in ("images", "import")
            else volume.fmt
        )
        return VolumeInfo(shown, info.size, info.used, info.parent)

    async def snapshots(self, name: str) -> list[str]:
        return await images.snapshots(self.path(name)) if self.parse(name).fmt == "qcow2" else []

    def new_place(self, vmid: int, fmt: str, name: str | None) -> tuple[Path, Path]:
        """(final path, path while unfinished) of a new image; makes the guest's directory. ApiError when the name is
        taken or wrong."""
        directory = self.directory("images") / str(vmid)
        _make(directory, f"unable to create directory '{directory}' of storage '{self.storeid}'")
        if name is None:
            taken = [path.name.removeprefix(".").removesuffix(UNFINISHED) for path in directory.iterdir()]
            name = names.free_name(vmid, taken, f".{fmt}")
        form = names.IMAGE_FILE.fullmatch(name)
        if form is None or not name.startswith((f"vm-{vmid}-", f"base-{vmid}-", f"subvol-{vmid}-")):
            raise ApiError(f"illegal name '{name}' - should be 'vm-{vmid}-*'")
        if form[2] != fmt:
            raise ApiError(f"illegal name '{name}' - wrong extension for format ('{form[2]}' != '{fmt}')")
        final = directory / name
        if final.exists():
            raise ApiError(f"disk image '{final}' already exists")
        return final, directory / f".{name}{UNFINISHED}"

    async def alloc(self, vmid: int, fmt: str, size: int, name: str | None, log: Log) -> str:
        final, work = self.new_place(vmid, fmt, name)
        usual = "metadata" if fmt == "qcow2" else "off"
        chosen = self.definition.options.get("preallocation", usual)
        prealloc = "off" if fmt == "raw" and chosen == "metadata" else chosen
        try:
            await images.create(work, fmt, size, prealloc=prealloc, shown=final, log=log)
            self.finish(work, final)
        finally:
            work.unlink(missing_ok=True)
            _drop_empty(final.parent)
        return f"{vmid}/{final.name}"

    def finish(self, work: Path, final: Path) -> None:
        """Give a whole image its name."""
        images.sync_file(work)
        os.rename(work, final)

    async def free(self, name: str) -> None:
        volume, path = self.parse(name), self.path(name)
        if path.is_file():
            path.chmod(0o600)
            path.unlink()
        if volume.kind == "backup":
            for suffix in (".notes", ".protected", ".log"):
                target = (
                    path.with_name(path.name + suffix)
                    if suffix != ".log"
                    else path.with_name(re.sub(r"\.(tgz|(?:tar|vma).*)$", ".log", path.name))
                )
                target.unlink(missing_ok=True)
        if volume.kind == "images":
            _drop_empty(path.parent)

    async def resize(self, name: str, size: int) -> str:
        return await run(
            ["qemu-img", "resize", "-f", self.parse(name).fmt, str(self.path(name)), str(size)],
            error="resize failed",
            package=images.PACKAGE,
        )

    async def snapshot(self, name: str, snap: str) -> None:
        await images.snapshot(self.path(name), "-c", snap)

    async def snapshot_delete(self, name: str, snap: str) -> None:
        if snap in await self.snapshots(name):
            await images.snapshot(self.path(name), "-d", snap)

    async def snapshot_rollback(self, name: str, snap: str) -> None:
        if snap not in await self.snapshots(name):
            raise ApiError(f"snapshot '{snap}' of volume '{self.storeid}:{name}' does not exist")
        await images.snapshot(self.path(name), "-a", snap)

    async def clone_linked(self, name: str, vmid: int, snap: str | None, log: Log) -> str:
        volume, source = self.parse(name), self.path(name)
        if snap or not volume.is_base:
            raise ApiError("clone_image only works on base images")
        final, work = self.new_place(vmid, "qcow2", None)
        info = await images.inspect(source, volume.fmt)
        backing = f"../{volume.vmid}/{source.name}"
        log(f"clone {volume.vmid}/{source.name}: images, {final.name}, {vmid} to {final.name} (base={backing})")
        try:
            await images.create_linked(work, backing, volume.fmt, info.size, shown=final, log=log)
            self.finish(work, final)
        finally:
            work.unlink(missing_ok=True)
            _drop_empty(final.parent)
        return f"{volume.vmid}/{source.name}/{vmid}/{final.name}"

    async def make_base(self, name: str) -> str:
        volume, path = self.parse(name), self.path(name)
        if volume.is_base:
            raise ApiError("create_base not possible with base image")
        target = path.with_name(re.sub(r"^(vm|subvol)-", lambda m: "base-" if m[1] == "vm" else "basevol-", path.name))
        if target.exists():
            raise ApiError(f"file '{target}' already exists")
        os.rename(path, target)
        target.chmod(0o444)
        prefix = f"{volume.base}/" if volume.base else ""
        return f"{prefix}{volume.vmid}/{target.name}"

    async def rename(self, name: str, vmid: int, new: str | None) -> str:
        volume, path = self.parse(name), self.path(name)
        wanted = new if new is None or new.endswith(f".{volume.fmt}") else f"{new}.{volume.fmt}"
        final, _work = self.new_place(vmid, volume.fmt, wanted)
        os.rename(path, final)
        _drop_empty(path.parent)
        prefix = f"{volume.base}/" if volume.base else ""
        return f"{prefix}{vmid}/{final.name}"

    def sweep(self) -> int:
        """Remove what a killed node left unfinished; the number of files."""
        top = self.directory("images")
        left = list(top.glob(f"[0-9]*/.*{UNFINISHED}")) if top.is_dir() else []
        for content in ("iso", "vztmpl", "import", "backup", "snippets"):
            left += list(self.directory(content).glob(f".*{UNFINISHED}"))
        for path in left:
            path.unlink(missing_ok=True)
            if path.parent.parent == top:
                _drop_empty(path.parent)
        return len(left)


def _file_entry(storeid: str, content: str, path: Path) -> dict[str, Any]:
    stat = path.stat()
    entry: dict[str, Any] = {
        "volid": f"{storeid}:{content}/{path.name}",
        "content": content,
        "size": stat.st_size,
        "ctime": int(stat.st_mtime),
    }
    if content == "iso":
        entry["format"] = "iso"
    elif content == "snippets":
        entry["format"] = "snippet"
    elif content == "vztmpl":
        entry["format"] = "t" + path.name.rpartition(".tar")[2].lstrip(".") if ".tar." in path.name else "tar"
    elif content == "import":
        entry["format"] = path.suffix[1:]
    elif match := names.BACKUP.fullmatch(path.name):
        entry["format"] = match[1]
        _describe_backup(entry, path)
    return entry


def _describe_backup(entry: dict[str, Any], path: Path) -> None:
    if std := re.match(r"vzdump-(openvz|lxc|qemu)-(\d+)-", path.name):
        entry.update(vmid=int(std[2]), subtype="qemu" if std[1] == "qemu" else "lxc")
    if whole := names.BACKUP_STD.fullmatch(path.name):
        entry["ctime"] = int(time.mktime((*(int(n) for n in whole.groups()[2:8]), 0, 0, -1)))  # type: ignore[arg-type]
    notes = path.with_name(path.name + ".notes")
    if notes.is_file():
        entry["notes"] = notes.read_text(encoding="utf-8", errors="replace")
    if path.with_name(path.name + ".protected").exists():
        entry["protected"] = 1


def _make(path: Path, failure: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        hint = " - ensure that you have read and write access to it" if isinstance(err, PermissionError) else ""
        raise ApiError(f"{failure} - {err.strerror}{hint}") from None


def _drop_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return

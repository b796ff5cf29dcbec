# SPDX-License-Identifier: GPL-3.0-or-later
"""The command: decide whether there is anything to build, build it beside the cache, move it in at once."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .disk import Bootloader, to_qcow2, write_disk
from .errors import BuildError
from .packages import Archive, Package, run
from .rootfs import Kernel, Tree, busybox, kernel_modules, program

SOURCES = Path(__file__).resolve().parent.parent
CACHE = SOURCES.parent.parent / ".cache" / "image"
NAME = "canary.qcow2"
CHECKED = "checked"
# The small kernel boots in two seconds less under emulation but has no AHCI and no e1000: boot.lua decides.
KERNELS = {"cloud": "linux-image-cloud-amd64", "full": "linux-image-amd64"}
LUA = ("lua.c32", "liblua.c32", "pci.c32", "syslinux.c32", "libcom32.c32")
PROGRAMS = ("busybox-static", "qemu-guest-agent", "syslinux", "syslinux-common", "mtools", "lz4")


def main(argv: list[str] | None = None) -> int:
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with _lock(options.cache):
            path = build(options.cache, quiet=options.quiet)
    except BuildError as error:
        print(f"make image: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(path)
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="labnode/image/build", description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where packages and images are kept (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="print the path of the image only")
    return parser.parse_args(argv)


@contextmanager
def _lock(cache: Path) -> Iterator[None]:
    """One build at a time; a second one waits and then finds the image made."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build(cache: Path, *, quiet: bool = False) -> Path:
    """The path of the current image, built when its ingredients changed. A stopped build leaves nothing behind."""
    begun = time.monotonic()
    if platform.machine() != "x86_64":
        raise BuildError(f"the guest image is built from amd64 packages; this machine is {platform.machine()}")
    known = _known(cache)
    if known is not None:
        return known
    world = _world()
    archive = Archive(cache)
    packages = _packages(archive)
    image = cache / f"canary-{_digest(packages)}.qcow2"
    if not image.exists():
        for stale in cache.glob("build-*"):
            run(["rm", "-rf", str(stale)])
        with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as work:
            made = _make(archive, packages, Path(work))
            os.rename(made, image)
        if not quiet:
            size = image.stat().st_size / 1e6
            print(f"guest image: built in {time.monotonic() - begun:.1f} s, {size:.1f} MB", file=sys.stderr)
    _point(cache / NAME, image)
    _forget_others(cache, image, packages)
    (cache / CHECKED).write_text(f"{world} {image.name}", encoding="utf-8")
    return cache / NAME


def _known(cache: Path) -> Path | None:
    """The image, when neither the sources nor apt's lists have changed since it was last looked at: apt is slow."""
    try:
        world, name = (cache / CHECKED).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    current = world == _world() and (cache / name).exists() and (cache / NAME).exists()
    return cache / NAME if current else None


def _world() -> str:
    digest = _source_digest()
    for place in ("/var/lib/apt/lists", "/etc/apt/sources.list", "/etc/apt/sources.list.d", "/etc/apt/preferences.d"):
        if os.path.exists(place):
            digest.update(f"\0{place}\0{os.stat(place).st_mtime_ns}".encode())
    return digest.hexdigest()


def _packages(archive: Archive) -> dict[str, Package]:
    """Every package that goes in, by name: kernels under their flavour's name, programs, and the agent's libraries."""
    found = archive.find([*KERNELS.values(), *PROGRAMS])
    chosen = {name: found[name] for name in PROGRAMS}
    concrete = {flavour: found[meta].depends[0] for flavour, meta in KERNELS.items()}
    chosen.update(archive.find(list(concrete.values())))
    waiting = [name for name in found["qemu-guest-agent"].depends if name.startswith("lib")]
    while waiting:
        batch = archive.find(waiting)
        chosen.update(batch)
        needed = {name for package in batch.values() for name in package.depends if name.startswith("lib")}
        waiting = sorted(needed - set(chosen))
    return chosen


def _digest(packages: dict[str, Package]) -> str:
    digest = _source_digest()
    digest.update("\n".join(sorted(package.label for package in packages.values())).encode())
    return digest.hexdigest()[:16]


def _source_digest() -> hashlib._Hash:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file() and path.suffix not in {".pyc", ".md"}:
            digest.update(f"\0{path.relative_to(SOURCES)}\0{path.stat().st_mode & 0o111}\0".encode())
            digest.update(path.read_bytes())
    return digest


def _make(archive: Archive, packages: dict[str, Package], work: Path) -> Path:
    unpacked = {name: archive.unpack(package, work) for name, package in packages.items()}
    libraries = [tree for name, tree in unpacked.items() if name.startswith("lib") or name == "qemu-guest-agent"]
    canary = _compile(work)
    options = " ".join((SOURCES / "kernel-options").read_text().split())
    menu = (SOURCES / "syslinux.cfg").read_text().replace("@OPTIONS@", options)
    files = {"boot.lua": (SOURCES / "boot.lua").read_bytes(), "syslinux.cfg": menu.encode()}
    loader = Bootloader(unpacked["syslinux"], unpacked["syslinux-common"], unpacked["mtools"])
    for module in LUA:
        files[module] = loader.part(module).read_bytes()
    for name, tree in unpacked.items():
        if name.startswith("linux-image-"):
            flavour = "cloud" if "cloud" in name else "full"
            kernel = Kernel.of(tree)
            files[f"{flavour}.krn"] = kernel.image
            files[f"{flavour}.rd"] = _lz4(
                _root(kernel, unpacked["busybox-static"], libraries, canary).cpio(), unpacked["lz4"], work
            )
    raw, image = work / "disk.raw", work / NAME
    write_disk(raw, files, loader)
    to_qcow2(raw, image)
    return image


def _root(kernel: Kernel, busybox_package: Path, agent: list[Path], canary: Path) -> Tree:
    tree = Tree()
    busybox(tree, busybox_package)
    program(tree, "qemu-ga", agent, "bin/qemu-ga")
    kernel_modules(tree, kernel)
    tree.files["bin/canary"] = (0o755, canary.read_bytes())
    tree.add_folder(SOURCES / "rootfs")
    for name in ("dev", "proc", "sys", "run", "mnt", "tmp", "root", "var/lib"):
        tree.folders.add(name)
    tree.files["etc/hosts"] = (0o644, b"127.0.0.1 localhost\n::1 localhost\n")
    tree.files["etc/passwd"] = (0o644, b"root::0:0:root:/root:/bin/sh\n")
    tree.files["etc/group"] = (0o644, b"root:x:0:\n")
    tree.links["var/run"] = "/run"
    tree.devices["dev/console"] = (5, 1, 0o600)
    tree.devices["dev/null"] = (1, 3, 0o666)
    return tree


def _lz4(data: bytes, package: Path, work: Path) -> bytes:
    """Compressed in the frame the kernel knows. Half the size to read through the BIOS, and quick to unpack."""
    part = work / "initramfs"
    part.write_bytes(data)
    run([str(package / "usr/bin/lz4"), "-l", "-9", "-f", "-q", str(part), f"{part}.lz4"])
    return Path(f"{part}.lz4").read_bytes()


def _compile(work: Path) -> Path:
    target = work / "canary"
    source = SOURCES / "canary.c"
    run(["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s", "-o", str(target), str(source)])
    return target


def _point(link: Path, image: Path) -> None:
    """Make `link` name the image, in one step, whoever is reading it."""
    part = link.with_name(f".{link.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    part.symlink_to(image.name)
    os.replace(part, link)


def _forget_others(cache: Path, image: Path, packages: dict[str, Package]) -> None:
    for old in cache.glob("canary-*.qcow2"):
        if old != image:
            old.unlink()
    kept = {(package.name, package.version.replace(":", "%3a")) for package in packages.values()}
    for deb in (cache / "debs").glob("*.deb"):
        name, version, _ = deb.name.split("_", 2)
        if (name, version) not in kept:
            deb.unlink()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the image: debootstrap, apt and dkms at the host's speed, then a disk of it. Needs root for chroot only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from labvm import recipe
from labvm.bootable import make_disk
from labvm.errors import LabError
from labvm.places import REPOSITORY, ROOTFS, lock

Say = Callable[[str], None]
PROGRAMS = {"debootstrap": "debootstrap", "mke2fs": "e2fsprogs", "qemu-img": "qemu-utils",
            "qemu-system-x86_64": "qemu-system-x86", "ssh": "openssh-client", "unshare": "util-linux"}  # fmt: skip
DISK, KEY, HOST_KEY = "disk.qcow2", "id_ed25519", "ssh_host_ed25519_key"
# apt's settings that say how this machine reaches its mirror; the rest of its configuration is its own business
CARRIED = ("acquire::http", "acquire::https", "acquire::check-date", "acquire::check-valid-until", "acquire::retries")
WHEELS = ("manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_26_x86_64", "manylinux_2_28_x86_64",
          "manylinux_2_34_x86_64")  # fmt: skip
INSTALL = r"""
set -e
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys" || true
exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive /bin/sh -euc "$2"
"""


def run(argv: Sequence[str], log: Path | None = None) -> None:
    """LabError with the last lines of output when a command fails. A stopped build takes the command with it."""
    out = log.open("ab") if log else None
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            text, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    finally:
        if out:
            out.close()
    if process.returncode:
        lines = (log.read_bytes() if log else text).decode(errors="replace").splitlines()
        raise LabError(f"'{' '.join(argv[:3])} …' failed ({process.returncode}): " + " / ".join(lines[-4:]))


def apt_settings() -> str:
    """How this machine's apt reaches its mirror, in apt's own syntax; empty without apt."""
    if not shutil.which("apt-config"):
        return ""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    return "".join(f"{line}\n" for line in dump.splitlines() if line.lower().startswith(CARRIED))


def mirror(sources: Path = Path("/etc/apt")) -> str:
    """The mirror that this machine takes Debian from, when it is a Debian; else Debian's own."""
    if asked := os.environ.get("PVELAB_MIRROR"):
        return asked
    texts = [path.read_text(encoding="utf-8") for path in sorted(sources.glob("sources.list.d/*.sources"))]
    for text in texts:
        for line in text.splitlines():
            field, _, value = line.partition(":")
            first = (value.split() or [""])[0].rstrip("/")
            if field.lower() == "uris" and first.startswith("http") and first.endswith("/debian"):
                return first
    old = sources / "sources.list"
    for line in old.read_text(encoding="utf-8").splitlines() if old.exists() else []:
        for word in line.split():
            if line.startswith("deb ") and word.startswith("http") and word.rstrip("/").endswith("/debian"):
                return word.rstrip("/")
    return recipe.MIRROR


def ensure_image(cache: Path, say: Say) -> Path:
    """The directory of the current image, built when there is none."""
    image = cache / f"image-{recipe.image_key()}"
    with lock(cache / "build.lock"):
        if (image / DISK).exists():
            return image
        _check()
        begun = time.monotonic()
        for stale in cache.glob("building-*"):
            shutil.rmtree(stale)
        with tempfile.TemporaryDirectory(dir=cache, prefix="building-") as work:
            made = _build(Path(work), cache / "build.log", say)
            made.rename(image)
        for old in cache.glob("image-*"):
            if old != image:
                shutil.rmtree(old)
        say(f"image built in {time.monotonic() - begun:.0f} s, {(image / DISK).stat().st_size / 1e9:.1f} GB")
    return image


def _check() -> None:
    missing = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
    if missing:
        raise LabError(f"programs are missing: apt install {' '.join(missing)}")
    if os.geteuid() != 0:
        raise LabError("building the lab's image runs chroot and so needs root: run 'sudo lab/lab build' once")


def _build(work: Path, log: Path, say: Say) -> Path:
    tree, made = work / "tree", work / "image"
    made.mkdir(mode=0o700)
    log.unlink(missing_ok=True)
    say(f"unpacking Debian {recipe.SUITE} (log: {log})")
    include = ",".join(recipe.BASE)
    run(["debootstrap", "--variant=minbase", f"--include={include}", recipe.SUITE, str(tree), mirror()], log)
    say("installing packages and building the ZFS module")
    prepare(tree)
    run(["unshare", "--mount", "--fork", "--kill-child", "sh", "-c", INSTALL, "lab", str(tree), _install()], log)
    say("making the disk")
    populate(tree, made)
    finish(tree, made, log)
    return made


def prepare(tree: Path) -> None:
    """What apt must find before it installs anything."""
    address = mirror()
    lines = [f"deb {address} {suite} {recipe.COMPONENTS}\n" for suite in (recipe.SUITE, f"{recipe.SUITE}-updates")]
    _write(tree / "etc/apt/sources.list", "".join(lines))
    _write(tree / "etc/apt/apt.conf.d/00build", apt_settings())
    _write(tree / "etc/apt/apt.conf.d/10lab", 'APT::Install-Recommends "false";\nAcquire::Languages "none";\n')
    _write(tree / "etc/dpkg/dpkg.cfg.d/lab-build", "force-unsafe-io\n")
    _write(tree / "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
    shutil.copy("/etc/resolv.conf", tree / "etc/resolv.conf")


def _install() -> str:
    return (
        'echo "grub-pc grub-pc/install_devices multiselect" | debconf-set-selections\n'
        "apt-get -qq update\n"
        f"apt-get -qq -y install {' '.join(recipe.PACKAGES)}\n"
        "kernel=$(ls /lib/modules)\n"
        'modinfo -k "$kernel" zfs >/dev/null\n'
        "apt-get clean\n"
    )


def populate(tree: Path, made: Path) -> None:
    """Everything in the image that is not a package; leaves the keys in `made`."""
    for name in (KEY, HOST_KEY):
        if not (made / name).exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(made / name)])
    for source in sorted(path for path in ROOTFS.rglob("*") if path.is_file()):
        _write(tree / source.relative_to(ROOTFS), source.read_text(encoding="utf-8"), source.stat().st_mode & 0o777)
    for name, text in _texts().items():
        _write(tree / name, text)
    _write(tree / "root/.ssh/authorized_keys", (made / f"{KEY}.pub").read_text(), 0o600)
    (tree / "root/.ssh").chmod(0o700)
    for old in (tree / "etc/ssh").glob("ssh_host_*"):
        old.unlink()
    _write(tree / f"etc/ssh/{HOST_KEY}", (made / HOST_KEY).read_text(), 0o600)
    _write(tree / f"etc/ssh/{HOST_KEY}.pub", (made / f"{HOST_KEY}.pub").read_text())
    for name in ("usr/sbin/policy-rc.d", "etc/dpkg/dpkg.cfg.d/lab-build", "etc/apt/apt.conf.d/00build"):
        (tree / name).unlink(missing_ok=True)
    for lists in (tree / "var/lib/apt/lists").glob("*_*"):
        lists.unlink()
    _python(tree / "usr/lib/labnode/packages")


def _texts() -> dict[str, str]:
    names = f"{recipe.HOST_NAME}.{recipe.DOMAIN} {recipe.HOST_NAME}"
    links = {
        f"etc/systemd/network/10-{nic}.link": f"[Match]\nMACAddress={mac}\n\n[Link]\nName={nic}\n"
        for nic, mac in recipe.MACS.items()
    }
    return {
        **links,
        "etc/hostname": f"{recipe.HOST_NAME}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{recipe.ADDRESS} {names}\n::1 localhost ip6-localhost\n",
        "etc/resolv.conf": f"nameserver {recipe.NAMESERVER}\n",
        "etc/machine-id": "",
        "etc/network/interfaces": (
            "auto lo\niface lo inet loopback\n\niface eno1 inet manual\n\niface eno2 inet manual\n\n"
            f"iface eno3 inet manual\n\nauto vmbr0\niface vmbr0 inet static\n\taddress {recipe.ADDRESS}/24\n"
            f"\tgateway {recipe.GATEWAY}\n\tbridge-ports eno1\n\tbridge-stp off\n\tbridge-fd 0\n\n"
            "source /etc/network/interfaces.d/*\n"
        ),
    }


def _python(target: Path) -> None:
    """labnode's libraries, as wheels for the image's Python: nothing is compiled and nothing of the host's is used."""
    argv = [sys.executable, "-m", "pip", "install", "-q", "--target", str(target), "--only-binary=:all:"]
    argv += ["--implementation=cp", "--python-version=3.13", *(f"--platform={tag}" for tag in WHEELS)]
    constraints = REPOSITORY / "requirements" / "constraints.txt"
    run([*argv, "--no-compile", "-c", str(constraints), *recipe.labnode_requirements()])


def finish(tree: Path, made: Path, log: Path | None = None) -> None:
    """A bootable qcow2 of the tree."""
    run(["chroot", str(tree), "systemctl", "-q", "mask", *recipe.QUIET], log)
    run(["chroot", str(tree), "systemctl", "-q", "enable", "labnode.service"], log)
    generators = tree / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    for name in recipe.IDLE_GENERATORS:
        (generators / name).symlink_to("/dev/null")
    kernel = max(path.name for path in (tree / "lib/modules").iterdir())
    root = str(uuid.uuid4())
    _write(tree / "etc/fstab", f"UUID={root} / ext4 noatime,errors=remount-ro 0 1\n")
    menu = f"search --no-floppy --fs-uuid --set=root {root}\nlinux /boot/vmlinuz-{kernel} root=UUID={root} ro "
    menu += f"console=ttyS0,115200\ninitrd /boot/initrd.img-{kernel}\nboot\n"
    _write(tree / "boot/grub/grub.cfg", menu)
    shutil.copytree(tree / "usr/lib/grub/i386-pc", tree / "boot/grub/i386-pc", dirs_exist_ok=True)
    raw = made / "disk.raw"
    make_disk(tree, raw, recipe.DISK_GIB, root, lambda argv: run(argv, log))
    run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(made / "part.qcow2")], log)
    raw.unlink()
    (made / "part.qcow2").rename(made / DISK)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)

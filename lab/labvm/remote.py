# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside the machine, over SSH: waiting for it, its clock, labnode's code."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import time
from pathlib import Path

from labvm.build import HOST_KEY, KEY
from labvm.errors import LabError, Panic
from labvm.places import REPOSITORY, Lab

CODE = REPOSITORY / "labnode" / "src" / "labnode"
STAMP = "/usr/lib/labnode/stamp"
ALIAS = "pvelab-lab-machine"
LAST_LINES = 5


def write_ssh_config(lab: Lab, image: Path, port: int) -> None:
    """For `ssh -F`: own key, pinned host key, one connection shared by many commands is left to the caller."""
    known = lab.directory / "known_hosts"
    known.write_text(f"{ALIAS} {(image / f'{HOST_KEY}.pub').read_text()}", encoding="utf-8")
    lines = [
        "Host lab pve1",
        "  HostName 127.0.0.1",
        f"  Port {port}",
        "  User root",
        f"  IdentityFile {image / KEY}",
        "  IdentitiesOnly yes",
        f"  UserKnownHostsFile {known}",
        f"  HostKeyAlias {ALIAS}",
        "  StrictHostKeyChecking yes",
        "  ConnectTimeout 60",
        "  ServerAliveInterval 15",
        "  ServerAliveCountMax 8",
        "  LogLevel ERROR",
    ]
    lab.ssh_config.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ssh(lab: Lab, command: str, *, stdin: bytes = b"", timeout: float = 120.0) -> str:
    """Standard output of a command; LabError with its last lines when it fails or takes too long."""
    argv = ["ssh", "-F", str(lab.ssh_config), "-o", "BatchMode=yes", "lab", command]
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise _trouble(lab, f"'{command[:60]}' did not end within {timeout:.0f} s") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        raise _trouble(lab, f"'{command[:60]}' failed: {' / '.join(lines[-LAST_LINES:])}")
    return done.stdout.decode(errors="replace")


def _trouble(lab: Lab, text: str) -> LabError:
    """What a command that failed says of the machine."""
    if lab.console_says("Kernel panic"):
        return Panic(f"lab '{lab.name}': its kernel panicked; its console: {lab.serial_log}")
    return LabError(f"lab '{lab.name}': {text}")


def wait_for_ssh(lab: Lab, timeout: float) -> None:
    """Until a command runs; LabError when the machine is gone or does not answer in time."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            ssh(lab, "true", timeout=30)
            return
        except Panic:
            raise
        except LabError as error:
            if lab.pid() is None:
                raise LabError(f"lab '{lab.name}': the machine stopped while it was waited for") from None
            if time.monotonic() > deadline:
                raise LabError(f"lab '{lab.name}' did not come up in {timeout:.0f} s ({error});"
                               f" its console: {lab.serial_log}") from None  # fmt: skip
            time.sleep(0.2)


def set_clock(lab: Lab) -> None:
    """A restored machine lives at the moment of its snapshot until it is told the time."""
    ssh(lab, f"date -s @{time.time() + 0.2:.2f} >/dev/null && systemctl try-restart --no-block chrony")


def code_archive() -> tuple[str, bytes]:
    """labnode's package as a tar file, and a digest of it that depends on nothing but the files."""
    digest, buffer = hashlib.sha256(), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for path in sorted(CODE.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                name = f"labnode/{path.relative_to(CODE)}"
                digest.update(f"\0{name}\0".encode() + path.read_bytes())
                archive.add(path, name)
    return digest.hexdigest(), buffer.getvalue()


def sync_labnode(lab: Lab, password: str) -> bool:
    """Put this tree's labnode into the machine and restart it, when it is not the one that runs there; True when it
    was another."""
    mark, archive = code_archive()
    if ssh(lab, f"cat {STAMP} 2>/dev/null || true").strip() == mark:
        return False
    quoted = password.replace("'", "")
    script = (
        "set -e; umask 022; rm -rf /usr/lib/labnode/new; mkdir -p /usr/lib/labnode/new /etc/labnode;"
        " tar -xzof - -C /usr/lib/labnode/new; rm -rf /usr/lib/labnode/src;"
        " mv /usr/lib/labnode/new /usr/lib/labnode/src;"
        f" [ -s /etc/labnode/password ] || (umask 077; echo '{quoted}' > /etc/labnode/password);"
        f" systemctl restart labnode; echo {mark} > {STAMP}"
    )
    ssh(lab, script, stdin=archive, timeout=180)
    return True


def wait_for_labnode(lab: Lab, timeout: float) -> str:
    """The fingerprint of its certificate, once it answers."""
    script = "systemctl is-failed -q labnode && exit 3; curl -sko /dev/null https://127.0.0.1:8006/ || exit 4"
    deadline = time.monotonic() + timeout
    while True:
        try:
            ssh(lab, script)
            break
        except Panic:
            raise
        except LabError:
            if time.monotonic() > deadline:
                log = ssh(lab, "journalctl -u labnode -n 8 --no-pager -o cat")
                raise LabError(f"lab '{lab.name}': labnode does not answer: {' / '.join(log.splitlines())}") from None
            time.sleep(0.5)
    show = "openssl x509 -in /var/lib/labnode/etc/nodes/*/pve-ssl.pem -noout -fingerprint -sha256"
    return ssh(lab, show).strip().partition("=")[2]

# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that a machine runs at its first boot, tried out in a directory, and its call home to a real server."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.pvelab.proxmox.tests.integration.answer_parts import Server
from ansible_collections.pvelab.proxmox.tests.lab import ROOT

KEYS = ["ssh-ed25519 AAAAC3Nz one@example.com", 'from="192.0.2.0/24" ssh-ed25519 AAAAC3Nz two\'s "key"']
TEMPLATE = ROOT / "roles/installer/templates/first-boot.sh.j2"


def rendered(**more: Any) -> str:
    """The script as the role's template module makes it."""
    variables = {
        "installer_name": "pve1",
        "installer_serve": True,
        "installer_first_boot_user": "root",
        "installer_first_boot_keys": KEYS,
        "installer_first_boot_sudo": True,
        "installer_first_boot_call_home": False,
        "_installer_url": "https://127.0.0.1:1",
        "_installer_pem": "",
        **more,
    }
    source = trust_as_template(TEMPLATE.read_text())
    return str(Templar(DataLoader(), variables).template(source, preserve_trailing_newlines=True)) + "\n"


class Machine:
    """A directory that the script takes for the root of a machine, with stand-ins for what would change this one."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.bin = folder / "bin"
        (self.root / "root").mkdir(parents=True)
        (self.root / "home/admin").mkdir(parents=True)
        self.bin.mkdir()
        self.users = folder / "passwd"
        self.users.write_text("root:x:0:0:root:/root:/bin/bash\n")
        self.calls = folder / "calls"
        self.calls.write_text("")
        self.tool("getent", f'grep "^$2:" {self.users}')
        self.tool("useradd", f'echo useradd "$@" >>{self.calls}; echo "$4:x:1000:1000::/home/$4:" >>{self.users}')
        self.tool("chown", f'echo chown "$@" >>{self.calls}')

    def tool(self, name: str, line: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        path = self.root.parent / "hook"
        path.write_text(script)
        environment = {**os.environ, "PVELAB_ROOT": str(self.root), "PATH": f"{self.bin}:{os.environ['PATH']}"}
        argv = ["sh", str(path), "fully-up"]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=True)

    def keys(self, home: str = "root") -> list[str]:
        return (self.root / home / ".ssh/authorized_keys").read_text().splitlines()


def test_keys_are_added_once_to_those_that_are_there(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (machine.root / "root/.ssh").mkdir()
    # On a node root's file is a link into the cluster's file system, which must stay one.
    (machine.root / "elsewhere").write_text(f"ssh-ed25519 AAAA cluster\n{KEYS[0]}\n")
    link = machine.root / "root/.ssh/authorized_keys"
    link.symlink_to(machine.root / "elsewhere")
    machine.run(rendered())
    assert link.is_symlink()
    assert machine.keys() == ["ssh-ed25519 AAAA cluster", *KEYS]
    assert (machine.root / "var/lib/pvelab-first-boot/done").exists()


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(rendered())
    (machine.root / "root/.ssh/authorized_keys").write_text("")
    machine.run(rendered())
    assert machine.keys() == []


def test_a_script_that_was_cut_short_goes_on_at_the_next_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(rendered())
    (machine.root / "var/lib/pvelab-first-boot/done").unlink()
    machine.run(rendered())
    assert machine.keys() == KEYS


def test_a_user_of_his_own_is_made_once(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for _none in range(2):
        machine.run(rendered(installer_first_boot_user="admin"))
        (machine.root / "var/lib/pvelab-first-boot/done").unlink()
    calls = machine.calls.read_text().splitlines()
    assert [c for c in calls if c.startswith("useradd")] == ["useradd --create-home --shell /bin/bash admin"]
    assert f"chown -R admin: {machine.root}/home/admin/.ssh" in calls
    assert machine.keys("home/admin") == KEYS
    rule = machine.root / "etc/sudoers.d/pvelab-admin"
    assert rule.read_text() == "admin ALL=(ALL) NOPASSWD: ALL\n" and rule.stat().st_mode & 0o777 == 0o440
    assert (machine.root / "home/admin/.ssh").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("caller", ["curl", "wget"])
def test_it_calls_home_by_the_marks_of_its_machine(tmp_path: Path, caller: str) -> None:
    program = shutil.which(caller)
    if not program:
        pytest.skip(f"{caller} is not on this machine")
    machine = Machine(tmp_path)
    for name, text in (("class/dmi/id/product_serial", '7"CX\n'), ("class/dmi/id/product_uuid", "4C4C4544-0043\n")):
        path = machine.root / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for card in ("eno1", "eno2"):
        (machine.root / f"sys/class/net/{card}/device").mkdir(parents=True)
        (machine.root / f"sys/class/net/{card}/address").write_text(f"52:54:00:00:00:0{card[-1]}\n")
    folder = tmp_path / "server"
    folder.mkdir()
    pem, key = certificate(tmp_path)
    rules = {"pve1": {"macs": ["52:54:00:00:00:02"], "serial": "7CX"}}
    # The other program must not be found, which only a PATH of few names can see to.
    for name in ("cat", "cut", "grep", "mkdir", "mktemp", "rm", "sh", "tr", caller):
        (machine.bin / name).symlink_to(shutil.which(name) or name)
    with Server(folder, "--certificate", str(pem), "--key", str(key), rules=rules) as server:
        url = f"https://127.0.0.1:{server.port}"
        script = rendered(installer_first_boot_call_home=True, _installer_url=url, _installer_pem=pem.read_text())
        script = script.replace("set -eu\n", f"set -eu\nPATH={shlex.quote(str(machine.bin))}\n")
        done = machine.run(script)
        assert done.stderr == "", server.log
        told = json.loads((folder / "reports/pve1.first-boot.json").read_text())
    assert [card["link"] for card in told["network_interfaces"]] == ["eno1", "eno2"]
    assert (machine.root / "var/lib/pvelab-first-boot/done").exists()


def test_a_machine_is_set_up_even_if_nobody_is_at_home(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.tool("curl", "exit 7")
    (machine.root / "sys/class/net").mkdir(parents=True)
    done = machine.run(rendered(installer_first_boot_call_home=True))
    assert "the call home failed" in done.stderr
    assert machine.keys() == KEYS
    assert (machine.root / "var/lib/pvelab-first-boot/done").exists()


@pytest.mark.parametrize("user", ["root", "ops"])
def test_the_script_is_sound(tmp_path: Path, user: str) -> None:
    path = tmp_path / "hook.sh"
    path.write_text(rendered(installer_first_boot_user=user, installer_first_boot_call_home=True, _installer_pem="X"))
    done = subprocess.run(["shellcheck", "-S", "style", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def certificate(folder: Path) -> tuple[Path, Path]:
    path, key = folder / "certificate.pem", folder / "key.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    more = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*argv, "-keyout", key, "-out", path, *more], check=True, capture_output=True)
    return path, key

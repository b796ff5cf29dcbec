# SPDX-License-Identifier: GPL-3.0-or-later
"""The role installer, run by Ansible without privileges: answers, images, scripts; and what it writes is served."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pvelab.proxmox.tests.integration.answer_parts import Server, machine
from ansible_collections.pvelab.proxmox.tests.integration.unit_parts import systemd_takes, unit_of
from ansible_collections.pvelab.proxmox.tests.lab import ROOT

pytestmark = pytest.mark.release

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f admin@example.com"
ONE, TWO = "52:54:00:00:00:01", "52:54:00:00:00:02"
PASSWORD = "correct horse battery"
HASH = "$y$j9T$" + "a" * 22 + "$" + "b" * 43


def lab(**more: Any) -> dict[str, Any]:
    """The role's variables for two machines."""
    return {
        "installer_serve": False,
        "installer_user": "",
        "installer_partitions": True,
        "installer_first_boot": True,
        "installer_first_boot_keys": [KEY],
        "installer_root_password": PASSWORD,
        "installer_answer": {
            "global": {"keyboard": "de", "country": "at", "timezone": "Europe/Vienna", "mailto": "admin@example.com"},
            "network": {"source": "from-dhcp"},
            "disk-setup": {"filesystem": "zfs", "zfs": {"raid": "raid1"}, "filter": {"ID_MODEL": "SAMSUNG*"}},
        },
        "installer_hosts": [
            {"name": "pve1", "macs": [ONE], "answer": {"global": {"fqdn": "pve1.example.com"}}},
            {
                "name": "pve2",
                "macs": [TWO.upper()],
                "once": True,
                "root_password_hashed": HASH,
                "answer": {"global": {"fqdn": "pve2.example.com"}, "disk-setup": {"zfs": {"raid": "raidz-1"}}},
            },
        ],
        **more,
    }


def run(folder: Path, variables: dict[str, Any], *options: str) -> tuple[int, str]:
    """Run the role against this machine with its files in ``folder``; the exit code and what was printed."""
    play = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.import_role": {"name": "pvelab.proxmox.installer"}}],
        }
    ]
    (folder / "play.yml").write_text(yaml.safe_dump(play))
    here = {"ansible_python_interpreter": sys.executable, "installer_directory": str(folder / "answers-of-the-lab")}
    (folder / "vars.json").write_text(json.dumps({**variables, **here}))
    argv = ["ansible-playbook", "-i", "localhost,", "play.yml", "-e", "@vars.json", "--diff", *options]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
    }
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def changed(said: str) -> int:
    found = re.search(r"localhost +: .*changed=(\d+) .*failed=0", said)
    assert found, said
    return int(found[1])


def test_the_life_of_answers(tmp_path: Path) -> None:
    """One story, because each run of Ansible takes its time: foreseen, written, left alone, served, given up."""
    made = tmp_path / "answers-of-the-lab"
    rc, foreseen = run(tmp_path, lab(), "--check")
    assert rc == 0 and not made.exists(), foreseen
    rc, first = run(tmp_path, lab(), "-vvv")
    assert rc == 0 and changed(first) > 0, first
    assert PASSWORD not in foreseen + first
    judge(made)
    rc, second = run(tmp_path, lab())
    assert rc == 0 and changed(second) == 0, second
    with Server(made) as server:
        status, text = server.post(machine(ONE))
        assert status == 200 and tomllib.loads(text)["global"]["fqdn"] == "pve1.example.com"
        assert [server.post(machine(TWO))[0] for _none in range(2)] == [200, 404]
        assert server.ask("GET", "/hooks/pve2")[1].startswith("#!/bin/sh\n")
        fewer = lab()
        fewer["installer_hosts"] = [{**fewer["installer_hosts"][1], "rearm": True}]
        rc, said = run(tmp_path, fewer)
        assert rc == 0, said
        assert [server.post(machine(mac))[0] for mac in (TWO, TWO, ONE)] == [200, 404, 404]
    left = sorted(str(p.relative_to(made)) for p in made.rglob("*") if p.is_file() and "served" not in p.parts)
    assert left == ["answers/pve2.toml", "answers/rules.json", "hooks/pve2", "images/pve2.img"]


def judge(made: Path) -> None:
    """What is written is what the variables say, and nobody else may read it."""
    answers = {n: tomllib.loads((made / f"answers/{n}.toml").read_text()) for n in ("pve1", "pve2")}
    assert answers["pve1"]["disk-setup"]["zfs"] == {"raid": "raid1"}
    assert answers["pve2"]["disk-setup"]["zfs"] == {"raid": "raidz-1"}
    assert answers["pve1"]["first-boot"] == {"source": "from-iso", "ordering": "fully-up"}
    assert answers["pve1"]["global"]["root-password-hashed"].startswith("$6$")
    assert answers["pve2"]["global"]["root-password-hashed"] == HASH
    assert {p.stat().st_mode & 0o777 for p in made.rglob("*") if p.is_file()} == {0o600}
    assert (made / "answers/pve1.toml").read_bytes() in (made / "images/pve1.img").read_bytes()
    assert KEY in (made / "hooks/pve1").read_text()


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("a key", {"installer_answer": {"global": {"keybord": "de"}}}, r"answer file of pve1 .* global.keybord is no key"),
    ("a wildcard", {"installer_serve": True, "installer_listen": "0.0.0.0"}, "Name the one address of the network"),
    ("a variable", {"installer_hosts": [{"name": "a", "mac": ONE}]}, r"installer_hosts\.mac\. Supported parameters"),
]


@pytest.mark.parametrize(("more", "says"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_wrong_is_refused_before_anything_is_served(tmp_path: Path, more: dict[str, Any], says: str) -> None:
    rc, said = run(tmp_path, lab(**more))
    assert rc == 2
    assert re.search(says, said.replace("\n", " ")), said
    assert not (tmp_path / "answers-of-the-lab/answers/rules.json").exists()


@pytest.mark.parametrize("port", [8443, 443])
def test_systemd_takes_the_unit_and_calls_it_safe(tmp_path: Path, port: int) -> None:
    unit = tmp_path / "answers.service"
    variables = {
        "_installer_program": "/usr/bin/python3",
        "installer_directory": str(tmp_path),
        "installer_listen": "192.0.2.5",
        "installer_port": port,
        "installer_token": "name:secret",
        "installer_user": "daemon",
    }
    text = unit_of("installer", "answers.service.j2", unit, **variables)
    assert "secret" not in text and "--listen 192.0.2.5" in text
    systemd_takes(unit, 20)

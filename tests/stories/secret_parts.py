# SPDX-License-Identifier: GPL-3.0-or-later
"""What the story of secrets shares: planted ones that cannot be mistaken, plays that hold them, and where they show."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, Lab

KINDS = (
    "api_password", "wrong_password", "otp", "cloud_init", "cifs", "encryption", "url_password", "url_signature",
    "root_password", "subscription", "installer_webhook", "answer_token", "webhook_url", "webhook_header",
)  # fmt: skip
# No secret of these tests is a part of another one, or of any word that Ansible says by itself.
PLANTED = {kind: f"Planted{i:02}{kind.replace('_', '')[::-1]}Xq7" for i, kind in enumerate(KINDS)}
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


def shapes(secret: str) -> set[str]:
    """A secret as it is, in a URL, and within something that was put into base64, wherever in it."""
    coded = {base64.b64encode(b"\0" * shift + secret.encode()).decode()[4 if shift else 0 :] for shift in range(3)}
    # The ends of a code depend on the neighbours.
    return {secret, quote(secret, safe=""), *(text.rstrip("=")[2:-2] for text in coded)}


def found_in(folder: Path, secrets: Mapping[str, str]) -> list[str]:
    """Where below a folder a secret stands: "file: kind"."""
    looked_for = [(kind, shape.encode()) for kind, secret in secrets.items() for shape in shapes(secret)]
    return sorted({f"{path}: {kind}" for path, data in _files(folder) for kind, shape in looked_for if shape in data})


def _files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path, path.read_bytes()


class Plays:
    """Runs playbooks with all that Ansible can say, into a folder that holds nothing else."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.said = folder / "said"
        self.said.mkdir()

    def run(self, name: str, play: Path | list[Any], *arguments: str, rc: int = 0, **variables: Any) -> str:
        """The output of one run with -vvvv --diff; ``variables`` come from a file that the test owns."""
        given = self.folder / f"{name}.vars.json"
        given.write_text(json.dumps(variables), encoding="utf-8")
        if isinstance(play, list):
            path = self.folder / f"{name}.yml"
            path.write_text(yaml.safe_dump(play), encoding="utf-8")
            play = path
        command = [BIN / "ansible-playbook", play, "-vvvv", "--diff", "-e", f"@{given}", *arguments]
        return self.command(name, [str(part) for part in command], rc)

    def command(self, name: str, command: list[str], rc: int = 0) -> str:
        """The output of one command of Ansible, which has to end with ``rc``."""
        log = {"ANSIBLE_LOG_PATH": str(self.said / f"{name}.log")}
        more = {"ANSIBLE_CALLBACKS_ENABLED": "pvelab.proxmox.progress", "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.lab.environment(None, PROXMOX_PASSWORD=None, PROXMOX_USER=None, **log, **more),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        text = done.stdout + done.stderr
        (self.said / f"{name}.out").write_text(text, encoding="utf-8")
        assert done.returncode == rc, text[-3000:]
        return text


def login(lab: Lab, **more: Any) -> dict[str, Any]:
    """The connection of the playbooks, by password unless ``more`` says otherwise."""
    return {
        "proxmox_api_host": "127.0.0.1",
        "proxmox_api_port": lab.port,
        "proxmox_api_user": "root@pam",
        "proxmox_api_password": lab.password,
        "proxmox_api_fingerprint": [lab.fingerprint],
        **more,
    }


def inventory(folder: Path, **groups: dict[str, Any]) -> str:
    """An inventory of one host, this machine, in the groups that are named, each with its variables."""
    hosts = {group: {"hosts": {"pve1": {**LOCAL}}, "vars": variables} for group, variables in groups.items()}
    path = folder / f"{'-'.join(groups)}.json"
    path.write_text(json.dumps(hosts), encoding="utf-8")
    return str(path)

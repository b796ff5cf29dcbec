# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret is told: not at -vvvv with --diff, not in logs, journals and reports, not when anything goes wrong.

Secrets are planted wherever the collection takes one, everything is run that takes them, and all of what came out is
searched for them. Takes about six minutes, most of them for a guest that boots to be broken.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.yaml import yaml_load
from proxmoxer import ResourceException

from ansible_collections.pvelab.proxmox.tests.integration.module_parts import passed
from ansible_collections.pvelab.proxmox.tests.lab import ROOT, Lab, until
from ansible_collections.pvelab.proxmox.tests.stories.privilege_parts import Token
from ansible_collections.pvelab.proxmox.tests.stories.secret_parts import (
    LOCAL,
    PLANTED,
    Plays,
    found_in,
    inventory,
    login,
    shapes,
)

pytestmark = pytest.mark.release

SITE = ROOT / "playbooks/site.yml"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a@b"
SILENT = "192.0.2.1"  # an address that nobody has


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_said: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab"), password=PLANTED["api_password"]) as running:
        yield running


@pytest.fixture(scope="module")
def token(lab: Lab) -> Token:
    return Token(lab)


@pytest.fixture
def plays(lab: Lab, tmp_path: Path) -> Plays:
    return Plays(lab, tmp_path)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Where an image is that takes a name, a password and a signature to fetch, as it seems."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "disc.iso").write_bytes(b"not much of a disc" * 1000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        login = f"me:{PLANTED['url_password']}"
        yield f"http://{login}@127.0.0.1:{server.server_port}/disc.iso?signature={PLANTED['url_signature']}"
        server.shutdown()


def holds_none(plays: Plays, *more: str) -> None:
    """Nothing that was said, and nothing that the node has logged, holds a secret.

    Except for URLs that the node itself is to fetch: Proxmox VE writes them into the log of the task.
    """
    secrets = {**PLANTED, **{f"token {i}": secret for i, secret in enumerate(more)}}
    assert found_in(plays.said, secrets) == []
    fetched = {"url_password", "url_signature"}
    logged = {kind: secret for kind, secret in secrets.items() if kind not in fetched}
    assert [kind for kind, s in logged.items() if s.encode() in plays.lab.log.read_bytes()] == []
    assert found_in(plays.lab.state / "tasks", logged) == []


def test_the_search_finds_what_it_is_to_find(tmp_path: Path) -> None:
    secret = PLANTED["cifs"]
    for i, shape in enumerate(sorted(shapes(secret))):
        (tmp_path / str(i)).write_text(f"before {shape} after", encoding="utf-8")
    assert len(found_in(tmp_path, {"cifs": secret})) == len(shapes(secret))
    assert found_in(tmp_path, {"other": PLANTED["otp"]}) == []


def site(url: str) -> dict[str, Any]:
    """Lists for every role of the site, with a secret in each that takes one."""
    share = {"server": "files.example.test", "share": "images", "username": "me", "nodes": ["elsewhere"]}
    backup = {"server": "pbs.example.test", "datastore": "main", "username": "me@pbs", "nodes": ["elsewhere"]}
    password = {"storage": "local", "user": "admin", "password": PLANTED["cloud_init"]}
    return {
        "storage_list": [
            {"storage": "share", "type": "cifs", "content": ["iso"], **share, "password": PLANTED["cifs"]},
            {"storage": "safe", "type": "pbs", "content": ["backup"], **backup, "password": PLANTED["cifs"],
             "encryption_key": json.dumps({"kdf": None, "data": PLANTED["encryption"]})},
        ],
        "images_list": [{"storage": "local", "url": url}],
        "guests_defaults": {"memory": 16, "cloud_init": password},
        "guests_templates": [{"name": "mould", "vmid": 900}],
        "guests_list": [{"name": "web1", "clone": {"source": "mould"}, "update_password": "always"}],
        "snapshots_list": [{"snapname": "fresh", "guests": ["web1"]}],
    }  # fmt: skip


def test_the_whole_site_by_password_and_by_token(plays: Plays, token: Token, url: str) -> None:
    lists = site(url)
    hosts = inventory(plays.folder, proxmox=login(plays.lab), hypervisors={})
    only = ["-i", hosts, "--limit", "pve1", "--skip-tags", "always,network,storage_pools,memory"]
    said = plays.run("foreseen", SITE, *only, "--check", **lists)
    assert "cipassword" in said, "the secret was under way"
    plays.run("done", SITE, *only, **lists)
    secret = plays.lab.state / "etc/priv/storage/share.password"
    config = next(plays.lab.state.glob("etc/nodes/*/qemu-server/101.conf"), None) or next(
        p for p in plays.lab.state.glob("etc/nodes/*/qemu-server/*.conf") if p.stem != "900"
    )
    stored = [p for p in plays.lab.state.glob("etc/priv/storage/*") if PLANTED["cifs"] in p.read_text()]
    assert stored, secret
    assert "cipassword" in config.read_text(encoding="utf-8")
    by_token = {"proxmox_api_user": None, "proxmox_api_password": None}
    id_, value = token.connection()["api_token_id"], token.secret
    by_token |= {"proxmox_api_token_id": id_, "proxmox_api_token_secret": value}
    refused = inventory(plays.folder, proxmox={k: v for k, v in login(plays.lab, **by_token).items() if v}, other={})
    said = plays.run("refused", SITE, "-i", refused, *only[2:], rc=2, **lists)
    assert "lacks the privilege" in said
    holds_none(plays, value)


def broken(lab: Lab, url: str, token: Token) -> list[dict[str, Any]]:
    """Tasks that fail, each in another way, with secrets at hand."""
    vm = {"vmid": 700, "name": "w", "memory": 16, "cloud_init": {"storage": "local", "password": PLANTED["cloud_init"]}}
    there = {"api_host": "127.0.0.1", "api_port": lab.port, "api_fingerprint": [lab.fingerprint], "api_retries": 0}
    root = {**there, "api_user": "root@pam", "api_password": lab.password}
    wrong = {**root, "api_password": PLANTED["wrong_password"]}
    share = {"storage": "b", "type": "cifs", "server": "127.0.0.1", "share": "s", "username": "u"}
    connections: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("vm", wrong, vm),
        ("vm", {**wrong, "api_otp": PLANTED["otp"]}, vm),
        ("vm", {**root, "api_fingerprint": ["00" * 32]}, vm),
        ("vm", {**root, "api_host": SILENT, "api_timeout": 1}, vm),
        ("vm", {**there, **token.connection()}, vm),
        ("vm", {**there, **token.connection(), "api_token_id": "nobody@pve!ci"}, vm),
        ("vm", {**root, "api_token_id": token.connection()["api_token_id"]}, vm),
        ("vm", root, {**vm, "memory": "not a number"}),
        ("vm", root, {**vm, "node": "nowhere"}),
        ("vm", root, {**vm, "disks": [{"slot": "scsi0", "storage": "local", "size": "900T"}]}),
        ("guests", root, {"guests": [{**vm, "pool": "nowhere"}, {**vm, "vmid": 701, "colour": "red"}]}),
        ("guests", root, {"guests": [{**vm, "pool": "nowhere"}]}),
        ("storage", root, {**share, "password": PLANTED["cifs"]}),
        ("storage", root, {"storage": "b", "type": "nosuch", "password": PLANTED["cifs"]}),
        ("image", root, {"storage": "local", "url": url.replace("disc", "none")}),
        ("image", root, {"storage": "nowhere", "url": url}),
        ("image", wrong, {"storage": "local", "url": url}),
        ("node_info", wrong, {}),
        ("task_info", wrong, {}),
        ("snapshot", wrong, {"vmid": 700, "snapname": "x"}),
    ]
    return [
        {
            f"pvelab.proxmox.{module}": {**connection, **params},
            "register": f"r{i}",
            "failed_when": f"r{i} is not failed",
        }
        for i, (module, connection, params) in enumerate(connections)
    ]


def test_tasks_that_fail(plays: Plays, token: Token, url: str) -> None:
    tasks = broken(plays.lab, url, token)
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": LOCAL, "tasks": tasks}]
    said = plays.run("broken", play)
    assert f"ok={len(tasks)} " in said
    looped = {
        "name": "A loop over items with secrets is the user's; ours are the roles'",
        "ansible.builtin.include_role": {"name": "pvelab.proxmox.guests"},
    }
    roles = [{**play[0], "tasks": [looped]}]
    lists = {"guests_list": [{"name": "a", "node": "nowhere", "cloud_init": {"password": PLANTED["cloud_init"]}}]}
    defaults = {"module_defaults": {"group/pvelab.proxmox.api": {k: v for k, v in _root(plays.lab).items()}}}
    said = plays.run("a-role-that-fails", [{**roles[0], **defaults}], rc=2, **lists)
    assert "there is no node 'nowhere'" in said
    storages = {"storage_list": [{"storage": "b", "type": "cifs", "server": "127.0.0.1", "share": "s",
                                  "username": "u", "password": PLANTED["cifs"]}]}  # fmt: skip
    one = {**looped, "ansible.builtin.include_role": {"name": "pvelab.proxmox.storage"}}
    plays.run("a-storage-that-fails", [{**roles[0], **defaults, "tasks": [one]}], rc=2, **storages)
    holds_none(plays, token.secret)


def _root(lab: Lab) -> dict[str, Any]:
    there = {"api_host": "127.0.0.1", "api_port": lab.port, "api_fingerprint": [lab.fingerprint]}
    return {**there, "api_user": "root@pam", "api_password": lab.password}


def test_the_inventory(plays: Plays, token: Token) -> None:
    for name, more, rc in (
        ("good", {"api_user": "root@pam", "api_password": plays.lab.password}, 0),
        ("wrong", {"api_user": "root@pam", "api_password": PLANTED["wrong_password"]}, 1),
        ("may-not", token.connection(), 1),
    ):
        source = plays.folder / f"{name}.guests.proxmox.yml"
        there = {k: v for k, v in _root(plays.lab).items() if k not in ("api_user", "api_password")}
        source.write_text(json.dumps({"plugin": "pvelab.proxmox.guests", **there, **more}), encoding="utf-8")
        argv = ["ansible-inventory", "-vvvv", "--list", "-i", str(source)]
        plays.command(f"inventory-{name}", argv, rc)
    holds_none(plays, token.secret)


def test_answers_of_the_installer(plays: Plays) -> None:
    role = {"ansible.builtin.import_role": {"name": "pvelab.proxmox.installer"}}
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": LOCAL, "tasks": [role]}]
    answer = {
        "global": {"keyboard": "de", "country": "at", "timezone": "Europe/Vienna", "mailto": "admin@example.com"},
        "network": {"source": "from-dhcp"},
        "disk-setup": {"filesystem": "ext4", "disk-list": ["sda"]},
        "post-installation-webhook": {"url": "https://192.0.2.5/installed"},
    }
    host = {
        "name": "pve1",
        "macs": ["52:54:00:00:00:01"],
        "root_password": PLANTED["root_password"],
        "webhook_token": PLANTED["installer_webhook"],
        "answer": {"global": {"fqdn": "pve1.example.com"}},
    }
    variables = {
        "installer_serve": False,
        "installer_version": "9.2",
        "installer_user": "",
        "installer_partitions": True,
        "installer_first_boot": True,
        "installer_first_boot_keys": [
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a@b"
        ],
        "installer_directory": str(plays.folder / "answers"),
        "installer_token": f"name:{PLANTED['answer_token']}",
        "installer_answer": answer,
        "installer_hosts": [host],
    }
    plays.run("installer-foreseen", play, "--check", **variables)
    plays.run("installer", play, **variables)
    written = (plays.folder / "answers/answers/pve1.toml").read_text(encoding="utf-8")
    assert PLANTED["installer_webhook"] in written and PLANTED["root_password"] not in written
    assert (plays.folder / "answers/answers/pve1.toml").stat().st_mode & 0o077 == 0
    wrong = {**host, "subscription_key": PLANTED["subscription"], "answer": {"global": {"fqdn": "not one"}}}
    plays.run("installer-wrong", play, rc=2, **{**variables, "installer_hosts": [wrong]})
    holds_none(plays)


def test_the_watch_as_it_would_be_set_up(plays: Plays, token: Token) -> None:
    role = {"ansible.builtin.import_role": {"name": "pvelab.proxmox.guest_watch"}}
    play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": LOCAL, "tasks": [role]}]
    variables = {
        "guest_watch_node": "pve1",
        "guest_watch_token_id": "watch@pve!guests",
        "guest_watch_token_secret": token.secret,
        "guest_watch_webhook_url": f"https://chat.example.test/hooks/{PLANTED['webhook_url']}",
    }
    said = plays.run("watch", play, "--check", **variables)
    assert "Say what to watch" in said
    headers = {"guest_watch_webhook_headers": {"Authorization": f"Bearer {PLANTED['webhook_header']}"}}
    plays.run("watch-headers", play, "--check", **variables, **headers)
    plays.run("watch-wrong", play, "--check", rc=2, **{**variables, "guest_watch_token_id": "no token"}, **headers)
    holds_none(plays, token.secret)


def guest_to_break(lab: Lab, image: Path) -> None:
    """A guest that boots and writes, and leave to break it."""
    password = {"storage": "local", "password": PLANTED["cloud_init"]}
    disk = {"slot": "scsi0", "storage": "local", "import_from": "local:import/canary.qcow2"}
    guest = {
        "vmid": 103,
        "name": "db1",
        "memory": 96,
        "ostype": "l26",
        "scsihw": "virtio-scsi-pci",
        "tags": ["drill-ok"],
        "agent": {"enabled": True},
        "serial": [{"slot": "serial0", "device": "socket"}],
        "disks": [disk],
        "boot": ["scsi0"],
        "cloud_init": password,
        "status": "running",
    }
    for module, params in (
        ("storage", {"storage": "local", "content": ["images", "import", "iso", "backup"]}),
        ("image", {"storage": "local", "src": str(image), "filename": "canary.qcow2"}),
        ("vm", guest),
    ):
        passed(lab.module(module, params))
    marker = lab.state / "drill/etc/pvelab/drill-host"
    marker.parent.mkdir(parents=True)
    marker.write_bytes(Path("/proc/sys/kernel/random/boot_id").read_bytes())
    agent = lab.api().nodes(lab.node).qemu(103).agent
    until(lambda: answers(agent), "the guest is up", 180)


def answers(agent: Any) -> bool:
    with suppress(ResourceException):
        agent.ping.post()
        return True
    return False


def test_a_drill_with_its_journal_and_report(lab: Lab, plays: Plays, canary_image: Path) -> None:
    guest_to_break(lab, canary_image)
    secret = str(lab.api().access.users("root@pam").token("drill").post(privsep=0)["value"])
    embedded = yaml_load((ROOT / "inventories/embedded/group_vars/embedded/drills.yml").read_text())
    here = {
        "lab_state": str(lab.state),
        "lab_endpoint": json.loads((lab.state / "endpoint.json").read_text()),
        "drill_token_secret": secret,
        "drill_targets": {"guest_crash": {"victims": [103]}},
        "drill_reports": str(plays.said / "reports"),
    }
    hosts = inventory(plays.folder, embedded={**embedded, **here})
    play = ROOT / "playbooks/drill.yml"
    plays.run("drill-foreseen", play, "-i", hosts, "--check", drill_name="guest_crash")
    plays.run("drill", play, "-i", hosts, drill_name="guest_crash")
    plays.run("drill-refused", play, "-i", hosts, rc=2, drill_name="guest_crash", drill_allow=False)
    assert list(plays.said.glob("reports/*/report.html"))
    kept = lab.state / "drill"
    holding = [path for path in found_in(kept, {"token": secret}) if not path.endswith("drill.token: token")]
    assert holding == []
    assert [p.stat().st_mode & 0o077 for p in kept.rglob("drill.token")] in ([0], [])
    assert found_in(kept, PLANTED) == []
    holds_none(plays, secret)

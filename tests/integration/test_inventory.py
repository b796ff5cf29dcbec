# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of guests against a labnode: what it reads, how often, and what it makes of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.pvelab.proxmox.tests.integration.inventory_parts import Inventory, listed
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, Lab
from ansible_collections.pvelab.proxmox.tests.proxy import Proxy

GUESTS = 12


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Lab:
    """Twelve guests that have nothing to boot, of which two share a name, and a template."""
    api = lab.api()
    api.pools.post(poolid="lab")
    qemu = api.nodes(lab.node).qemu
    for vmid in range(100, 100 + GUESTS):
        more = {"tags": "web;odd"} if vmid % 2 else {"pool": "lab"}
        address = f"ip=192.0.2.{vmid}/24,gw=192.0.2.1"
        qemu.post(vmid=vmid, name=f"g{min(vmid, 110)}", ostype="l26", agent=1, ipconfig0=address, **more)
    qemu.post(vmid=200, name="gold")
    qemu(200).template.post()
    return lab


@pytest.fixture
def proxy(fleet: Lab) -> Iterator[Proxy]:
    with Proxy(fleet) as running:
        yield running


def through(proxy: Proxy, folder: Path, options: Mapping[str, Any] | None = None, **more: str | None) -> Inventory:
    return listed(folder, proxy.lab.environment(proxy.port, **more), options or {})


def asked(proxy: Proxy) -> list[str]:
    return sorted(f"{s.method} {s.path}" for s in proxy.seen)


def test_guests_are_hosts_by_one_login_and_one_read_each(proxy: Proxy, tmp_path: Path) -> None:
    found = through(proxy, tmp_path)
    assert found.rc == 0, found.told
    configs = [f"GET /nodes/pve1/qemu/{vmid}/config" for vmid in range(100, 100 + GUESTS)]
    base = ["GET /cluster/resources", "GET /nodes", "GET /nodes/pve1/qemu", "POST /access/ticket"]
    assert asked(proxy) == sorted([*base, *configs])
    assert sorted(found.hosts) == sorted([*(f"g{v}" for v in range(100, 110)), "g110-110", "g110-111"])
    assert "2 guests are called 'g110'; as hosts they are g110-110, g110-111." in " ".join(found.told.split())
    host = found.hosts["g101"]
    assert (host["ansible_host"], host["proxmox_vmid"], host["proxmox_tags"]) == ("192.0.2.101", 101, ["odd", "web"])
    assert (host["proxmox_status"], host["proxmox_config"]["ostype"]) == ("stopped", "l26")
    assert found.groups["proxmox_guests"] == sorted(found.hosts)
    assert found.groups["proxmox_tag_web"] == ["g101", "g103", "g105", "g107", "g109", "g110-111"]
    assert found.groups["proxmox_pool_lab"] == ["g100", "g102", "g104", "g106", "g108", "g110-110"]
    others = ("node_pve1", "status_stopped", "ostype_l26", "kind_qemu")
    assert {f"proxmox_{name}" for name in others} <= set(found.groups)


def test_as_few_reads_as_can_be(proxy: Proxy, tmp_path: Path) -> None:
    found = through(proxy, tmp_path, {"want_config": False, "want_templates": True, "group_by": ["tag"]})
    assert asked(proxy) == ["GET /cluster/resources", "GET /nodes", "GET /nodes/pve1/qemu", "POST /access/ticket"]
    assert "gold" in found.hosts and "proxmox_config" not in found.hosts["gold"]
    assert set(found.groups) == {"proxmox_guests", "proxmox_tag_odd", "proxmox_tag_web"}


def test_constructed_groups_variables_and_filters(proxy: Proxy, tmp_path: Path) -> None:
    options = {
        "filters": ["proxmox_vmid < 106", {"exclude": "proxmox_vmid == 100"}, "proxmox_name is match('g')"],
        "keyed_groups": [{"key": "proxmox_tags", "prefix": "role"}],
        "groups": {"late": "proxmox_vmid > 103"},
        "compose": {"ansible_host": "proxmox_name ~ '.example.test'", "seen": "ansible_host"},
        "group_by": [],
        "strict": True,
    }
    found = through(proxy, tmp_path, options)
    assert found.rc == 0, found.told
    assert sorted(found.hosts) == ["g101", "g102", "g103", "g104", "g105"]
    assert found.hosts["g101"]["ansible_host"] == "g101.example.test"
    assert found.hosts["g101"]["seen"] == "192.0.2.101"
    odd = ["g101", "g103", "g105"]
    assert {**found.groups, "ungrouped": []} == {
        "proxmox_guests": sorted(found.hosts), "role_odd": odd, "role_web": odd, "late": ["g104", "g105"],
        "ungrouped": [],
    }  # fmt: skip


def test_a_filter_that_cannot_be_evaluated(proxy: Proxy, tmp_path: Path) -> None:
    options: dict[str, Any] = {"filters": ["proxmox_nonsense == 1"], "want_config": False}
    lenient = through(proxy, tmp_path, options)
    assert (lenient.rc, lenient.hosts) == (0, {})
    assert "the filter 'proxmox_nonsense == 1' cannot be evaluated for g100" in " ".join(lenient.told.split())
    strict = through(proxy, tmp_path, {**options, "strict": True})
    assert strict.rc != 0 and "cannot be evaluated for g100" in " ".join(strict.told.split())


def test_what_is_cached_is_not_asked_for_again(proxy: Proxy, tmp_path: Path) -> None:
    options = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "kept")}
    first = through(proxy, tmp_path, options)
    assert first.rc == 0 and len(proxy.seen) == GUESTS + 4, first.told
    proxy.seen.clear()
    second = through(proxy, tmp_path, options)
    assert proxy.seen == []
    assert (second.hosts, second.groups) == (first.hosts, first.groups)
    other = through(proxy, tmp_path, {**options, "want_config": False})
    assert other.rc == 0 and len(proxy.seen) == 4, "what is kept was read with other wishes"


def test_secrets_may_be_templates(fleet: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(fleet.password + "\n")
    options = {"api_password": f"{{{{ lookup('ansible.builtin.file', '{secret}') }}}}", "want_config": False}
    found = listed(tmp_path, fleet.environment(PROXMOX_PASSWORD=None), options)
    assert found.rc == 0 and len(found.hosts) == GUESTS, found.told


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"PROXMOX_PASSWORD": "wrong"}, "the node refused the login of root@pam"),
        (
            {"PROXMOX_PASSWORD": None, "PROXMOX_TOKEN_ID": "root@pam!no", "PROXMOX_TOKEN_SECRET": "wrong-secret"},
            "the node refused the login of root@pam!no",
        ),
        ({"PROXMOX_PASSWORD": None}, "there is nothing to log in with. Set api_token_id"),
        ({"PROXMOX_HOST": None}, "it is not said which node to talk to. Set api_host"),
        ({"PROXMOX_FINGERPRINT": "00" * 32}, "shows another certificate than the pinned one"),
        ({"PROXMOX_PORT": "1", "PROXMOX_RETRIES": "0"}, "cannot be reached: Connection refused"),
    ],
)
def test_what_goes_wrong_is_a_sentence(
    fleet: Lab, tmp_path: Path, variables: Mapping[str, str | None], told: str
) -> None:
    found = listed(tmp_path, fleet.environment(**variables), {})
    said = " ".join(found.told.split())
    assert found.rc != 0
    assert "Unable to read the guests for" in said and told in said
    assert "wrong-secret" not in said and "Traceback" not in said


@pytest.mark.parametrize("name", ["lab.yml", "x.guests.proxmox.yaml", "pvelab.yml"])
def test_names_of_sources(fleet: Lab, tmp_path: Path, name: str) -> None:
    assert len(listed(tmp_path, fleet.environment(), {"want_config": False}, name).hosts) == GUESTS


def test_a_source_of_another_plugin_is_left_to_it(fleet: Lab, tmp_path: Path) -> None:
    found = listed(tmp_path, fleet.environment(), {"plugin": "ansible.builtin.constructed"}, "own.guests.proxmox.yml")
    assert (found.rc, found.hosts) == (0, {})


PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Make a guest
      pvelab.proxmox.vm:
        name: fresh
        vmid: 300
        description: "{% raw %}{{ 40 + 2 }}{% endraw %}"
        tags: [fresh]
        cloud_init: {ip_configs: [{slot: ipconfig0, ip: 198.51.100.9/24}]}
    - name: Look at what there is now
      ansible.builtin.meta: refresh_inventory
- hosts: proxmox_tag_fresh
  gather_facts: false
  tasks:
    - name: Tell where it is
      ansible.builtin.debug: {msg: "{{ inventory_hostname }} at {{ ansible_host }}: {{ proxmox_config.description }}"}
"""


@pytest.mark.parametrize("cached", [False, True])
def test_what_a_play_makes_are_the_hosts_of_the_next(fleet: Lab, api: Any, tmp_path: Path, cached: bool) -> None:
    """With the example's source, and with a cache, which a refreshed inventory does not ask."""
    source, play = ROOT / "inventories/example_guests", tmp_path / "play.yml"
    if cached:
        source = tmp_path / "pvelab.yml"
        cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "kept")}
        source.write_text(yaml.safe_dump({"plugin": "pvelab.proxmox.guests", **cache}))
    play.write_text(PLAY)
    command = [BIN / "ansible-playbook", "-i", source, play]
    said = subprocess.run(
        command, capture_output=True, text=True, env=fleet.environment(), cwd=ROOT, timeout=120, check=False
    )
    try:
        assert said.returncode == 0, said.stdout + said.stderr
        assert "fresh at 198.51.100.9: {{ 40 + 2 }}" in said.stdout, "what a guest says of itself is text, no template"
    finally:
        api.nodes(fleet.node).qemu(300).delete()

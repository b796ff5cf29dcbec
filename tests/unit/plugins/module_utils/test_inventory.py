# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as hosts: names, addresses, groups, filters, and the reads that they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import inventory as core
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.module_utils.guest_inventory import Wants, survey
from ansible_collections.pvelab.proxmox.tests.unit.fake_api import FakeApi

PLUGIN = "pvelab.proxmox.guests"


def guest(vmid: int = 100, name: str = "web1", **more: Any) -> dict[str, Any]:
    known = {"kind": "qemu", "node": "pve1", "status": "running", "tags": [], "pool": "", "template": False, "lock": ""}
    return {"vmid": vmid, "name": name, **known, **more}


def cards(**addresses: list[str]) -> list[dict[str, Any]]:
    return [{"name": name, "mac-address": "", "ip-addresses": found} for name, found in addresses.items()]


def test_a_name_of_its_own_stays_and_a_shared_one_gets_the_id() -> None:
    guests = [guest(100, "a"), guest(101, "b"), guest(105, "b"), guest(103, ""), guest(104, "", kind="lxc")]
    found, told = core.names(guests)
    assert found == {100: "a", 101: "b-101", 105: "b-105", 103: "qemu-103", 104: "lxc-104"}
    assert told == ["2 guests are called 'b'; as hosts they are b-101, b-105."]


@pytest.mark.parametrize(
    ("text", "tags"), [("b;a", ["a", "b"]), ("a,b a", ["a", "b"]), ("", []), (None, []), (" ; ", [])]
)
def test_tags(text: object, tags: list[str]) -> None:
    assert core.tags(text) == tags


SEEN = cards(
    lo=["127.0.0.1/8", "::1/128"],
    docker0=["172.17.0.1/16"],
    eth0=["fe80::1/64", "2001:db8::5/64", "192.0.2.5/24"],
    eth1=["198.51.100.5/24"],
)
GIVEN = {"ipconfig1": {"ip": "203.0.113.2/24"}, "ipconfig0": {"ip": "dhcp", "ip6": "2001:db8::9/64"}, "ostype": "l26"}


@pytest.mark.parametrize(
    ("seen", "options", "address"),
    [
        (SEEN, {}, "192.0.2.5"),
        (SEEN, {"families": ["ipv6", "ipv4"]}, "2001:db8::5"),
        (SEEN, {"families": ["ipv6"]}, "2001:db8::5"),
        (SEEN, {"networks": ["198.51.100.0/24", "192.0.2.0/24"]}, "198.51.100.5"),
        (SEEN, {"networks": ["203.0.113.0/24"]}, "203.0.113.2"),
        (SEEN, {"networks": ["10.0.0.0/8"]}, None),
        (SEEN, {"ignored": ["eth*"]}, "172.17.0.1"),
        ([], {}, "203.0.113.2"),
        ([], {"families": ["ipv6"]}, "2001:db8::9"),
        (cards(eth0=["fe80::1/64", "169.254.1.1/16", "nonsense"]), {"families": ["ipv4"]}, "203.0.113.2"),
    ],
)
def test_the_address_to_reach_a_guest_by(seen: Any, options: Mapping[str, Any], address: str | None) -> None:
    wanted = {"families": ["ipv4", "ipv6"], "networks": [], "ignored": list(core.INNER), **options}
    assert core.address(guest(agent_interfaces=seen, config=GIVEN), core.preference(**wanted)) == address


def test_a_container_has_the_address_of_its_configuration() -> None:
    config = core.settled("lxc", {"net0": "name=eth0,bridge=vmbr0,ip=192.0.2.7/24", "hostname": "c1", "tags": "b;a"})
    assert core.address(guest(kind="lxc", config=config), core.Preference()) == "192.0.2.7"
    assert config["tags"] == ["a", "b"]


def test_a_guest_without_addresses_has_none() -> None:
    assert core.address(guest(), core.Preference()) is None


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(Failure, match=r"address_networks: 'lan' .* Give networks such as"):
        core.preference(["ipv4"], ["lan"], [])


def test_groups() -> None:
    one = guest(tags=["web", "k8s-node"], pool="lab", config={"ostype": "l26"})
    assert core.groups(one, core.GROUPINGS, "proxmox_") == [
        "proxmox_kind_qemu", "proxmox_node_pve1", "proxmox_pool_lab", "proxmox_tag_web", "proxmox_tag_k8s_node",
        "proxmox_status_running", "proxmox_ostype_l26",
    ]  # fmt: skip
    assert core.groups(guest(node="pve-2"), ("node", "pool", "ostype"), "") == ["node_pve_2"]


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ([], True),
        (["yes"], True),
        (["yes", "no"], False),
        ([{"exclude": "yes"}], False),
        ([{"exclude": "no"}], True),
        ([{"include": "yes"}, {"exclude": "yes"}], True),
        ([{"include": "no"}, {"exclude": "yes"}], False),
        (["no", {"include": "yes"}], False),
    ],
)
def test_filters(filters: Any, kept: bool) -> None:
    assert core.kept(filters, lambda condition: condition == "yes") is kept


@pytest.mark.parametrize("wrong", [{"only": "yes"}, {"include": "a", "exclude": "b"}, 7, {}])
def test_a_filter_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(Failure, match="neither a condition nor"):
        core.kept([wrong], lambda condition: True)


@pytest.mark.parametrize(
    ("path", "text", "ours"),
    [
        ("lab.yml", "# mine\nplugin: pvelab.proxmox.guests\n", True),
        ("lab.yaml", "api_host: x\nplugin : 'pvelab.proxmox.guests'  # mine\n", True),
        ("lab.yml", "api_host: x\n", False),
        ("lab.guests.proxmox.yml", "api_host: x\n", True),
        ("pvelab.yml", "", True),
        ("guests.proxmox.yaml", "plugin: community.proxmox.proxmox\n", False),
        ("lab.yml", "all:\n  vars:\n    plugin: pvelab.proxmox.guests\n", False),
        ("hosts", "plugin: pvelab.proxmox.guests\n", False),
    ],
)
def test_whose_file_it_is(path: str, text: str, ours: bool) -> None:
    assert core.is_ours(path, text, PLUGIN) is ours


NODE = "/nodes/pve1"
ANSWERS: dict[str, Any] = {
    "GET /cluster/resources?type=vm": [
        {"vmid": 100, "type": "qemu", "node": "pve1", "name": "old", "status": "stopped", "pool": "lab"},
        {"vmid": 101, "type": "qemu", "node": "pve1", "template": 1, "name": "gold", "status": "stopped"},
        {"vmid": 102, "type": "lxc", "node": "pve1", "name": "box", "status": "running"},
        {"vmid": 103, "type": "qemu", "node": "pve2", "name": "away", "status": "running", "tags": "x"},
        {"vmid": 104, "type": "qemu", "node": "pve1", "name": "mute", "status": "running"},
    ],
    "GET /nodes": [{"node": "pve1", "status": "online"}, {"node": "pve2", "status": "offline"}],
    f"GET {NODE}/qemu": [
        {"vmid": 100, "name": "new", "status": "running", "tags": "b;a"},
        {"vmid": 101, "name": "gold", "status": "stopped", "template": 1},
        {"vmid": 104, "name": "mute", "status": "running"},
    ],
    f"GET {NODE}/lxc": [{"vmid": "102", "name": "box", "status": "running"}],
    f"GET {NODE}/qemu/100/config": {"name": "new", "agent": "1", "ostype": "l26", "net0": "virtio=BC:24:11:00:00:01"},
    f"GET {NODE}/qemu/104/config": {"name": "mute", "agent": "enabled=0", "memory": "512"},
    f"GET {NODE}/lxc/102/config": {"hostname": "box", "ostype": "debian"},
    f"GET {NODE}/qemu/100/agent/network-get-interfaces": {
        "result": [{"name": "eth0", "hardware-address": "BC:24:11:00:00:01", "ip-addresses": [
            {"ip-address": "192.0.2.5", "prefix": 24, "ip-address-type": "ipv4"}]}, {"name": "wg0"}]
    },
    f"GET {NODE}/lxc/102/interfaces": [{"name": "eth0", "hwaddr": "bc:24:11:00:00:02", "inet": "192.0.2.6/24"}],
}  # fmt: skip


def looked(answers: Mapping[str, Any], wants: Wants | None = None) -> tuple[dict[int, dict[str, Any]], list[str]]:
    told: list[str] = []
    found = survey(FakeApi([answers]), wants or Wants(), told.append, lambda: 0.0)
    return {g["vmid"]: g for g in found}, told


def test_a_survey() -> None:
    found, told = looked(ANSWERS)
    assert list(found) == [100, 102, 103, 104] and told == []
    new = found[100]
    assert (new["name"], new["status"], new["tags"], new["pool"]) == ("new", "running", ["a", "b"], "lab")
    assert new["config"]["net0"] == {"model": "virtio", "mac": "BC:24:11:00:00:01"}
    assert (new["agent"], core.address(new, core.Preference())) == ("running", "192.0.2.5")
    assert new["agent_interfaces"][0] == {
        "name": "eth0", "mac-address": "bc:24:11:00:00:01", "ip-addresses": ["192.0.2.5/24"]
    }  # fmt: skip
    assert core.address(found[102], core.Preference()) == "192.0.2.6"
    assert (found[103]["status"], "config" in found[103]) == ("unknown", False)
    assert (found[104]["agent"], found[104]["agent_interfaces"]) == ("not asked", [])


def test_what_is_not_wanted_is_not_read() -> None:
    few = {key: answer for key, answer in ANSWERS.items() if key.count("/") < 4}
    found, told = looked(few, Wants(config=False, addresses=False, templates=True))
    assert list(found) == [100, 101, 102, 103, 104] and told == []
    assert "config" not in found[100] and "agent" not in found[100]


def test_what_qemu_says_is_asked_of_those_that_run() -> None:
    paused = {**ANSWERS, f"GET {NODE}/qemu/100/status/current": {"status": "running", "qmpstatus": "paused"}}
    paused[f"GET {NODE}/qemu/104/status/current"] = {"status": "running", "qmpstatus": "running"}
    found, _told = looked(paused, Wants(qmpstatus=True, addresses=False))
    assert {i: g.get("qmpstatus") for i, g in found.items()} == {100: "paused", 102: None, 103: None, 104: "running"}


def test_a_guest_that_goes_while_it_is_looked_at_is_left_out() -> None:
    gone = {"failure": "Configuration file 'nodes/pve1/qemu-server/104.conf' does not exist", "status": 500}
    found, told = looked({**ANSWERS, f"GET {NODE}/qemu/104/config": gone})
    assert list(found) == [100, 102, 103] and told == []


def test_a_guest_that_may_not_be_looked_at_is_told_once_and_kept() -> None:
    denied = {"failure": "root lacks the privilege VM.Audit on /vms.", "status": 403}
    answers = {**ANSWERS, f"GET {NODE}/qemu/104/config": denied, f"GET {NODE}/qemu/100/config": denied}
    found, told = looked(answers)
    assert list(found) == [100, 102, 103, 104]
    cause = "root lacks the privilege VM.Audit on /vms."
    assert told == [f"guest 100 (new) cannot be looked at: {cause} So it is with 1 more."]


def test_an_agent_that_does_not_answer_says_why() -> None:
    silent = {"failure": "QEMU guest agent is not running", "status": 500}
    found, told = looked({**ANSWERS, f"GET {NODE}/qemu/100/agent/network-get-interfaces": silent})
    assert (found[100]["agent"], found[100]["agent_interfaces"]) == ("QEMU guest agent is not running", [])
    assert told == []


def test_no_agent_is_asked_when_the_time_for_all_is_over() -> None:
    times = iter([0.0, 31.0, 32.0])
    told: list[str] = []
    found = survey(FakeApi([ANSWERS]), Wants(), told.append, lambda: next(times))
    assert [g["agent"] for g in found if g["vmid"] in (100, 102)] == ["no time was left to ask it"] * 2
    assert [text.partition(" could be")[0] for text in told] == [
        "the 30 seconds for guest agents were over before 100 and 102"
    ]

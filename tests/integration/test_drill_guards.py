# SPDX-License-Identifier: GPL-3.0-or-later
"""Before and after: the guards of a drill, what it could leave behind, and the plan that it is given."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import (
    FakeNode,
    Package,
    Systemd,
    named,
    package,
    wanted,
)

HERE = "3d1219c7c4c5404aaa1f6d2a48adfda4"


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture(autouse=True)
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    """A host that allows itself to be broken."""
    for name in ("MARKER", "MACHINE_ID", "STOP_FILE"):
        monkeypatch.setattr(drill.guards, name, tmp_path / name.lower())
    (tmp_path / "marker").write_text(f"{HERE}\n")
    (tmp_path / "machine_id").write_text(f"{HERE}\n")
    return Systemd(tmp_path, monkeypatch)


def looked(drill: Package, folder: Path, node: FakeNode | None = None, **more: Any) -> list[dict[str, Any]]:
    return list(drill.guards.look(drill.plan.from_json(wanted(folder, **more)), node or FakeNode()))


def refused(drill: Package, rows: list[dict[str, Any]], name: str) -> str:
    """The value of the guard of this name, which is the only one that refuses; its remedy is part of the refusal."""
    row = named(rows, name)
    text = str(drill.guards.refusal(rows))
    assert [other["name"] for other in rows if not other["ok"]] == [name]
    assert text == f"{name}? no ({row['value']}): {row['remedy']}"
    assert len(row["remedy"]) > 10
    with pytest.raises(drill.shell.Trouble):
        drill.guards.refuse(rows)
    return f"{row['value']} -> {row['remedy']}"


def test_a_host_that_is_ready(drill: Package, tmp_path: Path) -> None:
    rows = looked(drill, tmp_path)
    assert [row["ok"] for row in rows] == [True] * len(drill.guards.CHECKS)
    assert drill.guards.refusal(rows) == ""
    drill.guards.refuse(rows)
    assert all(set(row) == {"name", "ok", "value", "remedy"} and all(row.values()) for row in rows)


def test_a_host_that_the_inventory_does_not_name_is_not_even_looked_at(drill: Package, tmp_path: Path) -> None:
    rows = looked(drill, tmp_path, guards={"allow": False})
    assert len(rows) == 1
    assert "drill_allow" in refused(drill, rows, "the inventory allows it")


@pytest.mark.parametrize("marker", [None, "", "0" * 32])
def test_a_host_that_does_not_name_itself(drill: Package, tmp_path: Path, marker: str | None) -> None:
    (tmp_path / "marker").unlink()
    if marker is not None:
        (tmp_path / "marker").write_text(marker)
    rows = looked(drill, tmp_path)
    assert len(rows) == 2
    assert f"install -D -m 0644 {tmp_path}/machine_id {tmp_path}/marker" in refused(drill, rows, "the host allows it")


@pytest.mark.parametrize(
    ("radius", "guards", "ok"),
    [
        ("storage", {}, True),
        ("bridge", {}, False),
        ("bridge", {"ceiling": "bridge"}, True),
        ("host", {"ceiling": "bridge"}, False),
        ("host", {"confirm": "pve2"}, False),
        ("node-reboot", {"confirm": "pve1"}, True),
    ],
)
def test_the_blast_radius(drill: Package, tmp_path: Path, radius: str, guards: dict[str, Any], ok: bool) -> None:
    rows = looked(drill, tmp_path, guards=guards, radius=radius)
    if ok:
        assert drill.guards.refusal(rows) == ""
    else:
        assert "drill_confirm=pve1" in refused(drill, rows, "the blast radius is allowed")


def test_an_emergency_stop(drill: Package, tmp_path: Path) -> None:
    (tmp_path / "stop_file").touch()
    assert f"rm {tmp_path}/stop_file" in refused(drill, looked(drill, tmp_path), "no emergency stop")


def test_a_host_that_is_still_starting(drill: Package, tmp_path: Path, host: Systemd) -> None:
    (host.state / "running").write_text("starting\n")
    assert "starting" in refused(drill, looked(drill, tmp_path), "systemd runs")


def test_a_host_without_memory(drill: Package, tmp_path: Path) -> None:
    rows = looked(drill, tmp_path, guards={"min_available_mib": 10**9})
    assert "have 1000000000 MiB" in refused(drill, rows, "the host has room")


@pytest.mark.parametrize(
    ("more", "value"),
    [({"qmpstatus": "paused"}, "103 is paused"), ({"status": "stopped", "qmpstatus": None}, "103 is stopped")],
)
def test_a_guest_that_does_not_run(drill: Package, tmp_path: Path, more: dict[str, Any], value: str) -> None:
    node = FakeNode()
    node.guests[1].update(more)
    assert value in refused(drill, looked(drill, tmp_path, node), "the guests run")


def test_a_guest_that_is_not_there(drill: Package, tmp_path: Path) -> None:
    node = FakeNode()
    del node.guests[0]
    assert "101 is not there" in refused(drill, looked(drill, tmp_path, node), "the guests run")


@pytest.mark.parametrize("tags", ["", "canary", "not-drill-ok", "drill-ok-not", None])
def test_a_victim_without_the_tag(drill: Package, tmp_path: Path, tags: str | None) -> None:
    node = FakeNode()
    node.guests[1]["tags"] = tags
    assert "without drill-ok: 103" in refused(drill, looked(drill, tmp_path, node), "the victims are tagged")


@pytest.mark.parametrize("tags", ["drill-ok", "a;drill-ok", "a,drill-ok", "drill-ok b"])
def test_a_victim_with_the_tag(drill: Package, tmp_path: Path, tags: str) -> None:
    node = FakeNode()
    node.guests[1]["tags"] = tags
    assert drill.guards.refusal(looked(drill, tmp_path, node)) == ""


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_a_guest_that_nobody_has_listed(drill: Package, tmp_path: Path, kind: str) -> None:
    node = FakeNode()
    row = {"vmid": 200, "status": "running", "qmpstatus": "running"}
    node.answers[f"/nodes/{{node}}/{kind}"] = [*node.answers[f"/nodes/{{node}}/{kind}"], row]
    rows = looked(drill, tmp_path, node, radius="storage")
    assert "not listed: 200 -> stop them" in refused(drill, rows, "no unlisted guest runs")
    assert drill.guards.refusal(looked(drill, tmp_path, node, radius="guest")) == "", "it cannot be hit"
    row["status"] = "stopped"
    assert drill.guards.refusal(looked(drill, tmp_path, node, radius="storage")) == ""


@pytest.mark.parametrize("path", ["/nodes/{node}/lxc", "/cluster/ha/resources"])
def test_a_node_without_containers_or_ha(drill: Package, tmp_path: Path, path: str) -> None:
    node = FakeNode()
    node.answers[path] = drill.node.Silent("GET x: answers 501 Not implemented")
    assert drill.guards.refusal(looked(drill, tmp_path, node)) == ""
    node.answers[path] = drill.node.Silent("GET x: answers 403 Permission check failed")
    with pytest.raises(drill.node.Silent, match="403"):
        looked(drill, tmp_path, node)


def test_a_node_that_is_busy(drill: Package, tmp_path: Path) -> None:
    node = FakeNode()
    node.guests[0]["lock"] = "backup"
    node.answers["/nodes/{node}/tasks"] = [{"type": "vzdump", "id": "101"}]
    text = refused(drill, looked(drill, tmp_path, node), "nothing is at work")
    assert text.startswith("task vzdump 101 runs, guest 101 is locked (backup) -> wait")


@pytest.mark.parametrize(
    ("sid", "radius", "ok"), [("vm:103", "guest", False), ("vm:200", "storage", True), ("vm:200", "host", False)]
)
def test_high_availability(drill: Package, tmp_path: Path, sid: str, radius: str, ok: bool) -> None:
    node = FakeNode()
    node.answers["/cluster/ha/resources"] = [{"sid": sid}]
    rows = looked(drill, tmp_path, node, guards={"confirm": "pve1"}, radius=radius)
    if ok:
        assert drill.guards.refusal(rows) == ""
    else:
        assert f"managed: {sid} -> take" in refused(drill, rows, "nothing is armed to fence")


@pytest.mark.parametrize(("answers", "ok"), [(["unknown", "unknown", "running"], True), (["unknown"] * 99, False)])
def test_a_node_that_does_not_know_yet_is_asked_again(
    drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[str], ok: bool
) -> None:
    node, left = FakeNode(), iter(answers)
    real = node.get

    def get(path: str, **params: Any) -> Any:
        if params.get("full"):
            node.guests[1]["qmpstatus"] = next(left)
        return real(path, **params)

    monkeypatch.setattr(node, "get", get)
    rows = looked(drill, tmp_path, node, limits={"answer_s": 1})
    if ok:
        assert drill.guards.refusal(rows) == "" and next(left, None) is None
    else:
        assert "103 is unknown" in refused(drill, rows, "the guests run")


def test_all_that_refuse_are_named_at_once(drill: Package, tmp_path: Path) -> None:
    node = FakeNode()
    node.guests[1].update(tags="", lock="clone")
    text = drill.guards.refusal(looked(drill, tmp_path, node))
    assert text.count("? no (") == 2
    assert "; nothing is at work? no" in text


# what is left behind ----------------------------------------------------------------------------------------------


def test_what_differs_is_left_behind(drill: Package) -> None:
    before = {"units": ["a"], "queues": ["tap103i0 noqueue"], "limits": ["103 cpu.max max 100000"], "services": []}
    assert drill.residue.left(before, copy.deepcopy(before)) == []
    after = {**before, "queues": ["tap103i0 netem"], "services": ["pveproxy inactive"]}
    assert sorted(drill.residue.left(before, after)) == [
        "queues: tap103i0 netem (was not there)",
        "queues: tap103i0 noqueue (is gone)",
        "services: pveproxy inactive (was not there)",
    ]
    assert drill.residue.left(before, {}) == [
        "units: a (is gone)",
        "queues: tap103i0 noqueue (is gone)",
        "limits: 103 cpu.max max 100000 (is gone)",
    ]


def test_units_of_this_run_are_left_behind_and_others_are_not(drill: Package, tmp_path: Path, host: Systemd) -> None:
    plan = drill.plan.from_json(wanted(tmp_path))
    before = drill.residue.state(plan)
    assert set(before) == set(drill.residue.LOOKS)
    for name in (f"pvelab-undo-{plan.run}.timer", f"pvelab-drill-{plan.run}.service", "pvelab-undo-of-another.timer"):
        (host.state / name).touch()
    assert drill.residue.left(before, drill.residue.state(plan)) == [
        f"units: pvelab-undo-{plan.run}.timer (was not there)"
    ]


def test_what_fills_a_directory_is_left_behind(drill: Package, tmp_path: Path) -> None:
    plan = drill.plan.from_json(wanted(tmp_path, options={"path": str(tmp_path)}))
    before = drill.residue.state(plan)
    (tmp_path / "pvelab-filler-rest").touch()
    (found,) = drill.residue.left(before, drill.residue.state(plan))
    assert found == f"fillers: {tmp_path}/pvelab-filler-rest (was not there)"


def test_what_only_one_fault_could_leave_behind_is_looked_at_too(drill: Package, tmp_path: Path) -> None:
    plan = drill.plan.from_json(wanted(tmp_path))
    weights = ["103 100"]
    before = drill.residue.state(plan, {"weights": lambda: list(weights)})
    assert set(before) == {*drill.residue.LOOKS, "weights"}
    assert drill.residue.left(before, drill.residue.state(plan, {"weights": lambda: list(weights)})) == []
    weights[0] = "103 10000"
    assert drill.residue.left(before, drill.residue.state(plan, {"weights": lambda: list(weights)})) == [
        "weights: 103 10000 (was not there)",
        "weights: 103 100 (is gone)",
    ]


# the plan ---------------------------------------------------------------------------------------------------------


def test_a_plan(drill: Package, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(wanted(tmp_path, limits={"hold_s": 7})))
    plan = drill.plan.read(path)
    assert (plan.victims, plan.bystanders, plan.listed) == ((103,), (101,), (103, 101))
    assert (plan.limits.hold_s, plan.guards.ceiling) == (7.0, "storage")
    assert plan.home == tmp_path / "drills" / plan.run
    assert plan.place("serial", 103) == tmp_path / "103.serial"
    assert plan.restore(103, 104).endswith("restore " + str(plan.home / "plan.json") + " 103 104")
    with pytest.raises(drill.shell.Trouble, match="the fault test of drill test needs the option pool"):
        plan.option("pool")


@pytest.mark.parametrize("missing", ["run", "drill", "fault", "node", "victims", "bystanders", "places", "directory"])
def test_a_plan_without_something(drill: Package, tmp_path: Path, missing: str) -> None:
    path, data = tmp_path / "plan.json", wanted(tmp_path)
    del data[missing]
    path.write_text(json.dumps(data))
    with pytest.raises(drill.shell.Trouble, match=rf"plan\.json is no plan of a drill: KeyError '{missing}'"):
        drill.plan.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"limits": {"observe": 3}},
        {"limits": {"observe_s": "soon"}},
        {"limits": [3]},
        {"guards": {"allowed": True}},
        {"guards": {"ceiling": "world"}},
        {"victims": ["db1"]},
        {"victims": None},
        {"fault": []},
        {"fault": {}},
        {"drill": {"name": "test"}},
        {"drill": {"name": "test", "blast_radius": "world"}},
    ],
    ids=str,
)
def test_a_plan_that_is_wrong(drill: Package, tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**wanted(tmp_path), **change}))
    with pytest.raises(drill.shell.Trouble):
        drill.plan.read(path)


@pytest.mark.parametrize("text", ["", "[]", "{", '"plan"'])
def test_a_file_that_is_no_plan(drill: Package, tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(drill.shell.Trouble, match="is no plan of a drill"):
        drill.plan.read(path)
    with pytest.raises(drill.shell.Trouble, match=r"none\.json is no plan of a drill"):
        drill.plan.read(tmp_path / "none.json")

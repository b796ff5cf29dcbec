# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault of a chain of images: with the real qemu-img, the program as it is brought to a host, and no guest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.lookup.program import build
from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import PROGRAMS, Package, named, package, takes

pytestmark = pytest.mark.skipif(not shutil.which("qemu-img"), reason="no qemu-img on this machine")

# Which regions are not as they should be, and with what qemu-img check ends for base, first and second overlay.
DAMAGES = {
    "bad_cluster": ("1 of 64 regions differ", "0, 0, 3"),
    "lost_backing": ("base.qcow2': No such file or directory)", "1, 1, 1"),
    "changed_base": ("1 of 64 regions differ", "0, 0, 0"),
    "half_snapshot": ("11 of 64 regions differ", "0, 0, 2"),
}


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(drill, tmp_path, monkeypatch)
    (made.systemd.programs / "qemu-img").unlink()
    build(PROGRAMS / "drill", tmp_path / "drill.pyz")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/vm-103-disk-0.qcow2").write_bytes(b"a guest's")
    yield made
    made.systemd.end()


def plan(host: Host, **options: Any) -> dict[str, Any]:
    fault = {"kind": "snapshot_chain", "options": {"path": str(host.folder / "files"), **options}}
    program = str(host.folder / "drill.pyz")
    return {"radius": "file", "fault": fault, "victims": [], "bystanders": [], "program": program}


def fault(host: Host, **options: Any) -> Any:
    from_json, wanted = host.drill.plan.from_json, plan(host, **options)
    wanted.pop("radius")
    data = {
        **{"run": "r", "drill": {"name": "snapshot_chain", "blast_radius": "file"}, "node": "pve1", "places": {}},
        **{"api": {"url": "https://127.0.0.1:9", "token_file": "none"}, "directory": str(host.folder / "drills")},
        **wanted,
    }
    made = host.drill.faults.prepare(from_json(data), host.node)
    for text in (made.inject, made.relief, made.undo):
        takes(text)
    return made


def do(host: Host, text: str) -> None:
    assert host.drill.shell.run(["/bin/sh", "-ec", text], timeout_s=60) == ""


def left(host: Host) -> list[str]:
    return sorted(path.name for path in (host.folder / "files").iterdir())


def test_all_damages_in_one_run_without_a_guest(host: Host) -> None:
    limits = {"observe_s": 30, "recover_s": 30, "hold_s": 0.05, "baseline_s": 0.05}
    data = host.run(**plan(host), limits=limits)
    assert (data["verdict"], data["residue"]["left"], data["guests"]) == ("passed", [], [])
    assert [row["ok"] for row in data["states"]] == [True] * 10
    for kind, (what, checks) in DAMAGES.items():
        said = named(data["signature"], f"{kind}: the chain is not as its manifest says")["evidence"]
        assert what in said
        assert said.endswith(f"; qemu-img check ended with {checks}")
        said = named(data["signature"], f"{kind}: the chain's copy is as its manifest says")["evidence"]
        assert said == "0 of 64 regions differ; qemu-img check ended with 0, 0, 0"
    assert data["marks"]["detected"] <= data["marks"]["relief"] <= data["marks"]["recover"]
    assert left(host) == ["vm-103-disk-0.qcow2"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_one_damage_is_known_by_what_the_chain_shows(host: Host, kind: str) -> None:
    made = fault(host, damage=kind)
    (sign,), (eased,) = made.signs, made.eased
    do(host, made.undo)
    assert (sign.test(None, 0.0), eased.test(None, 0.0)) == (None, None), "there is no chain"
    do(host, made.inject)
    assert DAMAGES[kind][0] in sign.test(None, 0.0)
    assert eased.test(None, 0.0) is None
    do(host, made.relief)
    assert sign.test(None, 0.0) is None
    assert eased.test(None, 0.0) == "0 of 64 regions differ; qemu-img check ended with 0, 0, 0"
    for _time in range(2):
        do(host, made.undo)
        assert left(host) == ["vm-103-disk-0.qcow2"]


def test_a_chain_that_nobody_damages_has_none_of_the_signs(host: Host) -> None:
    made = fault(host)
    do(host, made.inject.splitlines()[0])
    do(host, made.relief)
    assert [sign.test(None, 0.0) for sign in made.signs] == [None] * 4
    assert all(sign.test(None, 0.0) for sign in made.eased)


def test_what_is_there_already_is_not_built_upon(host: Host) -> None:
    made = fault(host)
    (host.folder / "files/pvelab-filler-chain").mkdir()
    with pytest.raises(host.drill.shell.Trouble, match="pvelab-filler-chain cannot be made: File exists"):
        do(host, made.inject)
    data = host.run(**plan(host))
    assert data["verdict"] == "aborted_preflight"
    assert "pvelab-filler-chain; run drill_abort first" in data["because"]


def test_what_is_refused(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble, skip = host.drill.shell.Trouble, host.drill.faults.fault.Skip
    with pytest.raises(trouble, match="there is no damage rust; there is bad_cluster, lost_backing, changed_base"):
        fault(host, damage="rust")
    with pytest.raises(trouble, match="/none/such is no directory on this host"):
        fault(host, path="/none/such")
    with pytest.raises(trouble, match="the fault snapshot_chain of drill snapshot_chain needs the option path"):
        fault(host, path=None)
    with monkeypatch.context() as patch:
        patch.setattr(host.drill.faults.chains, "NEEDS_MIB", 1 << 40)
        with pytest.raises(trouble, match=r"files has \d+ MiB left, and a chain to damage takes up to"):
            fault(host)
    monkeypatch.setenv("PATH", str(host.systemd.programs))
    with pytest.raises(skip, match="no qemu-img on this host"):
        fault(host)


def test_a_table_is_looked_for_only_in_images_that_have_it(host: Host) -> None:
    chain, image = host.drill.chain, host.folder / "image.qcow2"
    for words, why in (
        (["raw"], "no qcow2 of version 3 with clusters of 64 KiB"),
        (["qcow2", "-o", "cluster_size=4096"], "no qcow2 of version 3 with clusters of 64 KiB"),
        (["qcow2"], "the image has nothing of cluster 30"),
    ):
        host.drill.shell.run(["qemu-img", "create", "-q", "-f", *words, str(image), "4M"])
        with image.open("rb") as file, pytest.raises(host.drill.shell.Trouble, match=why):
            chain._entry(file.fileno(), 30)


def test_a_word_that_is_none_ends_with_a_sentence(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.drill.chain.main("damage", str(host.folder / "none"), "bad_cluster") == 2
    assert "No such file or directory" in capsys.readouterr().err

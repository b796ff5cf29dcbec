# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo reads out of a playbook's output, and how it lays out its table. The demo itself: tests/stories."""

from __future__ import annotations

import importlib
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

OUTPUT = """
TASK [pvelab.proxmox.storage : Define the storages] ****************************
changed: [pve1] => (item=lab)
ok: [pve1] => (item=other)

TASK [Something without items] *************************************************
changed: [pve1]

PLAY RECAP *********************************************************************
pve1                       : ok=14   changed=7    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
"""


@pytest.fixture(scope="module")
def tools() -> Iterator[None]:
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


@pytest.fixture
def demo(tools: None) -> ModuleType:
    return importlib.import_module("demo")


@pytest.fixture
def node(tools: None) -> ModuleType:
    return importlib.import_module("demo_node")


@pytest.fixture
def texts(tools: None) -> ModuleType:
    return importlib.import_module("demo_summary")


def test_changes_are_told_as_they_come_and_everything_is_logged(demo: ModuleType, node: ModuleType) -> None:
    out, record = io.StringIO(), io.StringIO()
    demo.report(io.StringIO(OUTPUT), record, node.Show(out))
    assert out.getvalue() == "    + Define the storages: lab\n    + Something without items\n"
    assert record.getvalue() == OUTPUT


def test_the_recap_is_found(demo: ModuleType) -> None:
    found = demo.RECAP.search(OUTPUT)
    assert found is not None
    assert (found[2], found[4]) == ("7", "0")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('fatal: [pve1]: FAILED! => {"changed": false, "msg": "storage \'lab\' is full."}', "storage 'lab' is full."),
        ("[ERROR]: no inventory", "[ERROR]: no inventory"),
        ("", "it said nothing."),
    ],
)
def test_a_failure_is_one_sentence(demo: ModuleType, text: str, told: str) -> None:
    assert demo.failure_in(text) == told


def test_columns_are_as_wide_as_they_have_to_be(texts: ModuleType) -> None:
    lines = texts.table(("guest", "id"), [("a-long-name", "1"), ("b", "")]).splitlines()
    assert lines == ["", "  guest        id", "  ───────────────", "  a-long-name  1", "  b"]


@pytest.mark.parametrize(
    ("net", "told"),
    [("virtio=AA,bridge=vmbr0,tag=10", "vmbr0, VLAN 10"), ("virtio=AA,bridge=vmbr1", "vmbr1"), ("", "")],
)
def test_the_bridge_of_a_guest(texts: ModuleType, net: str, told: str) -> None:
    assert texts.bridge({"net0": net}) == told


def test_a_port_that_is_taken_is_seen(node: ModuleType) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        assert node.taken(holder.getsockname()[1])


def test_a_signal_between_start_and_note_is_handled_afterwards(node: ModuleType) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _frame: came.append(number))
    try:
        with node.signals_held():
            os.kill(os.getpid(), signal.SIGHUP)
            held = list(came)
        assert (held, came) == ([], [signal.SIGHUP])
    finally:
        signal.signal(signal.SIGHUP, before)


# drills -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def drills(tools: None) -> ModuleType:
    return importlib.import_module("demo_drills")


def test_the_demo_breaks_the_embedded_node_only_and_only_what_is_a_target(drills: ModuleType) -> None:
    targets = {"guest_crash": {"victims": [103]}, "zfs_full": {"victims": [102]}}
    inventory = {"_meta": {"hostvars": {"lab": {"drill_targets": {"guest_hang": {}}}, "pve1": {}}}}
    inventory |= {"hypervisors": {"hosts": ["lab"]}, "embedded": {"hosts": ["pve1"]}}
    assert drills.wanted(inventory) == []
    inventory["_meta"]["hostvars"]["pve1"] = {"drill_targets": targets}
    assert drills.wanted(inventory) == ["guest_crash"]
    assert drills.wanted({}) == []


def test_a_drill_is_told_in_one_line_and_not_as_better_than_it_was(drills: ModuleType) -> None:
    canary = {"acked": 70, "lost": []}
    guests = [{"name": name, "role": role, "canary": canary} for name, role in (("db1", "victim"), ("a", "bystander"))]
    metrics = {"outage_s": 6.14, "time_to_detect_s": 0.112}
    journal = {"verdict": "passed", "because": "It was.", "guests": guests, "metrics": metrics}
    told = drills.told(journal)
    assert told == "passed: db1 was out for 6.1 s, detected after 0.1 s; 140 writes acknowledged, 0 lost"
    assert drills.told({**journal, "verdict": "inconclusive"}) == "inconclusive: It was."


def test_the_report_is_that_of_this_run(drills: ModuleType, tmp_path: Path) -> None:
    for name in ("1-guest_hang-a", "2-guest_hang-b", "3-guest_crash-c", "4-guest_hang-d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "journal.json").touch()
    (tmp_path / "4-guest_hang-d/journal.json").unlink()
    assert drills.report_of("guest_hang", tmp_path, set()) == tmp_path / "2-guest_hang-b"
    assert drills.report_of("guest_hang", tmp_path, set(tmp_path.iterdir())) is None


def test_what_did_not_go_well_has_another_mark(node: ModuleType) -> None:
    out = io.StringIO()
    show = node.Show(out)
    for well in (True, False):
        with show.step("Drill") as note:
            note("it was", well=well)
            note("and more")
    assert out.getvalue().splitlines()[1::2] == ["  ✓ it was; and more (0 s)", "  ! it was; and more (0 s)"]


def demo_env(state: Path) -> subprocess.CompletedProcess[str]:
    """`eval "$(tools/demo-env)"`, and what a play would then find."""
    names = ("HOST", "PORT", "USER", "PASSWORD", "FINGERPRINT")
    script = f'set -e; eval "$("$1")"; echo "{" ".join(f"$PROXMOX_{name}" for name in names)}"'
    command = ["bash", "-c", script, "bash", str(TOOLS / "demo-env")]
    return subprocess.run(
        command, env={**os.environ, "LAB_STATE": str(state)}, capture_output=True, text=True, check=False
    )


def test_a_shell_learns_where_the_node_is(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/password").write_text("it's $1\n", encoding="utf-8")
    said = '{"url": "https://127.0.0.1:41234", "fingerprint": "AA:BB", "node": "pve1"}'
    (tmp_path / "endpoint.json").write_text(said, encoding="utf-8")
    done = demo_env(tmp_path)
    assert (done.returncode, done.stdout) == (0, "127.0.0.1 41234 root@pam it's $1 AA:BB\n"), done.stderr


def test_a_shell_is_told_when_no_node_is_up(tmp_path: Path) -> None:
    done = demo_env(tmp_path)
    assert done.returncode != 0 and done.stdout == ""
    assert f"no node is up in {tmp_path}; start one with: make demo KEEP=1" in done.stderr

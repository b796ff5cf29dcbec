# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo reads out of a playbook's output, and how it lays out its table. The demo itself: test_demo.py."""

from __future__ import annotations

import importlib
import io
import os
import signal
import socket
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""A drill on a host whose node goes away while it is asked, and takes its time to come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.drill_host import Host, hosted
from ansible_collections.pvelab.proxmox.tests.integration.drill_parts import FakeNode, Package, package

AWAY_S = 1.2


@pytest.fixture(scope="module", autouse=True)
def drill() -> Iterator[Package]:
    yield from package()


class Gone(FakeNode):
    """Who asks it while it is away waits for it in vain; others are refused. It is back some time after the repair."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.folder)
        self.silent, self.away = host.drill.node.Silent, host.held / "away"

    def gone(self) -> bool:
        return self.away.exists() and not (
            (mended := self.away.with_name("mended")).exists() and time.time() > mended.stat().st_mtime + AWAY_S
        )

    def get(self, path: str, **params: Any) -> Any:
        asked_often = path == "/nodes/{node}/qemu" and threading.current_thread() is not threading.main_thread()
        deadline = time.monotonic() + 20
        while asked_often and self.gone() and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.gone():
            raise self.silent(f"GET {path}: Connection refused")
        return super().get(path, **params)


@pytest.fixture
def host(drill: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    yield from hosted(drill, tmp_path, monkeypatch)


def test_a_node_that_has_not_answered_since_the_repair_is_waited_for(host: Host) -> None:
    host.node, away = Gone(host), host.held / "away"
    host.harmless()
    # The repair is rehearsed before anything is broken.
    host.inject, host.undo = f"touch {away}", f"[ ! -e {away} ] || touch {away.with_name('mended')}"
    data = host.run()
    assert data["verdict"] == "passed", data["because"]
    assert all(row["canary"]["checked"] for row in data["guests"])
    assert data["marks"]["restored"] - data["marks"]["recover"] > AWAY_S / 2

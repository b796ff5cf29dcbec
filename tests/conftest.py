# SPDX-License-Identifier: GPL-3.0-or-later
"""Each test file has a labnode of its own, so files may run side by side, and its tests use different guests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import ROOT, Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def api(lab: Lab) -> Any:
    """proxmoxer, logged in as root."""
    return lab.api()


@pytest.fixture(scope="session")
def canary_image() -> Path:
    """The guest image of the demo, built once and then kept in .cache."""
    built = subprocess.run([ROOT / "labnode/image/build", "--quiet"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())

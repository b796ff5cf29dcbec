# SPDX-License-Identifier: GPL-3.0-or-later
"""Each test file has a labnode of its own, so files may run side by side, and its tests use different guests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.lab import Lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def api(lab: Lab) -> Any:
    """proxmoxer, logged in as root."""
    return lab.api()

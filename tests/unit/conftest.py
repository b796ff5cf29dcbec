# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties are held on busy machines, too: how long an example takes to make or to run is no failure."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """`ansible-test units` runs each test in a fork, against modules that leave something behind in their process.

    These leave nothing (`make unit` runs all of them in one process), and the forks take more than half of the time.
    """
    config.pluginmanager.unregister(name="ansible_forked")

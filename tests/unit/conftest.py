# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties are held on busy machines, too: how long an example takes to make or to run is no failure."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

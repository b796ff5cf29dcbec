# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures of whoever works on machines without the API in front."""

from __future__ import annotations

from machine_fixtures import lab, qemu

__all__ = ["lab", "qemu"]

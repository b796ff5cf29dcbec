# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests as QEMU processes."""

from labnode.machine.model import RunInfo
from labnode.machine.service import MachineService

__all__ = ["MachineService", "RunInfo"]

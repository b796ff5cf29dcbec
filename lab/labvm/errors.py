# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with the lab machine."""

from __future__ import annotations


class LabError(Exception):
    """One sentence: which lab, what is the matter, what to do."""


class Panic(LabError):
    """The machine's kernel gave up."""

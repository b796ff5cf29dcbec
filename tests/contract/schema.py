# SPDX-License-Identifier: GPL-3.0-or-later
"""The published schema of the Proxmox VE API: the pinned copy where it is at hand, else fakepve's newer one."""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

PINNED = Path(__file__).resolve().parents[3] / "shared/contract/pve-api-9.1.json.gz"


@cache
def schema() -> dict[str, Any]:
    """{path: {method: {parameters, returns, …}}}"""
    packed = PINNED.read_bytes() if PINNED.exists() else (files("fakepve") / "data/pve-api.json.gz").read_bytes()
    paths: dict[str, Any] = json.loads(gzip.decompress(packed))["paths"]
    return paths


def parameters(method: str, path: str) -> dict[str, Any]:
    """{name: {type, enum, format, …}} of one method."""
    found: dict[str, Any] = schema()[path][method]["parameters"]["properties"]
    return found

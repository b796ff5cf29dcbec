# SPDX-License-Identifier: GPL-3.0-or-later
"""labnode's table of facts against the published schema of the Proxmox VE API."""

from __future__ import annotations

import importlib.util
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.contract.schema import PINNED
from labnode.app import load_handlers
from labnode.route import ROUTES
from labnode.schema.table import COUNTS, table

ROOT = Path(__file__).resolve().parents[2]
OURS = json.loads((ROOT / "labnode/src/labnode/schema/table.json").read_text(encoding="utf-8"))
# Parameters that the release after 9.1 takes in another form.
CHANGED_SINCE = {
    "affinity", "blocksize", "comment", "crs", "maxfiles", "net[n]", "property", "serial[n]", "vnet", "zone",
}  # fmt: skip
# Methods whose parameters became alternatives ("oneOf") there.
RESHAPED_SINCE = {("POST", "/cluster/ha/rules"), ("PUT", "/cluster/ha/rules/{rule}")}

load_handlers()


def tool() -> Any:
    """labnode/tools/schema_table.py, which makes the table."""
    spec = importlib.util.spec_from_file_location("schema_table", ROOT / "labnode/tools/schema_table.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_made_from_the_pinned_schema() -> None:
    if not PINNED.exists():
        pytest.skip("the pinned schema is not at hand; the newer one is compared below")
    assert tool().table_of(tool().load(PINNED)) == OURS


def test_the_table_agrees_with_the_newer_schema() -> None:
    newer = tool().table_of(tool().load(Path(str(files("fakepve") / "data/pve-api.json.gz"))))
    for method, path in ROUTES:
        ours, theirs = OURS["paths"][path][method], newer["paths"][path][method]
        assert ours.get("perm") == theirs.get("perm"), f"{method} {path}"
        if (method, path) in RESHAPED_SINCE:
            continue
        for name, index in ours.get("p", {}).items():
            if name not in CHANGED_SINCE:
                facts = newer["params"][theirs["p"][name]]
                assert OURS["params"][index] == facts, f"{method} {path} {name}"
    assert set(OURS["paths"]) <= set(newer["paths"])


def test_everything_that_is_implemented_is_in_the_table() -> None:
    for method, path in ROUTES:
        facts = table().method(method, path)
        assert facts is not None, f"{method} {path} does not exist in Proxmox VE"
        assert facts.params is not None, f"{method} {path} is implemented, and the table does not have its parameters"


def test_the_table_holds_facts_and_no_text() -> None:
    words = re.compile(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}")

    def walk(value: Any, where: str) -> None:
        if isinstance(value, dict):
            # A parameter may be named "description"; its facts are then a number or a dict.
            assert not isinstance(value.get("description", value.get("typetext")), str), where
            for key, item in value.items():
                walk(item, f"{where}.{key}")
        elif isinstance(value, list):
            for item in value:
                walk(item, where)
        elif isinstance(value, str):
            assert not words.search(value), f"{where}: {value}"

    walk(OURS, "table")


def test_numbered_parameters_are_written_out() -> None:
    create = table().method("POST", "/nodes/{node}/qemu")
    assert create is not None and create.params is not None
    for name, count in (("net", 32), ("scsi", 31), ("ide", 4), ("virtio", 16)):
        assert COUNTS[name] == count
        assert f"{name}{count - 1}" in create.params and f"{name}{count}" not in create.params
    assert not [name for name in create.params if "[n]" in name]

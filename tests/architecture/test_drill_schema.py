# SPDX-License-Identifier: GPL-3.0-or-later
"""The published schema of a drill's journal: it takes what a run writes, refuses the rest, and explains every field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import jsonschema
import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import MARKS, Journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_words import MOMENTS, PHASES
from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made

SCHEMA = json.loads((ROOT / "docs/drills/journal.schema.json").read_text(encoding="utf-8"))


def complaints(journal: Any) -> list[str]:
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(journal)]


def parts(schema: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a schema with its path; those of a list's items below "[]"."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from parts(inner, f"{path}.{name}".lstrip("."))
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key], f"{path}[]")


def declared(kind: Any, path: str = "") -> Iterator[str]:
    """The same paths, of the classes that read a journal."""
    for inner in (kind, *get_args(kind)):
        if is_dataclass(inner) and isinstance(inner, type):
            hints = get_type_hints(inner)
            for field in fields(inner):
                name = f"{path}.{field.name.rstrip('_')}".lstrip(".")
                yield name
                listed = "tuple" in str(hints[field.name]).partition("[")[0]
                yield from declared(hints[field.name], f"{name}[]" if listed else name)


@pytest.mark.parametrize(
    "journal",
    [
        *(made.storage_full(), made.refuted(), made.aborted(), made.relieved(), made.outside()),
        *(made.watched(3.4), made.watched(None)),
    ],
    ids=lambda j: j["run"],
)
def test_what_a_run_writes_is_valid(journal: Any) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert complaints(journal) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", "pvelab-drill-journal/2"),
        ("verdict", "great"),
        ("surprise", 1),
        ("run", ...),
        ("guests/0/surprise", 1),
        ("guests/0/vmid", "103"),
        ("guests/0/outages/0/from", ...),
        ("marks/verified", ...),
        ("marks/relief", "late"),
        ("marks/watch", "late"),
        ("metrics/watch_s", "never"),
        ("events/0/source", "somebody"),
        ("plan/relief", None),
        ("metrics/outage_s", "19.2 s"),
        ("began_utc", "2026-11-22 02:15"),
        ("evidence/0/sha256", "abc"),
        ("states/0/name", "party"),
        ("plan/limits/hold_s", ...),
        ("probes", [{"name": "web1"}]),
        ("vantage", {"name": "the controller"}),
    ],
)
def test_what_no_run_may_write_is_refused(path: str, value: Any) -> None:
    assert complaints(made.cut(made.storage_full(), path, value))


def test_every_field_is_explained_and_says_its_unit() -> None:
    found = dict(parts(SCHEMA))
    assert [path for path, schema in found.items() if not schema.get("description", "").endswith(".")] == []
    for path, schema in found.items():
        kinds = schema.get("type") or ""
        if (
            path.endswith(("_s", ".began", ".ended", ".at", ".armed", ".due", ".from", ".to", ".s"))
            and kinds != "array"
        ):
            assert "econds" in schema["description"], path


def test_every_object_is_closed_but_those_whose_keys_are_free() -> None:
    free = {
        path for path, schema in parts(SCHEMA) if "object" in (schema.get("type") or "") and "properties" not in schema
    }
    assert free == {"plan.fault.options", "plan.canaries", "guests[].canary.errors"}
    optional = set()
    for path, schema in parts(SCHEMA):
        if "properties" in schema:
            assert schema["additionalProperties"] is False, path
            optional |= {f"{path}.{name}" for name in set(schema["properties"]) - set(schema["required"])}
            assert set(schema["required"]) <= set(schema["properties"]), path
    # Journals that are older than the state "relieve" stay valid, and so do those of hosts without guest_watch. What is
    # known of guests without a canary on a serial port belongs to these alone.
    assert optional == {
        *("plan.relief", "plan.canaries", "marks.relief", "guests[].latency_ms.relief"),
        *("marks.watch", "metrics.watch_s", ".probes", ".vantage"),
        *("guests[].resolution_s", "guests[].written_bytes"),
    }


def test_a_state_the_runner_knows_is_in_the_schema_and_no_other() -> None:
    assert tuple(dict(parts(SCHEMA))["states[].name"]["enum"]) == made.STATES
    assert tuple(PHASES) == made.STATES


def test_the_reader_knows_the_fields_of_the_schema_and_no_others() -> None:
    # The names of these keys are a mapping's to the reader.
    mapped = ("plan.limits.", "marks.", "metrics.", "guests[].canary.errors[]")
    assert set(dict(parts(SCHEMA))["marks"]["properties"]) == set(MARKS) == set(MOMENTS)
    known = {path for path, _ in parts(SCHEMA) if path and not path.endswith("[]") and not path.startswith(mapped)}
    assert known == set(declared(Journal))

# SPDX-License-Identifier: GPL-3.0-or-later
"""By what the answer server tells hosts apart: the table that it reads, checked and in its one form."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .answer_values import mac
from .state import State
from .steps import Failure

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What makers write where a number would belong: many machines share it.
_EMPTY_SERIALS = ("0", "none", "not specified", "default string", "system serial number", "to be filled by o.e.m.")


def table(hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """{name: {macs, serial, uuid, once, expires}} without what is not given. Raises Failure."""
    found: dict[str, Any] = {}
    for host in hosts:
        name = host["name"]
        if not _NAME.fullmatch(name):
            raise Failure(f"{name!r} is no name of a host. Use letters, digits, inner dashes and dots.")
        if name in found:
            raise Failure(f"{name} is there twice. Give each host one entry.")
        found[name] = _entry(name, host)
    _told_apart(found)
    return dict(sorted(found.items()))


def render(found: Mapping[str, Any]) -> str:
    """The table as the server reads it."""
    return json.dumps(found, indent=2) + "\n"


def parse(text: str) -> State:
    """The state of a table, one key for each host; a text that is no table is a state that equals no wanted one."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return {"not JSON": True}
    return found if isinstance(found, dict) else {"not a table": True}


def _entry(name: str, host: Mapping[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if host.get("macs"):
        entry["macs"] = sorted({mac(f"macs of {name}", given) for given in host["macs"]})
    if host.get("serial"):
        entry["serial"] = _serial(name, host["serial"].strip())
    if host.get("uuid"):
        entry["uuid"] = host["uuid"].strip().lower()
        if not _UUID.fullmatch(entry["uuid"]):
            raise Failure(f"uuid of {name} is {host['uuid']!r}, which is none. /sys/class/dmi/id/product_uuid has it.")
    if not entry:
        raise Failure(f"{name} has neither macs nor serial nor uuid. Give one, or nobody can be told to be {name}.")
    if host.get("once"):
        entry["once"] = True
    if host.get("expires"):
        entry["expires"] = _moment(name, host["expires"])
    return entry


def _serial(name: str, serial: str) -> str:
    if not serial or serial.lower() in _EMPTY_SERIALS:
        raise Failure(f"serial of {name} is {serial!r}, which many machines have. Use macs or uuid.")
    return serial


def _moment(name: str, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Failure(f"expires of {name} is {text!r}. Write a moment with its zone, such as '2030-01-31T18:00:00Z'.")
    return moment.isoformat()


def _told_apart(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Two hosts that one request could be from are refused here rather than in front of the machine."""
    seen: dict[str, str] = {}
    for name, entry in found.items():
        marks = [*entry.get("macs", ()), *(f"{key} {entry[key]}" for key in ("serial", "uuid") if key in entry)]
        for mark in marks:
            if mark in seen:
                raise Failure(f"{seen[mark]} and {name} both have {mark}. Only one of them can be told by it.")
            seen[mark] = name

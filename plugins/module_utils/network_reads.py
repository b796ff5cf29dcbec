# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's network is: its files, what runs, and which change waits for its confirmation."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .core.interfaces import Interfaces, parse
from .core.network_apply import DIRECTORY, FILE, STATES
from .core.networks import numbers
from .core.steps import Failure


class Reader(Protocol):
    """What is needed of the host."""

    def query(self, argv: Sequence[str], *, ok_rcs: Sequence[int] = (0,), timeout_s: float = 60.0) -> str:
        """What a command prints."""

    def read(self, path: str) -> str | None:
        """A file's text."""

    def names(self, path: str) -> list[str]:
        """A directory's names."""

    def which(self, name: str) -> str | None:
        """A program's path."""


@dataclass(frozen=True)
class Observed:
    """``links`` by name as ``ip -j -d address`` has them; ``elsewhere``: interface → sourced file."""

    text: str
    file: Interfaces
    elsewhere: Mapping[str, str]
    links: Mapping[str, Any]
    vlan_rows: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    runs: Sequence[str]
    pending: str

    @property
    def vlans(self) -> dict[str, set[int]]:
        """The VLANs of each port."""
        return {r["ifname"]: set().union(*(_range(v) for v in r.get("vlans", []))) for r in self.vlan_rows}


def observe(host: Reader) -> Observed:
    """Everything at once. Raises Failure where ifupdown2 is missing."""
    if host.which("ifreload") is None:
        raise Failure("this host has no ifreload, so ifupdown2 does not manage its network; install ifupdown2 first.")
    text = host.read(FILE)
    if text is None:
        raise Failure(f"there is no {FILE}; write one that describes the present network first.")
    file, runs = parse(text), host.names(DIRECTORY)
    routes = [r for v in ("-4", "-6") for r in _json(host, ["ip", "-j", v, "route", "show", "default"])]
    latest = status(host, runs[-1]) if runs else ""
    return Observed(
        text, file, _elsewhere(host, file), links(host), vlan_rows(host), routes, runs,
        runs[-1] if latest in ("armed", "reverting") else "",
    )  # fmt: skip


def links(host: Reader) -> dict[str, Any]:
    """Every interface that the kernel has, by name."""
    return {x["ifname"]: x for x in _json(host, ["ip", "-j", "-d", "address", "show"]) if "ifname" in x}


def vlan_rows(host: Reader) -> list[dict[str, Any]]:
    """The VLAN table of each port of a bridge."""
    return _json(host, ["bridge", "-j", "vlan", "show"])


def status(host: Reader, token: str) -> str:
    """How a change stands: one of STATES, or "" where it never got so far."""
    names = host.names(f"{DIRECTORY}/{token}")
    return next((s for s in reversed(STATES) if s in names), "")


def _json(host: Reader, argv: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.query(argv) or "[]")
    return found


def _range(row: Mapping[str, Any]) -> set[int]:
    return numbers([f"{row['vlan']}-{row.get('vlanEnd', row['vlan'])}"])


def _elsewhere(host: Reader, file: Interfaces) -> dict[str, str]:
    """The interfaces of the files that the main one reads in, one level deep, as Debian and Proxmox VE have them."""
    found: dict[str, str] = {}
    for keyword, named in file.sources:
        path = named if named.startswith("/") else f"/etc/network/{named}"
        directory, _none, pattern = (path, "", "*") if keyword == "source-directory" else path.rpartition("/")
        for name in fnmatch.filter(host.names(directory.rstrip("/")), pattern):
            inner = f"{directory.rstrip('/')}/{name}"
            found.update(dict.fromkeys(parse(host.read(inner) or "").names, inner))
    return found

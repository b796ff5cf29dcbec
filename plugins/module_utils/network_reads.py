# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's network is: its files, what runs, and which change waits for its confirmation."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
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
    """``links`` by name as ``ip -j -d address`` has them; ``elsewhere``: interface → sourced file; ``came_by``: the
    address of this host at which the module has come in, None where it did not come by SSH.
    """

    text: str
    file: Interfaces
    elsewhere: Mapping[str, str]
    links: Mapping[str, Any]
    vlan_rows: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    runs: Sequence[str]
    pending: str
    came_by: str | None

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
        runs[-1] if latest in ("armed", "reverting") else "", came_by(host),
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


def silent_gateways(host: Reader, token: str) -> list[str]:
    """ "192.0.2.1 on vmbr0" for each default gateway that a change has brought and that nobody on the wire answers for.
    Whoever confirms from the same subnet would not notice.
    """
    before, now = (parse(host.read(path) or "") for path in (f"{DIRECTORY}/{token}/before", FILE))
    had = {g for n in before.names for g in before.values(n, "gateway")}
    found = []
    for name, gateway in ((n, g) for n in now.names for g in now.values(n, "gateway") if g not in had):
        # Whether it lets itself be pinged does not matter: asking makes the kernel look for it.
        host.query(["ping", "-c", "1", "-W", "2", "-I", name, gateway], ok_rcs=(0, 1, 2))
        rows = _json(host, ["ip", "-j", "neighbour", "show", gateway, "dev", name])
        if not any({*r.get("state", [])} - {"FAILED", "INCOMPLETE"} for r in rows):
            found.append(f"{gateway} on {name}")
    return found


def unlike(host: Reader, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What runs otherwise than the file says, by interface and option, as far as ifupdown2 can tell."""
    found: dict[str, dict[str, str]] = {}
    for row in _json(host, ["ifquery", "--check", "-o", "json", *names], ok_rcs=(0, 1)) if names else []:
        failed = [k for k, said in row.get("config_status", {}).items() if "fail" in said]
        found.setdefault(row["name"], {}).update({k: str(row["config"].get(k, "")) for k in failed})
    return found


def known_options(host: Reader) -> frozenset[str]:
    """What ifupdown2 of this host takes in a stanza."""
    return frozenset(re.findall(r"(?m)^  ([a-z][\w-]*)$", host.query(["ifquery", "--syntax-help"])))


def came_by(host: Reader) -> str | None:
    """The address of this host that its SSH connection has. sudo takes SSH_CONNECTION away, so the parents of this
    process are asked, too.
    """
    process = "self"
    with suppress(Failure):
        while process not in ("", "0"):
            words = dict(w.partition("=")[::2] for w in (host.read(f"/proc/{process}/environ") or "").split("\0"))
            if len(words.get("SSH_CONNECTION", "").split()) == 4:
                return words["SSH_CONNECTION"].split()[2]
            process = "".join((host.read(f"/proc/{process}/stat") or "").rpartition(")")[2].split()[1:2])
    return None


def _json(host: Reader, argv: Sequence[str], ok_rcs: Sequence[int] = (0,)) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.query(argv, ok_rcs=ok_rcs) or "[]")
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to apt and dpkg, through the seam that is handed in. None of them changes anything of the host."""

from __future__ import annotations

import json
import re
from typing import Any

from .core import apt_repository, apt_upgrade, openpgp
from .core.reconcile import Params
from .core.steps import Failure

UPDATES = "/var/lib/dpkg/updates"


def repository(host: Any, params: Params) -> dict[str, Any]:
    """What a repository says of itself, once its signature is proved. Raises Failure for one that must not be used."""
    where = f"{params['uri']} {params['suite']}"
    packets = _key(host, params)
    fingerprints = openpgp.accepted(packets, params["fingerprints"])
    armour = openpgp.armored(packets)
    told = _ask(host, apt_repository.LOOK, apt_repository.question(params, armour))
    if told["rc"] != 0 or apt_repository.lacks_component(told["err"]):
        raise Failure(apt_repository.complaint(told["err"], f"{where} {' '.join(params['components'])}"))
    fields = apt_repository.release_fields(told["release"])
    return {
        "key": armour,
        "fingerprints": fingerprints,
        "origin": fields.get("Origin", ""),
        "label": fields.get("Label", ""),
        "codename": fields.get("Codename", ""),
        "date": fields.get("Date", ""),
        "versions": apt_repository.versions(told["versions"], params["packages"]),
    }


def _key(host: Any, params: Params) -> bytes:
    if params["key"] is not None:
        return openpgp.binary(params["key"])
    if not params["fingerprints"]:
        raise Failure("a key from the network is not believed by itself. Give the fingerprints that it may have.")
    told = _ask(host, apt_repository.FETCH, apt_repository.key_question(params["key_url"]))
    if told["rc"] != 0:
        raise Failure(apt_repository.complaint(told["err"], f"the key {params['key_url']}"))
    return openpgp.binary(told["key"])


def _ask(host: Any, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    if not host.which("apt-get"):
        raise Failure("this host has no apt, so it is no Debian.")
    program = f"{name}{apt_repository.PROBE}"
    said = host.query(["python3", "-c", program, json.dumps(asked)], timeout_s=2 * apt_repository.LIMIT_S)
    told: dict[str, Any] = json.loads(said)
    return told


def upgrade(host: Any) -> dict[str, Any]:
    """What a dist-upgrade would do now, from apt's own simulation."""
    said = host.query(["apt-get", "-s", "-q", "-o", "Debug::NoLocking=true", "dist-upgrade"], timeout_s=300)
    return apt_upgrade.simulated(said)


def broken(host: Any) -> list[str]:
    """Packages that are neither installed nor gone, and "(journal)" where dpkg was stopped in the middle of a write."""
    listed = host.query(["dpkg-query", "-W", "-f", "${db:Status-Status} ${db:Status-Eflag} ${Package}\n"])
    found = []
    for line in listed.splitlines():
        status, flag, name = line.split()
        if flag != "ok" or status not in ("installed", "config-files", "not-installed"):
            found.append(name)
    journal = ["(journal)"] if any(re.fullmatch(r"\d+", name) for name in host.names(UPDATES)) else []
    return [*journal, *sorted(found)]

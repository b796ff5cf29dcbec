# SPDX-License-Identifier: GPL-3.0-or-later
"""Every method labnode has, called with nothing, with rubbish and with plausible values: it answers, and never by
accident."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from labnode.app import load_handlers
from labnode.route import ROUTES
from labnode.schema.table import table

load_handlers()

# Values for path parameters: objects that are there, and such that are not.
THERE = {
    "node": "pve1", "vmid": "100", "storage": "local", "iface": "vmbr0", "userid": "root@pam", "realm": "pve",
    "roleid": "PVEAdmin", "snapname": "current", "service": "pveproxy", "pos": "0", "volume": "local:iso/none.iso",
}  # fmt: skip
# Not called here: what changes real disks, what fetches from elsewhere, and what ends the session.
LEFT_OUT = re.compile(r"/disks/|download-url|query-url|^/access/password|PUT /access/users/|^/access/tfa")
RUBBISH = ("", "x", "-1", "0", "999999999999", "ä\n=,;", "a" * 300, "../../etc/passwd", "1,2;3", "%s{}[]")


def methods() -> Iterator[Any]:
    for method, path in sorted(ROUTES):
        if not LEFT_OUT.search(path) and not LEFT_OUT.search(f"{method} {path}"):
            yield pytest.param(method, path, id=f"{method} {path}")


def filled(path: str, values: dict[str, str]) -> str:
    return re.sub(r"{([^}]+)}", lambda match: values.get(match[1], "none1"), path)


def plausible(name: str, facts: dict[str, Any]) -> str | None:
    """A value of the right type, None where rubbish is as good."""
    if facts.get("enum"):
        return str(facts["enum"][0])
    if facts.get("type") == "boolean":
        return "0"
    if facts.get("type") in ("integer", "number"):
        return str(facts.get("minimum", 1))
    return {"node": "pve1", "vmid": "100", "newid": "101", "target": "pve1", "storage": "local"}.get(name, "ab1")


@pytest.fixture(scope="module")
def busy(server):
    """root@pam on a node with one guest."""
    client = server.client()
    client.login()
    client.data("POST", "/nodes/pve1/qemu", vmid=100, name="web1")
    return client


def good(answer: Any) -> None:
    assert "internal error" not in answer.text, answer.text
    assert answer.reason and answer.status_code in (200, 400, 401, 403, 404, 424, 500, 501), answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
    said = answer.json()
    assert "data" in said and (answer.status_code == 200 or said["message"].strip())


@pytest.mark.parametrize(("method", "path"), methods())
def test_it_answers(busy: Any, method: str, path: str) -> None:
    facts = table().method(method, path)
    assert facts is not None and facts.params is not None
    free = [name for name in facts.params if f"{{{name}}}" not in path and name not in ("digest", "node")]
    for values in (THERE, {**THERE, "vmid": "999", "storage": "none1", "iface": "none1", "userid": "no@pve"}):
        where = filled(path, values)
        good(busy.call(method, where))
        if method != "DELETE":
            required = [name for name in free if not facts.params[name].get("optional")]
            good(busy.call(method, where, **{name: plausible(name, dict(facts.params[name])) for name in required}))
    for turn in range(3):
        rubbish = {name: RUBBISH[(len(name) + turn) % len(RUBBISH)] for name in free}
        good(busy.call(method, filled(path, THERE), **rubbish))

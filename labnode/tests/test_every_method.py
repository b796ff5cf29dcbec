# SPDX-License-Identifier: GPL-3.0-or-later
"""Every method labnode has, called with nothing, with rubbish and with plausible values: it answers, and never by
accident."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from labnode import dispatch
from labnode.app import failure, load_handlers, success
from labnode.errors import ApiError
from labnode.node import Node, Settings, build, shutdown
from labnode.route import ROUTES, Ctx
from labnode.schema.table import table
from labnode.tls import ensure_certificate

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


class Caller:
    """root@pam on a node in this process."""

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self.loop = loop

    def call(self, method: str, path: str, /, **params: Any) -> None:
        """One call as the HTTP side makes it; whatever is no ApiError is a fault, and fails the test."""
        ctx = Ctx(self.node, "root@pam", {}, "127.0.0.1", method, path, "ticket")
        try:
            answer = success(self.loop.run_until_complete(dispatch.call(ctx, params)), "json")
        except ApiError as error:
            assert error.status in (400, 401, 403, 404, 424, 500, 501) and error.message.strip()
            assert error.status != 400 or error.errors or error.message != "Parameter verification failed."
            answer = failure(error, "json")
        assert answer.reason and "data" in json.loads(bytes(answer.body or b""))


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A node with one guest."""
    loop = asyncio.new_event_loop()
    state = tmp_path_factory.mktemp("labnode")
    node = loop.run_until_complete(build(Settings(state, kvm="off", auth_delay=0, root_password="correct horse")))
    ensure_certificate(node.store, node.name)
    caller = Caller(node, loop)
    caller.call("POST", "/nodes/pve1/qemu", vmid="100", name="web1")
    yield caller
    loop.run_until_complete(shutdown(node))
    loop.close()


@pytest.mark.parametrize(("method", "path"), methods())
def test_it_answers(busy: Caller, method: str, path: str) -> None:
    facts = table().method(method, path)
    assert facts is not None and facts.params is not None
    free = [name for name in facts.params if f"{{{name}}}" not in path and name not in ("digest", "node")]
    required = [name for name in free if not facts.params[name].get("optional")]
    likely = {name: plausible(name, dict(facts.params[name])) for name in required}
    for values in (THERE, {**THERE, "vmid": "999", "storage": "none1", "iface": "none1", "userid": "no@pve"}):
        busy.call(method, filled(path, values))
        busy.call(method, filled(path, values), **likely)
        for name in free if method != "DELETE" else ():
            busy.call(method, filled(path, values), **{**likely, name: plausible(name, dict(facts.params[name]))})
    for name in free:
        for text in RUBBISH:
            busy.call(method, filled(path, THERE), **{name: text})

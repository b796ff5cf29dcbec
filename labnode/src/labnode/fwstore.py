# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall file a request is about, and digests as pve-firewall makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from labnode.errors import ApiError
from labnode.fwfile import Firewall, parse, render
from labnode.options import MODIFIED
from labnode.route import Ctx


def with_digest(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a digest over its own values, as pve-firewall has it."""
    text = "".join(f"{key}:{value}\n" for key, value in sorted(row.items()) if value is not None)
    return {**row, "digest": hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()}


def rel(ctx: Ctx) -> str:
    if "vmid" in ctx.params:
        ctx.node.guests.load(ctx.params["vmid"])
        return f"etc/firewall/{ctx.params['vmid']}.fw"
    return ctx.node.etc("host.fw") if "node" in ctx.params else "etc/firewall/cluster.fw"


def load(ctx: Ctx) -> Firewall:
    return parse(ctx.node.store.read(rel(ctx)))


def save(ctx: Ctx, firewall: Firewall) -> None:
    ctx.node.store.write(rel(ctx), render(firewall))


def guard(ctx: Ctx, shown: Any) -> None:
    """Refuse when a digest was sent that is not the one of what is there now."""
    digest = ctx.params.get("digest")
    if digest and digest != shown["digest"]:
        raise ApiError(MODIFIED)


def listing_digest(rows: Any) -> str:
    return str(with_digest({str(index): row for index, row in enumerate(rows)})["digest"])

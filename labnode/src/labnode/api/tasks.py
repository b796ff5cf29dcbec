# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/tasks and /cluster/tasks (pve-manager, API2/Tasks.pm)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from labnode.access.permissions import split_token
from labnode.errors import ApiError, ParamError
from labnode.route import Answer, Ctx, route
from labnode.schema.formats import split_list
from labnode.tasks import UNEXPECTED, Entry, Upid

_RECENT = 25


def _shown(entry: Entry) -> dict[str, object]:
    user, token = split_token(entry.upid.user)
    shown = {**entry.as_dict(), "user": user}
    return {**shown, "tokenid": token} if token else shown


def _owns(ctx: Ctx, entry: Entry) -> bool:
    """Tokens see their own tasks, users theirs and those of their tokens."""
    return ctx.user in (entry.upid.user, split_token(entry.upid.user)[0])


def status_kind(status: str | None) -> str:
    """ok, warning, unknown or error: what ``statusfilter`` calls an exit status."""
    if not status or status == UNEXPECTED:
        return "unknown"
    if status == "OK":
        return "ok"
    return "warning" if status.startswith("WARNINGS: ") else "error"


def _filter(ctx: Ctx) -> Callable[[Entry], bool]:
    params = ctx.params
    kinds = {"ok", "warning", "error", "unknown"}
    if params.get("errors"):
        kinds.discard("ok")
    elif "statusfilter" in params:
        kinds = {kind.lower() for kind in split_list(params["statusfilter"])}
    auditor = ctx.may(f"/nodes/{ctx.node.name}", ["Sys.Audit"])

    def wanted(entry: Entry) -> bool:
        upid = entry.upid
        tests = (
            params.get("userfilter", "").lower() in upid.user.lower(),
            auditor or _owns(ctx, entry),
            params.get("typefilter") in (None, upid.type),
            "vmid" not in params or upid.id == str(params["vmid"]),
            params.get("since", 0) <= upid.starttime <= params.get("until", upid.starttime),
            status_kind(entry.status) in kinds,
        )
        return all(tests)

    return wanted


@route("GET", "/nodes/{node}/tasks")
async def node_tasks(ctx: Ctx) -> Answer:
    """Tasks, newest first; ``total`` counts all that fit the filters. Without ``source`` only finished ones."""
    tasks, source = ctx.node.tasks, ctx.params.get("source", "archive")
    entries: list[Entry] = []
    if source in ("active", "all"):
        entries += tasks.active()
    if source in ("archive", "all"):
        entries += tasks.archive()
    wanted = _filter(ctx)
    chosen = [entry for entry in entries if wanted(entry)]
    start, limit = ctx.params.get("start", 0), ctx.params.get("limit", 50)
    rows = [_shown(entry) for entry in chosen[start : start + limit]]
    for row in rows:
        row.setdefault("status", "RUNNING")
    return Answer(rows, total=len(chosen))


@route("GET", "/cluster/tasks")
async def cluster_tasks(ctx: Ctx) -> list[dict[str, object]]:
    """The most recent tasks, running ones included."""
    entries: Iterable[Entry] = [*ctx.node.tasks.active(), *ctx.node.tasks.archive()]
    auditor = ctx.may("/", ["Sys.Audit"])
    rows = []
    for entry in [entry for entry in entries if auditor or _owns(ctx, entry)][:_RECENT]:
        row = _shown(entry)
        row.pop("pid"), row.pop("pstart")
        rows.append({**row, "saved": "1"} if entry.endtime is not None else row)
    return rows


def _entry(ctx: Ctx, *privs: str) -> Entry:
    text = ctx.params["upid"]
    try:
        Upid.parse(text)
    except ApiError:
        raise ParamError({"upid": "unable to parse worker upid"}) from None
    entry = ctx.node.tasks.get(text)
    if entry is None:
        raise ParamError({"upid": "no such task"})
    if not _owns(ctx, entry):
        ctx.check(f"/nodes/{ctx.node.name}", privs)
    return entry


@route("GET", "/nodes/{node}/tasks/{upid}")
async def task_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": "log"}, {"name": "status"}]


@route("GET", "/nodes/{node}/tasks/{upid}/status")
async def task_status(ctx: Ctx) -> dict[str, Any]:
    """Running or stopped, and the exit status once stopped."""
    entry = _entry(ctx, "Sys.Audit")
    shown = _shown(entry)
    shown.pop("endtime", None)
    if entry.endtime is None:
        return {**shown, "status": "running"}
    return {**shown, "status": "stopped", "exitstatus": entry.status}


@route("GET", "/nodes/{node}/tasks/{upid}/log")
async def task_log(ctx: Ctx) -> Answer:
    """Lines of the log from ``start``, 50 unless ``limit`` says otherwise; ``total`` is how many there are."""
    _entry(ctx, "Sys.Audit")
    if ctx.params.get("download"):
        raise ApiError("labnode does not offer task logs for download; read them with start and limit", 501)
    lines, total = ctx.node.tasks.log(ctx.params["upid"], ctx.params.get("start", 0), ctx.params.get("limit", 50))
    return Answer(lines, total=total)


@route("DELETE", "/nodes/{node}/tasks/{upid}")
async def stop_task(ctx: Ctx) -> None:
    """Interrupt a running task."""
    _entry(ctx, "Sys.Modify")
    ctx.node.tasks.cancel(ctx.params["upid"])

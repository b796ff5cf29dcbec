# SPDX-License-Identifier: GPL-3.0-or-later
"""/nodes/{node}/qemu/{vmid}/agent: the QEMU guest agent inside a running guest."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from labnode.errors import ApiError
from labnode.route import Ctx, Raw, route

AGENT = "/nodes/{node}/qemu/{vmid}/agent"
READ_LIMIT = 16 << 20
READ_CHUNK = 1 << 20
# commands without parameters, and how they are called
PLAIN = {
    "fsfreeze-freeze": "POST", "fsfreeze-status": "POST", "fsfreeze-thaw": "POST", "fstrim": "POST", "ping": "POST",
    "shutdown": "POST", "suspend-disk": "POST", "suspend-hybrid": "POST", "suspend-ram": "POST", "info": "GET",
    "get-fsinfo": "GET", "get-host-name": "GET", "get-memory-block-info": "GET", "get-memory-blocks": "GET",
    "get-osinfo": "GET", "get-time": "GET", "get-timezone": "GET", "get-users": "GET", "get-vcpus": "GET",
    "network-get-interfaces": "GET",
}  # fmt: skip
OTHERS = ("exec", "exec-status", "file-read", "file-write", "set-user-password")
# freezing and trimming file systems takes as long as it takes
SLOW = {"fsfreeze-freeze": 600.0, "fsfreeze-thaw": 60.0, "fstrim": 600.0}
SILENT = ("shutdown", "suspend-disk", "suspend-ram", "suspend-hybrid")


async def _available(ctx: Ctx) -> None:
    g, vmid = ctx.node.guests, ctx.params["vmid"]
    if "agent" not in g.load(vmid).main:
        raise ApiError("No QEMU guest agent configured")
    if not g.running(vmid):
        raise ApiError(f"VM {vmid} is not running")
    try:
        await g.machines.agent(vmid, "guest-ping", timeout=3.0)
    except ApiError:
        raise ApiError("QEMU guest agent is not running") from None


async def _command(ctx: Ctx, command: str, args: Mapping[str, Any] | None = None) -> Any:
    timeout = SLOW.get(command, 5.0)
    return await ctx.node.machines.agent(ctx.params["vmid"], f"guest-{command}", args, timeout=timeout)


async def _plain(ctx: Ctx, command: str) -> dict[str, Any]:
    await _available(ctx)
    try:
        return {"result": Raw(await _command(ctx, command))}
    except ApiError:
        if command in SILENT:  # the agent does not answer these when they work
            return {"result": None}
        raise


def _handler(command: str) -> Callable[[Ctx], Awaitable[dict[str, Any]]]:
    async def handler(ctx: Ctx) -> dict[str, Any]:
        return await _plain(ctx, command)

    return handler


for _name, _method in PLAIN.items():
    route(_method, f"{AGENT}/{_name}")(_handler(_name))


@route("GET", AGENT)
async def index(_ctx: Ctx) -> list[dict[str, str]]:
    """What the agent can be asked."""
    return [{"name": name} for name in sorted([*PLAIN, *OTHERS])]


@route("POST", AGENT)
async def any_command(ctx: Ctx) -> dict[str, Any]:
    """A command by its name."""
    return await _plain(ctx, ctx.params["command"])


@route("POST", f"{AGENT}/exec")
async def execute(ctx: Ctx) -> dict[str, Any]:
    """Start a program in the guest; its pid there."""
    argv = ctx.params.get("command") or []
    argv = list(argv) if isinstance(argv, list) else [argv]
    args: dict[str, Any] = {"capture-output": True}
    if argv:
        args.update(path=argv[0], arg=argv[1:])
    if "input-data" in ctx.params:
        args["input-data"] = base64.b64encode(ctx.params["input-data"].encode()).decode()
    if not argv and "input-data" not in ctx.params:
        raise ApiError("command or input-data (or both) required")
    await _available(ctx)
    found: dict[str, Any] = await _command(ctx, "exec", args)
    return found


@route("GET", f"{AGENT}/exec-status")
async def exec_status(ctx: Ctx) -> dict[str, Any]:
    """Whether a program has ended, how, and what it wrote."""
    await _available(ctx)
    found: dict[str, Any] = dict(await _command(ctx, "exec-status", {"pid": ctx.params["pid"]}))
    for key in ("out-data", "err-data"):
        if found.get(key):
            found[key] = base64.b64decode(found[key]).decode(errors="replace")
    return {key: int(value) if isinstance(value, bool) else value for key, value in found.items()}


@route("GET", f"{AGENT}/file-read")
async def file_read(ctx: Ctx) -> dict[str, Any]:
    """Part of a file in the guest, ``truncated`` when there is more."""
    p = ctx.params
    await _available(ctx)
    handle = await _command(ctx, "file-open", {"path": p["file"], "mode": "r"})
    try:
        if p.get("offset"):
            await _command(ctx, "file-seek", {"handle": handle, "offset": p["offset"], "whence": "set"})
        data, eof = await _read(ctx, handle, p.get("count", READ_LIMIT))
    finally:
        await _command(ctx, "file-close", {"handle": handle})
    content = data.decode(errors="replace") if p.get("decode", True) else base64.b64encode(data).decode()
    found = {"content": content, "bytes-read": len(data)}
    return found if eof else {**found, "truncated": 1}


async def _read(ctx: Ctx, handle: int, limit: int) -> tuple[bytes, bool]:
    data, eof = b"", False
    while len(data) < limit and not eof:
        count = min(limit - len(data), READ_CHUNK)
        part = await _command(ctx, "file-read", {"handle": handle, "count": count})
        data += base64.b64decode(part["buf-b64"])
        eof = bool(part.get("eof"))
    return data, eof


@route("POST", f"{AGENT}/file-write")
async def file_write(ctx: Ctx) -> None:
    """Write a file in the guest."""
    content = ctx.params["content"]
    if ctx.params.get("encode", True):
        content = base64.b64encode(content.encode()).decode()
    await _available(ctx)
    handle = await _command(ctx, "file-open", {"path": ctx.params["file"], "mode": "wb"})
    try:
        await _command(ctx, "file-write", {"handle": handle, "buf-b64": content})
    finally:
        await _command(ctx, "file-close", {"handle": handle})


@route("POST", f"{AGENT}/set-user-password")
async def set_password(ctx: Ctx) -> dict[str, Any]:
    """Set the password of a user in the guest."""
    p = ctx.params
    await _available(ctx)
    password = base64.b64encode(p["password"].encode()).decode()
    args = {"username": p["username"], "password": password, "crypted": bool(p.get("crypted"))}
    return {"result": await _command(ctx, "set-user-password", args)}

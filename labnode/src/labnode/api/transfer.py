# SPDX-License-Identifier: GPL-3.0-or-later
"""Upload to a storage, and download by the node itself (pve-storage, API2/Storage/Status.pm)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labnode.api.storage import known_storage
from labnode.body import Upload
from labnode.errors import ParamError
from labnode.route import Ctx, route
from labnode.storage.names import upload_name
from labnode.storage.transfer import Arrival, check_arrival, download, metadata, place
from labnode.tasks import Task


def _arrival(ctx: Ctx) -> Arrival:
    given, algorithm = ctx.params.get("checksum"), ctx.params.get("checksum-algorithm")
    return Arrival(
        known_storage(ctx),
        ctx.params["content"],
        upload_name(ctx.params["content"], ctx.params["filename"]),
        (algorithm, given) if algorithm and given else None,
        ctx.params.get("compression"),
    )


@route("POST", "/nodes/{node}/storage/{storage}/upload")
async def upload(ctx: Ctx) -> str:
    """Store a file that came with the request; the checksum is compared before the file gets its name."""
    if not isinstance(ctx.params.get("tmpfilename"), Upload):
        raise ParamError({"filename": "the request carries no file; send it as multipart/form-data"})
    arrival, source = _arrival(ctx), Path(ctx.params["tmpfilename"])
    target = check_arrival(ctx.node.storage, arrival)

    async def worker(task: Task) -> None:
        task.log(f"starting file import from: {source}")
        task.log(f"target node: {ctx.node.name}")
        task.log(f"target file: {target}")
        task.log(f"file size is: {source.stat().st_size}")
        await place(ctx.node.storage, arrival, source, task.log)
        task.log("finished file import successfully")

    return ctx.start_task("imgcopy", "", worker)


@route("POST", "/nodes/{node}/storage/{storage}/download-url")
async def download_url(ctx: Ctx) -> str:
    """Let the node fetch a file; one that is there is never replaced."""
    arrival, url = _arrival(ctx), ctx.params["url"]
    check_arrival(ctx.node.storage, arrival)
    verify = ctx.params.get("verify-certificates", True)

    async def worker(task: Task) -> None:
        await download(ctx.node.storage, arrival, url, verify=verify, log=task.log)
        task.log("download finished successfully")

    return ctx.start_task("download", arrival.filename, worker)


@route("GET", "/nodes/{node}/query-url-metadata")
async def query_url(ctx: Ctx) -> dict[str, Any]:
    """Name, size and type of what is behind a URL."""
    return {**await metadata(ctx.params["url"], verify=ctx.params.get("verify-certificates", True))}

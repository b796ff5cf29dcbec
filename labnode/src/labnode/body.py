# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of a request: query, form, JSON or multipart with a file that goes straight to disk."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, web

from labnode.errors import ApiError

_CHUNK = 1 << 20


class Upload(str):
    """The path of a file that labnode itself has stored, which a client cannot forge: it can only send plain text."""


async def read_params(request: web.Request, tmp_dir: Path) -> dict[str, Any]:
    """Raw parameters: text, or a list of texts for one that was given several times.

    A file part arrives as ``tmpfilename`` (its path below ``tmp_dir``) and ``filename`` (the name the client gave).
    Raises ApiError 400 for a body that cannot be read.
    """
    pairs = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)
    if request.method in ("POST", "PUT", "DELETE") and request.body_exists:
        kind = request.content_type
        if kind == "multipart/form-data":
            return {**_collect(pairs), **await _multipart(request, tmp_dir)}
        text = await request.text()
        if kind == "application/json" and text:
            return {**_collect(pairs), **_json_params(text)}
        pairs += parse_qsl(text, keep_blank_values=True)
    return _collect(pairs)


def _collect(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _json_params(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as err:
        raise ApiError(f"request body is not valid JSON: {err}", 400) from err
    if not isinstance(data, dict):
        raise ApiError("request body is not a JSON object with parameters", 400)
    return {name: _json_value(value) for name, value in data.items() if value is not None}


def _json_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else json.dumps(value)


async def _multipart(request: web.Request, tmp_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader) or not part.name:
                raise ApiError("multipart body has a part that is no form field", 400)
            if part.filename is None:
                found[part.name] = (await part.read()).decode()
            else:
                found["filename"] = part.filename
                found["tmpfilename"] = Upload(await _save(part, tmp_dir))
    except BaseException:
        discard_upload(found)
        raise
    return found


async def _save(part: BodyPartReader, tmp_dir: Path) -> Path:
    tmp_dir.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix="upload-", dir=tmp_dir)
    try:
        with os.fdopen(fd, "wb") as out:
            pending = bytearray()
            while chunk := await part.read_chunk(_CHUNK):
                pending += chunk
                if len(pending) >= _CHUNK:
                    await asyncio.to_thread(_drain, out, pending)
            await asyncio.to_thread(_drain, out, pending)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _drain(out: IO[bytes], pending: bytearray) -> None:
    out.write(pending)
    pending.clear()


def discard_upload(params: dict[str, Any]) -> None:
    """Delete the uploaded file of a request that failed; never a path that the client itself has named."""
    if isinstance(upload := params.get("tmpfilename"), Upload):
        Path(upload).unlink(missing_ok=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said where QEMU does not answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from pathlib import Path

import pytest

from labnode.errors import ApiError
from labnode.machine.qmp import connect


async def test_a_monitor_that_says_nothing_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    path = tmp_path / "qmp"
    async with await asyncio.start_unix_server(silent, path):
        began = time.monotonic()
        with pytest.raises(ApiError, match=r"VM 100 qmp socket - timeout after 0\.2 s"):
            async with connect(100, path, 0.2):
                pass
        assert time.monotonic() - began >= 0.2
        gone.set()


@pytest.mark.parametrize("moment", ["greeting", "negotiation"])
async def test_an_event_that_comes_first_is_no_failure(tmp_path: Path, moment: str) -> None:
    clients = itertools.count(1)

    async def qemu(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def say(message: dict[str, object]) -> None:
            writer.write(json.dumps(message).encode() + b"\r\n")

        event = {"event": "RESET", "data": {"guest": True}, "timestamp": {"seconds": 1, "microseconds": 1}}
        first = next(clients) == 1
        if first and moment == "greeting":
            say(event)
        version = {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}
        say({"QMP": {"version": version, "capabilities": ["oob"]}})
        while line := await reader.read(1 << 16):
            if first:
                say(event)
            request = json.loads(line)
            say({"return": {}} | ({"id": request["id"]} if "id" in request else {}))
        writer.close()

    path = tmp_path / "qmp"
    async with await asyncio.start_unix_server(qemu, path), connect(100, path, 5) as monitor:
        assert await monitor("query-status") == {}
    assert next(clients) == 3

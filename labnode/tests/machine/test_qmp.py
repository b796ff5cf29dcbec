# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said where QEMU does not answer."""

from __future__ import annotations

import asyncio
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

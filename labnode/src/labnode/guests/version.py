# SPDX-License-Identifier: GPL-3.0-or-later
"""The installed QEMU's version."""

from __future__ import annotations

import asyncio
import re

from labnode.errors import ApiError

_known: dict[str, str] = {}


async def qemu_version(program: str = "qemu-system-x86_64") -> str:
    """``10.0.2``; asked of the program once. ApiError when it is not installed."""
    if program not in _known:
        try:
            process = await asyncio.create_subprocess_exec(
                program, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise ApiError(f"'{program}' is not installed - install the package qemu-system-x86") from None
        text = (await process.communicate())[0].decode(errors="replace")
        match = re.search(r"version (\d+(?:\.\d+)+)", text)
        if not match:
            raise ApiError(f"'{program} --version' gave no version")
        _known[program] = match[1]
    return _known[program]

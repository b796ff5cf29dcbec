# SPDX-License-Identifier: GPL-3.0-or-later
"""The hook script of a guest: a snippet run with the guest's number and a phase.

Phases are pre-start, post-start, pre-stop and post-stop, as Proxmox VE has them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests.configfile import GuestConfig
from labnode.guests.out import Out
from labnode.guests.settings import hookscript

if TYPE_CHECKING:
    from labnode.guests.service import GuestService


async def run(g: GuestService, vmid: int, conf: GuestConfig, phase: str, out: Out) -> None:
    """Run the guest's hook script, its words into the log. It can keep a guest from starting; else it only warns."""
    volid = conf.main.get("hookscript")
    if not volid:
        return
    try:
        await _run([hookscript(g, volid), str(vmid), phase], out)
    except (ApiError, OSError) as error:
        text = f"hookscript error for {vmid} on {phase}: {error}"
        if phase == "pre-start":
            raise ApiError(text) from error
        out.warn(text)


async def _run(argv: list[str], out: Out) -> None:
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        text = (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    for line in text.splitlines():
        out.log(line)
    if process.returncode:
        raise ApiError(f"command '{' '.join(argv)}' failed: exit code {process.returncode}")

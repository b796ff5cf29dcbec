# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to QEMU: QMP through the qemu.qmp library, and the guest agent's line protocol.

A QMP socket serves one client, so a connection is held for one exchange (or one `async with`) only.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from qemu.qmp import ConnectError, ExecuteError, QMPClient, QMPError
from qemu.qmp.qmp_client import GreetingError, NegotiationError

from labnode.errors import ApiError

AGENT_DOWN = "QEMU guest agent is not running"
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)
_sync = itertools.count(1)


class Monitor:
    """An open QMP connection of guest `vmid`."""

    def __init__(self, vmid: int, client: QMPClient, timeout: float) -> None:
        self.vmid = vmid
        self.client = client
        self.timeout = timeout

    async def __call__(self, command: str, /, **args: Any) -> Any:
        """One command; ApiError "VM 100 qmp command 'x' failed - ..."."""
        arguments = {key if key in RAW else key.replace("_", "-"): value for key, value in args.items()}
        try:
            return await asyncio.wait_for(self.client.execute(command, arguments or None), self.timeout)
        except ExecuteError as err:
            raise ApiError(f"VM {self.vmid} qmp command '{command}' failed - {err}") from None
        except TimeoutError:
            raise ApiError(f"VM {self.vmid} qmp command '{command}' failed - got timeout") from None
        except (QMPError, OSError, asyncio.IncompleteReadError) as err:
            raise ApiError(f"VM {self.vmid} qmp command '{command}' failed - {err or 'connection lost'}") from None


# arguments whose name has an underscore in QMP itself
RAW = frozenset(
    {
        "bps_rd",
        "bps_wr",
        "iops_rd",
        "iops_wr",
        "bps_max",
        "bps_rd_max",
        "bps_wr_max",
        "iops_max",
        "iops_rd_max",
        "iops_wr_max",
        "bps_max_length",
        "bps_rd_max_length",
        "bps_wr_max_length",
        "iops_max_length",
        "iops_rd_max_length",
        "iops_wr_max_length",
        "iops_size",
    }
)


@contextlib.asynccontextmanager
async def connect(vmid: int, path: Path, timeout: float = 30.0) -> AsyncIterator[Monitor]:
    """A QMP connection for the time of the `async with`; ApiError when QEMU does not answer within `timeout` seconds
    each time: an emulated guest on a busy machine keeps QEMU from answering for some seconds."""
    try:
        client = await asyncio.wait_for(_negotiated(vmid, path), timeout)
    except TimeoutError:
        raise ApiError(f"unable to connect to VM {vmid} qmp socket - timeout after {timeout:g} s") from None
    except (QMPError, OSError) as err:
        raise ApiError(f"unable to connect to VM {vmid} qmp socket - {err}") from None
    try:
        yield Monitor(vmid, client, timeout)
    finally:
        with contextlib.suppress(QMPError, OSError, EOFError, asyncio.IncompleteReadError):
            await client.disconnect()


async def _negotiated(vmid: int, path: Path) -> QMPClient:
    """A client whose negotiation went well. QEMU counts a client as ready before its answer to `qmp_capabilities` is
    out, and the next one for a moment as the one before it, so an event of that moment (a guest's reset, a device that
    left, a job) comes first, which the library refuses."""
    while True:
        client = QMPClient(f"vm{vmid}")
        try:
            await client.connect(str(path))
        except ConnectError as err:
            if not isinstance(err.exc, (GreetingError, NegotiationError)):
                raise
            await asyncio.sleep(0.01)
        else:
            return client


async def agent(path: Path, command: str, args: Mapping[str, Any] | None, timeout: float) -> Any:
    """One guest agent command, after a `guest-sync-delimited` that drops what an earlier client left behind.

    ApiError "QEMU guest agent is not running" when the sync gets no answer, "Agent error: ..." when the agent refuses.
    """
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_unix_connection(str(path), limit=1 << 24), timeout)
    except (OSError, TimeoutError):
        raise ApiError(AGENT_DOWN) from None
    try:
        await asyncio.wait_for(_synchronise(reader, writer), min(timeout, 3.0))
        request: dict[str, Any] = {"execute": command}
        if args:
            request["arguments"] = dict(args)
        writer.write(json.dumps(request).encode() + b"\n")
        await writer.drain()
        reply = json.loads(await asyncio.wait_for(reader.readline(), timeout))
    except (OSError, TimeoutError, EOFError, ValueError, asyncio.IncompleteReadError):
        raise ApiError(AGENT_DOWN) from None
    finally:
        writer.close()
    if "error" in reply:
        raise ApiError(f"Agent error: {reply['error'].get('desc', reply['error'])}")
    return reply.get("return")


async def _synchronise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = next(_sync) + 0x10000000
    request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
    # a stray 0xFF makes the agent drop half a request that an earlier client left; its answer has one in front
    writer.write(b"\xff" + json.dumps(request).encode() + b"\n")
    await writer.drain()
    while True:
        await reader.readuntil(b"\xff")
        line = (await reader.readline()).strip(b"\xff\r\n ")
        with contextlib.suppress(ValueError):
            if json.loads(line).get("return") == number:
                return

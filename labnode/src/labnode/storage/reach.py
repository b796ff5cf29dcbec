# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the server of a network storage answers at all."""

from __future__ import annotations

import asyncio

from labnode.errors import ApiError
from labnode.storage.model import Definition

PORTS = {"nfs": 2049, "cifs": 445, "pbs": 8007, "esxi": 443}


async def check_online(definition: Definition, timeout: float = 2.0) -> None:
    """ApiError "storage 'x' is not online" when nothing listens at the server; local kinds of storage always pass."""
    if definition.type not in PORTS:
        return
    host = definition.options.get("server", "")
    port = int(definition.options.get("port", PORTS[definition.type]))
    try:
        _reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout)
    except (OSError, TimeoutError) as err:
        reason = str(err) or f"no answer within {timeout:g} s"
        raise ApiError(
            f"storage '{definition.storeid}' is not online - cannot connect to {host}:{port} ({reason})"
        ) from None
    writer.close()

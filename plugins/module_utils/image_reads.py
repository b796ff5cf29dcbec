# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module image asks of a node before it knows what to do. Reads only, through the seam that it is handed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from .core.images import check_storage, content_of, file_name
from .core.state import State
from .core.steps import Failure, Missing
from .reads import choose_node


def locate(api: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Where the image is to be, whether the storage can take it, and how large it is to be. Raises Missing or Failure.

    Adds ``_path`` (of the storage), ``_content``, ``_volid``, ``_there`` (as ``look``) and ``_size`` (None: unknown).
    """
    name = file_name(params)
    content = content_of(name, params["content"])
    node = quote(choose_node(api, params["node"]), safe="")
    path = f"/nodes/{node}/storage/{quote(params['storage'], safe='')}"
    facts = {"_path": path, "_content": content, "_volid": f"{params['storage']}:{content}/{name}", "_size": None}
    status = api.find(f"{path}/status")
    if status is None and params["state"] == "present":
        raise Missing(f"there is no storage '{params['storage']}'. Define it with pvelab.proxmox.storage.")
    there = look(api, {**params, **facts}) if status else None
    if params["state"] == "absent":
        return {**facts, "_there": there}
    size = _size(api, params, node, there)
    if there is None or params["force"]:
        check_storage(params["storage"], content, status, size)
    return {**facts, "_there": there, "_size": size}


def _size(api: Any, params: Mapping[str, Any], node: str, there: State | None) -> int | None:
    """What the file is to measure; None where it is not known. A checksum is looked at when the file is to be sent."""
    if params["src"]:
        replacing = there is None or params["force"]
        file = api.file(params["src"], params["checksum_algorithm"] if params["checksum"] and replacing else None)
        if file.checksum and file.checksum != params["checksum"].lower():
            raise Failure(f"{params['src']} has the checksum {file.checksum}, and it should be {params['checksum']}.")
        return None if params["compare"] == "name" else int(file.size)
    if params["compare"] != "size" or params["compression"]:
        return None
    asked = {"url": params["url"], "verify-certificates": int(params["verify_certificates"])}
    size = api.get(f"/nodes/{node}/query-url-metadata", **asked).get("size")
    return None if size is None else int(size)


def look(api: Any, params: Mapping[str, Any]) -> State | None:
    """The image as the storage lists it: {volid, size, format}; None when it is not there. Raises Failure."""
    if params["state"] == "absent" and "_there" in params and params["_there"] is None:
        return None
    listed = api.get(f"{params['_path']}/content", content=params["_content"])
    found = next((v for v in listed if v["volid"] == params["_volid"]), None)
    return {"volid": found["volid"], "size": int(found["size"]), "format": found.get("format", "")} if found else None

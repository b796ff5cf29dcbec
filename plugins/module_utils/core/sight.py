# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user without privileges does not see, and what Proxmox VE does not name when it refuses. Pure.

Lists of the API leave out what the user may not see, without a word: a guest that is there looks like one that is not,
and a module would make it once more. So an empty list is only believed of a user who would see something in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Blank:
    """A list that shows nothing: ``what`` is not seen by those who hold none of ``privileges``, as on ``where``."""

    what: str
    privileges: tuple[str, ...]
    where: str

    def cause(self, user: str) -> str:
        """What to say to a user who holds none of them anywhere."""
        return (
            f"{user} lacks the privilege {' or '.join(self.privileges)} on {self.where}. Without it the API hides "
            f"{self.what}, and what is not seen must not be taken for missing"
        )


def _any(_row: Row) -> bool:
    return True


def _is_guest(row: Row) -> bool:
    return row.get("type") in ("qemu", "lxc")


def _is_bridge(row: Row) -> bool:
    return row.get("type") in ("bridge", "OVSBridge")


_GUESTS = Blank("every guest", ("VM.Audit",), "/vms")
_STORAGES = Blank("every storage", ("Datastore.Audit", "Datastore.AllocateSpace"), "/storage")
_POOLS = Blank("every pool", ("Pool.Audit",), "/pool")
_BRIDGES = Blank("every bridge", ("SDN.Audit", "SDN.Use"), "/sdn/zones/localnetwork")

# Facts from pve-manager (API2/Cluster.pm, Pool.pm, Network.pm), qemu-server (API2/Qemu.pm), pve-container (API2/LXC.pm)
# and pve-storage (API2/Storage/Config.pm, Status.pm). The second part says which rows the privilege is for.
_LISTS: tuple[tuple[re.Pattern[str], Callable[[Row], bool], Blank], ...] = (
    (re.compile(r"/cluster/resources"), _is_guest, _GUESTS),
    (re.compile(r"/nodes/[^/]+/(?:qemu|lxc)"), _any, _GUESTS),
    (re.compile(r"/storage|/nodes/[^/]+/storage"), _any, _STORAGES),
    (re.compile(r"/pools"), _any, _POOLS),
    (re.compile(r"/nodes/[^/]+/network"), _is_bridge, _BRIDGES),
)

# Where one of several privileges is enough, the API says no more than that the check failed.
_UNNAMED = (
    (re.compile(r"GET /nodes/([^/]+)/query-url-metadata"), r"Sys.AccessNetwork on /nodes/\1"),
    (re.compile(r"POST /nodes/([^/]+)/storage/[^/]+/download-url"), r"Sys.AccessNetwork on /nodes/\1"),
    (re.compile(r"POST /nodes/[^/]+/qemu(?:/\d+/clone)?"), r"VM.Allocate on /vms, or on the pool of the new guest"),
)


def blank(path: str, params: Mapping[str, Any], data: Any) -> Blank | None:
    """What does not show in the answer to a GET of ``path`` and may be hidden; None where something shows."""
    if not isinstance(data, Sequence) or isinstance(data, str) or params.get("type") not in (None, "vm", "any_bridge"):
        return None
    for pattern, concerned, found in _LISTS:
        if pattern.fullmatch(path):
            # What has no known form is not judged.
            shows = any(not isinstance(row, Mapping) or concerned(row) for row in data)
            return None if shows else found
    return None


def held(granted: Any) -> frozenset[str]:
    """The answer of /access/permissions ({path: {privilege: propagates}}) → all privileges, wherever they are held."""
    if not isinstance(granted, Mapping):
        return frozenset()
    return frozenset(privilege for found in granted.values() for privilege in found)


def unnamed(request: str) -> str:
    """What a request ("POST /nodes/pve1/…") needs that is refused without a name; "" where that is not known."""
    found = ((pattern.fullmatch(request), text) for pattern, text in _UNNAMED)
    return next((match.expand(text) for match, text in found if match), "")

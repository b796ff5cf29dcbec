# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the API seam share: certificates, and an Api whose pauses take no time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fakepve.certs import make_cert

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_https import HttpsWire
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_options import settings, shown_fingerprint
from ansible_collections.pvelab.proxmox.tests.unit.plugins.module_utils.api_fakes import Clock

__all__ = ["PASSWORD", "SECRET", "Certificate", "Clock", "api_for", "many_for", "upid"]

PASSWORD = "correct-horse-battery"
SECRET = "11111111-2222-3333-4444-555555555555"


class Certificate:
    """A self-signed certificate for 127.0.0.1 and localhost (and not for other names)."""

    def __init__(self, folder: Path, name: str = "node") -> None:
        certificate, key, der = make_cert(str(folder), name=name)
        self.path, self.key = Path(certificate), Path(key)
        self.pin = shown_fingerprint(hashlib.sha256(der).hexdigest())


@contextmanager
def api_for(host: str, clock: Clock | None = None, *, read_only: bool = False, **params: Any) -> Iterator[Api]:
    """An Api with a token unless other credentials are given."""
    clock = clock or Clock()
    if not {"api_password", "api_token_id"} & set(params):
        params.update(api_token_id="root@pam!ci", api_token_secret=SECRET)
    options = settings({"api_host": host, **params}, have_pvesh=False)
    with Api(HttpsWire(options, clock), options, read_only=read_only, clock=clock, pause=clock.pause) as api:
        yield api


def many_for(host: str, **params: Any) -> Api:
    """An Api for several threads."""
    return Api.for_many({"api_host": host, **params}, read_only=True)


def upid(kind: str, id_: str, start: int, *, node: str = "pve1", user: str = "root@pam!ci", pid: int = 1) -> str:
    return f"UPID:{node}:{pid:08X}:00000010:{start:08X}:{kind}:{id_}:{user}:"

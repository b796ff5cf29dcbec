# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on a storage: what their files may be called, and what a storage says of them. Pure.

The facts are those of pve-storage 9.1 (PVE/Storage.pm, PVE/API2/Storage/Status.pm).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from .propstring import UNITS
from .steps import Failure, Missing

CONTENT = ("iso", "import", "vztmpl")
ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
_ENDINGS = {
    "iso": re.compile(r".+\.(iso|img)", re.IGNORECASE),
    "import": re.compile(r"[a-zA-Z0-9_.+=-]+\.(ova|qcow2|raw|vmdk)"),
    "vztmpl": re.compile(r".+\.tar(\.(gz|xz|zst|bz2))?", re.IGNORECASE),
}
_SHOWN = {
    "iso": ".iso or .img",
    "import": ".qcow2, .raw, .vmdk or .ova",
    "vztmpl": ".tar, .tar.gz, .tar.xz, .tar.zst or .tar.bz2",
}


def file_name(params: Mapping[str, Any]) -> str:
    """The name on the storage: the one that is asked for, or that of the source. Raises Failure.

    The node replaces every character but letters, digits, dot, - and _ (normalize_content_filename), so it is done
    here, too: what is looked for has to be what will be there.
    """
    named = params["filename"] or params["src"] or unquote(urlsplit(params["url"] or "").path)
    name = re.sub(r"[^a-zA-Z0-9_.-]", "_", re.split(r"[/\\]", named)[-1])
    if not name or len(name) > 255:
        raise Failure(f"'{named}' gives no file name of 1 to 255 characters. Say what to call the file with filename.")
    return name


def content_of(name: str, asked: str | None) -> str:
    """The content type of a file: the one asked for, or what its ending says. Raises Failure if they do not fit."""
    fitting = [kind for kind in CONTENT if _ENDINGS[kind].fullmatch(name)]
    if asked is None and fitting:
        return fitting[0]
    if asked in fitting:
        return str(asked)
    ending = _SHOWN[asked] if asked else "; ".join(f"{_SHOWN[k]} ({k})" for k in CONTENT)
    raise Failure(f"'{name}' does not end as {asked or 'an image'} has to: {ending}. Set another filename.")


def check_storage(storage: str, content: str, status: Mapping[str, Any], needs: int | None) -> None:
    """Raises Missing when a storage cannot take a file of ``needs`` bytes (None: unknown) of this content.

    ``status`` is GET /nodes/NODE/storage/STORAGE/status. An earlier task may well be about to change it.
    """
    kinds = re.split(r"[,;\s]+", str(status.get("content") or ""))
    if not int(status.get("enabled", 1)):
        raise Missing(f"storage '{storage}' is disabled. Enable it with pvelab.proxmox.storage.")
    if not int(status.get("active", 1)):
        raise Missing(f"storage '{storage}' is not active on this node. Look whether its path or server is there.")
    if content not in kinds:
        raise Missing(
            f"storage '{storage}' does not take {content}, only {', '.join(sorted(kinds))}. "
            "Add it to its content with pvelab.proxmox.storage, or use another storage."
        )
    free = int(status.get("avail") or 0)
    if needs is not None and needs > free:
        raise Missing(
            f"storage '{storage}' has {human(free)} left, and the file takes {human(needs)}. "
            "Make room on it or use another storage."
        )


def human(size: int) -> str:
    """Bytes as people read them: 850 B, 36.4 MiB, 2 GiB."""
    unit = next((u for u in ("P", "T", "G", "M", "K") if size >= UNITS[u]), "")
    return f"{round(size / UNITS[unit], 1):g} {unit + 'i' if unit else ''}B"

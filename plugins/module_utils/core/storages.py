# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage definitions: which keys each type has, which of them are fixed, and the canonical form of their values.

The facts are those of pve-storage 9.1 (options, plugindata and properties of PVE/Storage/*Plugin.pm). A key is named as
in storage.cfg; its option has "_" for "-".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .propstring import parse, parse_bool, render
from .state import State, is_cleared
from .steps import MASK, Failure

CONTENT = ("images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none")
PRUNE = ("keep-last", "keep-hourly", "keep-daily", "keep-weekly", "keep-monthly", "keep-yearly")
LIMITS = ("default", "restore", "migration", "move", "clone")
SECRETS = ("password", "encryption-key", "master-pubkey")
"""Write-only keys. Of a password the node shows nothing; of the others that they are set (PBSPlugin on_add_hook)."""

FALSE, TRUE = "false unless set", "true unless set"
KINDS: dict[str, str] = {
    "base": "str", "blocksize": "str", "bwlimit": "limits", "content": "names", "content-dirs": "map",
    "create-base-path": TRUE, "create-subdirs": TRUE, "datastore": "str", "disable": FALSE, "domain": "str",
    "encryption-key": "str", "export": "str", "fingerprint": "hex", "format": "str", "is_mountpoint": "mountpoint",
    "master-pubkey": "str", "max-protected-backups": "int", "mkdir": TRUE, "mountpoint": "str", "namespace": "str",
    "nocow": FALSE, "nodes": "names", "options": "str", "password": "str", "path": "str", "pool": "str", "port": "int",
    "preallocation": "str", "prune-backups": "prune", "saferemove": FALSE, "saferemove-stepsize": "int",
    "saferemove_throughput": "str", "server": "str", "share": "str", "shared": FALSE, "smbversion": "str",
    "snapshot-as-volume-chain": FALSE, "sparse": FALSE, "subdir": "str", "tagged_only": FALSE, "thinpool": "str",
    "username": "str", "vgname": "str",
}  # fmt: skip


@dataclass(frozen=True)
class Type:
    """The keys of one storage type: ``required`` to create it, ``fixed`` afterwards (those too), and all the others."""

    required: tuple[str, ...]
    others: tuple[str, ...]
    fixed: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Everything that a definition of this type may hold."""
        return frozenset({*self.required, *self.others, *self.fixed, "nodes", "disable", "content"})


_BACKUPS = ("prune-backups", "max-protected-backups")
_LAYOUT = ("mkdir", "create-base-path", "create-subdirs")
_FILES = (*_BACKUPS, *_LAYOUT, "content-dirs", "format", "preallocation", "bwlimit")
_CHAIN = "snapshot-as-volume-chain"
_WIPE = ("saferemove", "saferemove-stepsize", "saferemove_throughput")

TYPES: dict[str, Type] = {
    "btrfs": Type(
        ("path",), (*_BACKUPS, *_LAYOUT, "shared", "format", "preallocation", "is_mountpoint", "nocow")
    ),
    "cifs": Type(
        ("server", "share"),
        (*_FILES, "subdir", "username", "password", "domain", "smbversion", "options"),
        ("path", _CHAIN),
    ),
    "dir": Type(("path",), (*_FILES, "shared", "is_mountpoint"), (_CHAIN,)),
    "lvm": Type(("vgname",), ("shared", *_WIPE, "tagged_only", "bwlimit", _CHAIN), ("base",)),
    "lvmthin": Type(("vgname", "thinpool"), ("bwlimit",)),
    "nfs": Type(("server", "export"), (*_FILES, "options"), ("path", _CHAIN)),
    "pbs": Type(
        ("server", "datastore"),
        (*_BACKUPS, "namespace", "port", "username", "password", "encryption-key", "master-pubkey", "fingerprint"),
    ),
    "zfspool": Type(("pool",), ("blocksize", "sparse", "bwlimit", "mountpoint")),
}  # fmt: skip


def option(key: str) -> str:
    """The option that manages a key: "prune-backups" → "prune_backups"."""
    return key.replace("-", "_")


def wanted(params: Mapping[str, Any]) -> State:
    """The options as a state. Raises Failure for a value that Proxmox VE cannot store."""
    state: State = {"type": params["type"]}
    for key in KINDS:
        given = params[option(key)]
        state[key] = None if given is None else canonical(key, given)
    if state["content"] == []:
        raise Failure("content is empty. Name what the storage is to hold, or 'none' (types dir, btrfs and pbs).")
    return state


def observed(entry: Mapping[str, Any], *, resend_secrets: bool) -> State:
    """What GET /storage says of one definition, as a state. With ``resend_secrets`` secrets count as not there."""
    kind = str(entry["type"])
    known = TYPES[kind].keys if kind in TYPES else frozenset({"disable", "shared"})
    state: State = {k: canonical(k, v) if k in KINDS else v for k, v in entry.items() if k != "storage"}
    for key in known - state.keys():
        if KINDS[key] in (FALSE, TRUE):
            state[key] = KINDS[key] == TRUE
    if "is_mountpoint" in known:
        state.setdefault("is_mountpoint", "no")
    for key in SECRETS:
        if resend_secrets:
            state.pop(key, None)
        elif key in state or (key == "password" and key in known):
            state[key] = MASK
    return state


def canonical(key: str, value: Any) -> Any:
    """One value, from an option or from the API, in the form in which the two compare. Raises Failure."""
    try:
        return _CANONICAL[KINDS[key]](value)
    except ValueError as error:
        raise Failure(f"{option(key)}: {error}.") from error


def rendered(key: str, value: Any) -> Any:
    """A canonical value as the API takes it."""
    if KINDS[key] in (FALSE, TRUE):
        return int(value)
    if KINDS[key] == "names":
        return ",".join(value)
    if KINDS[key] in ("prune", "limits", "map"):
        return render(value, order=(*PRUNE, *LIMITS))
    return value


def check_create(state: State) -> None:
    """Raises Failure when a definition cannot be created because something is missing or does not belong."""
    if state["type"] is None:
        raise Failure(f"there is no such storage. To create it, name its type ({', '.join(sorted(TYPES))}).")
    check_keys(state["type"], state)
    if state["password"] and not state["username"]:
        raise Failure("password is given without username, so it would be of no use. Name the user.")
    lacking = [option(k) for k in TYPES[state["type"]].required if is_cleared(state[k])]
    if lacking:
        raise Failure(f"a storage of type {state['type']} needs {' and '.join(lacking)}.")


def check_keys(kind: str, state: State) -> None:
    """Raises Failure for options that this type of storage does not have."""
    if kind not in TYPES:
        return
    foreign = sorted(option(k) for k, v in state.items() if k in KINDS and v is not None and k not in TYPES[kind].keys)
    if foreign:
        raise Failure(f"a storage of type {kind} has no {' and no '.join(foreign)}. Leave that out.")


def check_fixed(kind: str, changes: Mapping[str, Any]) -> None:
    """Raises Failure when a key is to change that is settled for good when the definition is created."""
    spec = TYPES.get(kind, Type((), ()))
    for key in sorted(changes):
        if key == "type" or key in (*spec.required, *spec.fixed):
            before = changes[key].before
            raise Failure(
                f"{option(key)} is {'not set' if is_cleared(before) else repr(before)} and cannot be changed to "
                f"{changes[key].after!r}. Remove the definition with state: absent, which leaves the data alone, "
                "and create it again."
            )


def _names(value: Any) -> list[str]:
    parts = re.split(r"[,;\s]+", value) if isinstance(value, str) else value
    return sorted({str(p).strip() for p in parts} - {""})


def _prune(value: Any) -> dict[str, int | bool]:
    given = parse(value) if isinstance(value, str) else {k.replace("_", "-"): v for k, v in value.items()}
    kept: dict[str, int | bool] = {k: int(given[k]) for k in PRUNE if given.get(k) is not None}
    if given.get("keep-all") is not None and parse_bool(given["keep-all"]):
        if any(kept.values()):
            raise ValueError("keep_all cannot go together with the other ways to keep backups")
        return {"keep-all": True}
    return {k: n for k, n in kept.items() if n}


def _limits(value: Any) -> dict[str, float | int]:
    given = parse(value) if isinstance(value, str) else value
    numbers = {k: float(given[k]) for k in LIMITS if given.get(k) is not None}
    return {k: int(n) if n.is_integer() else n for k, n in numbers.items()}


def _map(value: Any) -> dict[str, str]:
    return parse(value) if isinstance(value, str) else {str(k): str(v) for k, v in value.items() if v is not None}


def _mountpoint(value: Any) -> str:
    try:
        return "yes" if parse_bool(value) else "no"
    except ValueError:
        return str(value)


_CANONICAL: dict[str, Callable[[Any], Any]] = {
    "str": str,
    "hex": lambda value: str(value).upper(),
    "int": int,
    FALSE: parse_bool,
    TRUE: parse_bool,
    "names": _names,
    "map": _map,
    "prune": _prune,
    "limits": _limits,
    "mountpoint": _mountpoint,
}

# SPDX-License-Identifier: GPL-3.0-or-later
"""storage.cfg: reading, checking and changing storage definitions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from labnode.errors import ApiError, ParamError
from labnode.storage.kinds import BOOLEAN, INTEGER, KINDS
from labnode.storage.model import Definition
from labnode.store import Section, Store, parse_sections, render_sections

FILE = "etc/storage.cfg"
LOCK = "storage.cfg"
LOCAL = "images,rootdir,vztmpl,backup,snippets,iso,import"


def split_list(text: str) -> list[str]:
    """Items of a list separated by commas, semicolons or blanks."""
    return [item for item in re.split(r"[,;\s]+", text) if item]


class Definitions:
    """The sections of storage.cfg. `local` is always there, at STATE/storage/local unless the file says otherwise."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def text(self) -> str:
        """The file as it is."""
        return self.store.read(FILE)

    def all(self) -> dict[str, Definition]:
        """Every definition by id, `local` first when the file does not have it."""
        sections = parse_sections(self.text())
        found: dict[str, Definition] = {}
        if "local" not in sections:
            options = {
                "path": str(self.store.path("storage/local")),
                "content": LOCAL,
                "prune-backups": "keep-all=1",
                "priority": "0",
            }
            found["local"] = Definition("local", "dir", options)
        for section in sections.values():
            if section.type in KINDS:
                found[section.id] = Definition(section.id, section.type, dict(section.options))
        return found

    def one(self, storeid: str) -> Definition:
        """ApiError "storage 'x' does not exist" when there is none."""
        found = self.all().get(storeid)
        if found is None:
            raise ApiError(f"storage '{storeid}' does not exist")
        return found

    def write(self, definitions: Mapping[str, Definition]) -> None:
        """Replace the file (the caller holds the lock)."""
        sections = {}
        for item in definitions.values():
            options = {k: v for k, v in item.options.items() if k != "priority"}
            sections[item.storeid] = Section(item.type, item.storeid, options)
        self.store.write(FILE, render_sections(sections))

    def shown(self, item: Definition) -> dict[str, Any]:
        """The definition as the API shows it: content always there, secrets never, flags as numbers."""
        kind = KINDS[item.type]
        result: dict[str, Any] = {"storage": item.storeid, "type": item.type, "content": ",".join(kind.default)}
        for key, value in item.options.items():
            if key in kind.secret:
                continue
            number = key in BOOLEAN or (key in INTEGER and value.isdecimal())
            result[key] = int(truth(value) if key in BOOLEAN else value) if number else value
        if kind.shared:
            result["shared"] = 1
        result["digest"] = Store.digest(self.text())
        return result


def truth(text: str) -> bool:
    """A flag of storage.cfg, where a bare key means yes."""
    return text.strip().lower() in ("1", "yes", "on", "true", "")


def new_definition(storeid: str, kind_name: str, params: Mapping[str, Any]) -> Definition:
    """A checked definition from the parameters of a create; secrets are still among its options."""
    options = _checked(kind_name, params, create=True)
    kind = KINDS[kind_name]
    if kind.mount:
        options.setdefault("path", f"/mnt/pve/{storeid}")
    for key in (*kind.fixed, *kind.required):
        if key not in options and key not in kind.optional:
            raise ApiError(f"missing value for required option '{key}'")
    return Definition(storeid, kind_name, options)


def changed_definition(old: Definition, params: Mapping[str, Any], delete: Iterable[str]) -> Definition:
    """The definition after an update. ApiError for fixed keys, keys the type lacks, and set-and-delete of one key."""
    kind = KINDS[old.type]
    for key in delete:
        if key not in kind.keys:
            raise ApiError(f"no such option '{key}'")
        if key in kind.required or (key in kind.fixed and key not in kind.optional):
            raise ApiError(f"unable to delete required option '{key}'")
        if key in kind.fixed:
            raise ApiError(f"unable to delete fixed option '{key}'")
        if key in params:
            raise ApiError(f"cannot set and delete property '{key}' at the same time!")
    options = {k: v for k, v in old.options.items() if k not in set(delete)}
    options.update(_checked(old.type, params, create=False))
    return Definition(old.storeid, old.type, options)


def _checked(kind_name: str, params: Mapping[str, Any], *, create: bool) -> dict[str, str]:
    kind = KINDS[kind_name]
    options: dict[str, str] = {}
    for key, value in params.items():
        if key not in kind.keys:
            raise ParamError({key: f"unexpected property '{key}'"})
        if not create and key in kind.fixed:
            raise ApiError(f"can't change value of fixed parameter '{key}'")
        options[key] = ("1" if value else "0") if isinstance(value, bool) else str(value)
    if "content" in options:
        options["content"] = _content(kind_name, options["content"])
    if "format" in options and options["format"] not in kind.formats:
        raise ParamError({"format": f"storage does not support format '{options['format']}'"})
    if "path" in options:
        options["path"] = options["path"].rstrip("/") or "/"
    if create and not options.get("nodes", "x"):
        del options["nodes"]
    if "nodes" in options:
        options["nodes"] = ",".join(split_list(options["nodes"]))
    return options


def _content(kind_name: str, text: str) -> str:
    """Content types the storage can carry; those it cannot are left out, as Proxmox VE does (with a warning there)."""
    kind = KINDS[kind_name]
    kept = sorted({item for item in split_list(text) if item in kind.content})
    if "none" in kept and len(kept) > 1:
        raise ApiError("unable to combine 'none' with other content types")
    if not kept and "none" not in kind.content:
        raise ApiError("storage does not support content type 'none'")
    return ",".join(kept) or "none"

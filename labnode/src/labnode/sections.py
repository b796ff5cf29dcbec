# SPDX-License-Identifier: GPL-3.0-or-later
"""Create, read, change and delete objects that live as sections of one file: HA, backup jobs, SDN, replication."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labnode.errors import ApiError
from labnode.options import as_text, check_digest
from labnode.schema.formats import split_list
from labnode.schema.table import table
from labnode.store import Section, Store, parse_sections, render_sections

# Parameters that steer a request and are no options of the object.
_CONTROL = {"delete", "digest", "lock-token", "node"}


@dataclass(frozen=True)
class SectionFile:
    """One file of sections. ``create_path`` is the API path whose POST names the types of the options."""

    store: Store
    rel: str
    create_path: str

    def load(self) -> dict[str, Section]:
        """Sections by id, in file order."""
        return parse_sections(self.store.read(self.rel))

    def digest(self) -> str:
        """Digest of the file as it is."""
        return self.store.digest(self.store.read(self.rel))

    def save(self, sections: Mapping[str, Section]) -> None:
        """Replace the file."""
        self.store.write(self.rel, render_sections(sections))

    def typed(self, options: Mapping[str, str]) -> dict[str, Any]:
        """Options as the API shows them: numbers and booleans as numbers, the rest as text."""
        method = table().method("POST", self.create_path)
        facts = method.params if method and method.params else {}
        whole = ("integer", "boolean")
        return {
            key: int(value) if facts.get(key, {}).get("type") in whole and value.lstrip("-").isdecimal() else value
            for key, value in options.items()
        }

    def create(self, kind: str, ident: str, params: Mapping[str, Any], *, taken: str, skip: set[str]) -> Section:
        """Add a section; ``taken`` is the error when the id exists, ``skip`` names parameters that are not options."""
        sections = self.load()
        if ident in sections:
            raise ApiError(taken)
        section = Section(kind, ident, self._options(params, skip))
        sections[ident] = section
        self.save(sections)
        return section

    def update(self, ident: str, params: Mapping[str, Any], *, missing: ApiError, skip: set[str]) -> Section:
        """Set what ``params`` holds and unset what its ``delete`` names; ``digest`` guards against lost updates."""
        check_digest(self.store, self.store.read(self.rel), params.get("digest"))
        sections = self.load()
        if ident not in sections:
            raise missing
        options = sections[ident].options
        removed = params.get("delete", [])
        for name in split_list(removed) if isinstance(removed, str) else removed:
            options.pop(name, None)
        options.update(self._options(params, skip))
        self.save(sections)
        return sections[ident]

    def delete(self, ident: str, *, missing: ApiError) -> None:
        """Remove a section."""
        sections = self.load()
        if sections.pop(ident, None) is None:
            raise missing
        self.save(sections)

    @staticmethod
    def _options(params: Mapping[str, Any], skip: set[str]) -> dict[str, str]:
        return {key: as_text(value) for key, value in params.items() if key not in skip | _CONTROL}

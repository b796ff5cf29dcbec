# SPDX-License-Identifier: GPL-3.0-or-later
"""Option files: ``key: value`` lines, with the description as leading comment lines (datacenter.cfg, a node's
config)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

from labnode.errors import ApiError
from labnode.schema.formats import split_list
from labnode.store import Store

MODIFIED = "detected modified configuration - file changed by other user? Try again."


def parse_options(text: str) -> dict[str, str]:
    """Options by name; comment lines become ``description`` (each line ends with a newline)."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            found["description"] = found.get("description", "") + unquote(line[1:]) + "\n"
        elif ":" in line:
            key, _, value = line.partition(":")
            found[key.strip()] = value.strip()
    return found


def render_options(options: Mapping[str, str]) -> str:
    """The text of an option file."""
    description = options.get("description", "")
    lines = [f"#{quote(line, safe=_SAFE)}" for line in description.splitlines()]
    lines += [f"{key}: {value}" for key, value in sorted(options.items()) if key != "description"]
    return "".join(f"{line}\n" for line in lines)


_SAFE = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"


def check_digest(store: Store, text: str, digest: str | None) -> None:
    """Raises ApiError when a digest was sent and the file has changed since."""
    if digest and digest != store.digest(text):
        raise ApiError(MODIFIED)


def as_text(value: Any) -> str:
    """A typed parameter as configuration files have it."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def change_options(store: Store, rel: str, params: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> None:
    """Set what ``params`` holds, unset what its ``delete`` names; ``digest`` guards against lost updates."""
    text = store.read(rel)
    check_digest(store, text, params.get("digest"))
    options = parse_options(text)
    for name in split_list(params.get("delete", "")):
        options.pop(name, None)
    for name, value in params.items():
        if name not in ("delete", "digest", *ignored):
            options[name] = as_text(value)
    store.write(rel, render_options(options))

# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of an answer file on a host, with its secrets taken from options of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import answer, answer_toml, crypt_hash
from .state import State
from .steps import Failure, Write

MODE = "600"
# Options that are never logged, and where their values belong in an answer.
SECRET_OPTIONS = {
    "root_password": ("global", "root-password"),
    "root_password_hashed": ("global", "root-password-hashed"),
    "subscription_key": ("global", "subscription-key"),
    "webhook_token": ("post-installation-webhook", "auth-token"),
}


def assembled(params: Mapping[str, Any]) -> dict[str, Any]:
    """The checked answer of a task, in which secrets and the rest are together. Raises Failure."""
    given = params["answer"]
    for option, (section, key) in SECRET_OPTIONS.items():
        inner = given.get(section)
        if isinstance(inner, Mapping) and key in {str(k).replace("_", "-") for k in inner}:
            raise Failure(
                f"{section}.{key} is in answer, which is logged. Give it as the option {option}, which is not."
            )
        if params[option] is not None and (option != "webhook_token" or isinstance(inner, Mapping)):
            given = {**given, section: {**(inner if isinstance(inner, Mapping) else {}), key: params[option]}}
    return answer.checked(given, answer.release(params["version"]))


def with_hash(checked: Mapping[str, Any], old: State, salt: str, version: answer.Version) -> dict[str, Any]:
    """The answer with its password hashed: as it is in the old file already if that is of the same password."""
    section = dict(checked["global"])
    password = section.pop("root-password", None)
    if password is None:
        return dict(checked)
    if version < (8, 3):
        raise Failure(
            "global.root-password cannot be hashed for Proxmox VE 8.2, whose installer takes it in the clear only. "
            "Set plain_password: true, or use a newer ISO."
        )
    keys = ("global.root-password-hashed", "global.root_password_hashed")
    known = next((str(old[key]) for key in keys if key in old), "")
    section["root-password-hashed"] = known if crypt_hash.fits(password, known) else crypt_hash.hashed(password, salt)
    fqdn = section.pop("fqdn")
    return {**checked, "global": {**section, "fqdn": fqdn}}


def wanted(text: str, old: State) -> State:
    """The flat state of a text, which clears every other key that the old file has."""
    return {**dict.fromkeys(old, ""), **answer_toml.parse(text), "mode": MODE}


def write(path: str, text: str | bytes) -> Write:
    """The file replaced. A copy of the old one would only keep old secrets."""
    return Write(path, text, label="write the file", mode=int(MODE, 8), backup=False)


def remove(path: str) -> Write:
    """The file removed, without a copy."""
    return Write(path, None, label="remove the file", backup=False)

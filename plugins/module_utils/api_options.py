# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach the Proxmox VE API: the options that all API modules share, and what they come to.

Names, environment variables and meaning are those of community.proxmox where it has them. ``env`` lists the
variables that stand in for an option; the shell turns it into Ansible's ``fallback``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .core.steps import Failure

DEFAULT_PORT = 8006
DEFAULT_USER = "root@pam"

CONNECTION: dict[str, dict[str, Any]] = {
    "api_host": {"type": "str", "env": ["PROXMOX_HOST"]},
    "api_hosts": {"type": "list", "elements": "str", "env": ["PROXMOX_HOSTS"]},
    "api_port": {"type": "int", "default": DEFAULT_PORT, "env": ["PROXMOX_PORT"]},
    "api_local": {"type": "bool", "default": False, "env": ["PROXMOX_LOCAL"]},
    "api_user": {"type": "str", "default": DEFAULT_USER, "env": ["PROXMOX_USER"]},
    "api_password": {"type": "str", "no_log": True, "env": ["PROXMOX_PASSWORD"]},
    "api_otp": {"type": "str", "no_log": True, "env": ["PROXMOX_OTP"]},
    "api_token_id": {"type": "str", "no_log": False, "env": ["PROXMOX_TOKEN_ID"]},
    "api_token_secret": {"type": "str", "no_log": True, "env": ["PROXMOX_TOKEN_SECRET"]},
    "api_fingerprint": {"type": "list", "elements": "str", "env": ["PROXMOX_FINGERPRINT"]},
    "ca_path": {"type": "path", "env": ["PROXMOX_CA_PATH"]},
    "validate_certs": {"type": "bool", "default": True, "env": ["PROXMOX_VALIDATE_CERTS"]},
    "api_timeout": {"type": "int", "default": 30, "env": ["PROXMOX_API_TIMEOUT"]},
    "api_task_timeout": {"type": "int", "default": 1800, "env": ["PROXMOX_TASK_TIMEOUT"]},
    "api_lock_timeout": {"type": "int", "default": 120, "env": ["PROXMOX_LOCK_TIMEOUT"]},
    "api_retries": {"type": "int", "default": 3, "env": ["PROXMOX_RETRIES"]},
}

CONSTRAINTS: dict[str, Any] = {"required_together": [("api_token_id", "api_token_secret")]}


@dataclass(frozen=True)
class Settings:
    """The options, checked. ``hosts`` are "name:port" pairs as URLs have them, empty for pvesh on this machine.

    ``token_name`` and ``token_secret``, or ``password`` (and ``otp``), are set; never both, and neither for pvesh.
    ``pins`` are SHA-256 fingerprints, 64 lower-case hex digits each. Times are in seconds.
    """

    hosts: tuple[str, ...] = ()
    user: str = DEFAULT_USER
    password: str | None = field(default=None, repr=False)
    otp: str | None = field(default=None, repr=False)
    token_name: str | None = None
    token_secret: str | None = field(default=None, repr=False)
    pins: tuple[str, ...] = ()
    ca_path: str | None = None
    verify: bool = True
    timeout_s: float = 30.0
    task_timeout_s: float = 1800.0
    lock_timeout_s: float = 120.0
    retries: int = 3

    @property
    def identity(self) -> str:
        """The user or token as Proxmox VE names it: "root@pam" or "root@pam!ci"."""
        return f"{self.user}!{self.token_name}" if self.token_name else self.user

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never appear in a message."""
        return tuple(s for s in (self.password, self.otp, self.token_secret) if s)


def settings(params: Mapping[str, Any], *, have_pvesh: bool) -> Settings:
    """Check the options and put them in order. ``have_pvesh``: pvesh is on this machine. Raises Failure."""
    hosts = _hosts(params, have_pvesh=have_pvesh)
    common: dict[str, Any] = {
        "hosts": hosts,
        "pins": tuple(fingerprint(text) for text in params.get("api_fingerprint") or ()),
        "ca_path": params.get("ca_path"),
        "verify": params.get("validate_certs") is not False,
        "timeout_s": _positive(params, "api_timeout", 30),
        "task_timeout_s": _positive(params, "api_task_timeout", 1800),
        "lock_timeout_s": float(_whole(params, "api_lock_timeout", 120)),
        "retries": _whole(params, "api_retries", 3),
    }
    if not hosts:
        return Settings(**common)
    return Settings(**common, **_credentials(params))


def fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case hex digits, from "AA:BB:…" or plain hex. Raises Failure."""
    digits = re.sub(r"[\s:]", "", re.sub(r"^sha256[ :=/]", "", text.strip().lower()))
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise Failure(
            f"api_fingerprint '{text}' is not a SHA-256 fingerprint, which has 64 hexadecimal digits. "
            "The node prints it with: openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem"
        )
    return digits


def shown_fingerprint(digits: str) -> str:
    """A fingerprint as people compare it: "AA:BB:…"."""
    return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2)).upper()


def is_loopback(host: str) -> bool:
    """True for localhost and the addresses of this machine's loopback; ``host`` may carry a port or brackets."""
    name = split_host(host)[0].strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def split_host(text: str) -> tuple[str, str | None]:
    """("name", "port" or None) of "name", "name:port", "[v6]:port" or "v6"; v6 comes back in brackets."""
    if text.count(":") > 1 and not text.startswith("["):
        return f"[{text}]", None
    found = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d+))?", text)
    return (found[1], found[2]) if found else (text, None)


def _hosts(params: Mapping[str, Any], *, have_pvesh: bool) -> tuple[str, ...]:
    named = [h for h in [params.get("api_host"), *(params.get("api_hosts") or [])] if h]
    local = bool(params.get("api_local"))
    if local and not have_pvesh:
        raise Failure("api_local is set, but this machine has no pvesh. Delegate the task to a Proxmox VE node.")
    if local or (not named and have_pvesh):
        return ()
    if not named:
        raise Failure(
            "it is not said which node to talk to. Set api_host (or PROXMOX_HOST), "
            "or delegate the task to a Proxmox VE node, which has pvesh."
        )
    port = int(params.get("api_port") or DEFAULT_PORT)
    return tuple(dict.fromkeys(_address(str(h), port) for h in named))


def _address(text: str, port: int) -> str:
    bare = re.sub(r"^https://", "", text.strip(), flags=re.IGNORECASE).rstrip("/")
    name, own_port = split_host(bare)
    if not re.fullmatch(r"\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+", name):
        raise Failure(f"api_host '{text}' is not a host. Give a name or an address, and a port if it is not {port}.")
    return f"{name}:{own_port or port}"


def _credentials(params: Mapping[str, Any]) -> dict[str, Any]:
    """A password goes before a token, as in community.proxmox. A token id may carry its user: "root@pam!ci"."""
    user, password = params.get("api_user") or DEFAULT_USER, params.get("api_password")
    if "@" not in user:
        user = f"{user}@pam"
    if password:
        return {"user": user, "password": password, "otp": params.get("api_otp")}
    token, secret = params.get("api_token_id"), params.get("api_token_secret")
    if not token or not secret:
        raise Failure(
            "there is nothing to log in with. Set api_token_id and api_token_secret "
            "(or PROXMOX_TOKEN_ID and PROXMOX_TOKEN_SECRET), or api_password."
        )
    owner, mark, name = token.partition("!")
    return {"user": owner if mark else user, "token_name": name if mark else token, "token_secret": secret}


def _whole(params: Mapping[str, Any], option: str, default: int) -> int:
    given = params.get(option)
    value = default if given is None else int(given)
    if value < 0:
        raise Failure(f"{option} is {value}; it cannot be negative.")
    return value


def _positive(params: Mapping[str, Any], option: str, default: int) -> float:
    value = _whole(params, option, default)
    if value == 0:
        raise Failure(f"{option} is 0; it has to be at least 1 second.")
    return float(value)

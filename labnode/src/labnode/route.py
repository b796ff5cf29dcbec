# SPDX-License-Identifier: GPL-3.0-or-later
"""Binding of API methods to handlers.

A handler module is a file under ``labnode.api`` with functions such as::

    @route("GET", "/nodes/{node}/qemu/{vmid}/config")
    async def read_config(ctx: Ctx) -> dict[str, Any]:
        return await ctx.node.guests.config(ctx.params["vmid"])

Parameter checks and permissions come from the schema table for exactly this method and path, so a handler sees only
parameters that Proxmox VE would have let through; ``perm`` overrides the table where labnode knows better.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from labnode.errors import Forbidden

if TYPE_CHECKING:
    from labnode.node import Node
    from labnode.tasks import Worker

Handler = Callable[["Ctx"], Awaitable[Any]]
H = TypeVar("H", bound=Handler)
Check = Callable[["Ctx"], None]


@dataclass(frozen=True)
class Answer:
    """A result with siblings of ``data`` in the JSON body, such as ``total`` or ``changes``."""

    data: Any
    extra: dict[str, Any]

    def __init__(self, data: Any, **extra: Any) -> None:
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "extra", extra)


@dataclass(frozen=True)
class Raw:
    """Part of an answer that is QEMU's or a guest's: its booleans stay true and false, others become 1 and 0."""

    value: Any


@dataclass
class Ctx:
    """One request as a handler sees it.

    ``user`` is the full id ("root@pam", or "lab@pve!ci" for a token). ``params`` holds path and request parameters,
    checked and typed: integers are int, booleans bool, everything else str; absent optional ones are missing (defaults
    are not filled in). An uploaded file is ``params["tmpfilename"]`` (a path under STATE/tmp that the handler must move
    or delete once it has answered with success) and ``params["filename"]``.
    """

    node: Node
    user: str
    params: dict[str, Any] = field(default_factory=dict)
    client: str = "127.0.0.1"
    method: str = "GET"
    path: str = "/"
    auth_kind: str = "ticket"

    @property
    def is_root(self) -> bool:
        """Whether this is root@pam itself; a token of root@pam is not (Proxmox VE compares the name literally)."""
        return self.user == "root@pam"

    def start_task(self, kind: str, ident: str, worker: Worker) -> str:
        """Start ``await worker(task)`` in the background and return its UPID at once."""
        return self.node.tasks.start(kind, ident, self.user, worker)

    def may(self, path: str, privs: Iterable[str], *, any_of: bool = False) -> bool:
        """Whether the user holds all (or any) of ``privs`` on the ACL path, e.g. ``/vms/100``."""
        return self.node.auth.may(self.user, path, privs, any_of=any_of)

    def check(self, path: str, privs: Iterable[str], *, any_of: bool = False) -> None:
        """As ``may``, raising ``Forbidden`` with Proxmox VE's text when it does not."""
        self.node.auth.check(self.user, path, privs, any_of=any_of)


@dataclass(frozen=True)
class Route:
    """One bound method."""

    method: str
    path: str
    handler: Handler
    perm: Check | None = None


ROUTES: dict[tuple[str, str], Route] = {}


def route(method: str, path: str, *, perm: Check | None = None) -> Callable[[H], H]:
    """Bind an async handler to a method and a path as the schema spells it, e.g. ``/nodes/{node}/qemu/{vmid}``.

    Raises ValueError when the same method and path are bound twice.
    """

    def bind(handler: H) -> H:
        key = (method, path)
        if key in ROUTES and ROUTES[key].handler is not handler:
            raise ValueError(f"{method} {path} is bound twice")
        ROUTES[key] = Route(method, path, handler, perm)
        return handler

    return bind


def user_all(_ctx: Ctx) -> None:
    """Permission rule: every known user may."""


def root_only(ctx: Ctx) -> None:
    """Permission rule: root@pam itself only."""
    if not ctx.is_root:
        raise Forbidden("Permission check failed (user != root@pam)")


def perm(path: str, *privs: str, any_of: bool = False) -> Check:
    """Permission rule: privileges on an ACL path with ``{param}`` placeholders: ``perm("/vms/{vmid}", "VM.Audit")``."""

    def rule(ctx: Ctx) -> None:
        ctx.check(path.format(**ctx.params), privs, any_of=any_of)

    return rule

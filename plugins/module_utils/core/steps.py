# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module wants done, as data: a step is described before it is carried out.

Check mode prints steps, tests compare them, and a seam (``api.py`` or ``host.py``) executes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

MASK = "********"


@dataclass(frozen=True)
class Call:
    """One request to the Proxmox VE API.

    ``path`` is below ``/api2/json`` and already URL-encoded. ``params`` go into the query string of GET and
    DELETE and into the body of everything else; values that are ``None`` are not sent. When the answer is a
    UPID the seam waits for that task, for at most ``timeout_s`` seconds (``None``: the connection's own limit).
    ``file`` is the path of a local file that is streamed as the form field ``filename``.
    ``destroys`` names the data that this step makes unreachable; the engine refuses it unless allowed.
    """

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    destroys: str | None = None
    timeout_s: float | None = None
    file: str | None = None

    def describe(self, secret: Iterable[str] = ()) -> dict[str, Any]:
        """The step for people: ``{label, request, params, destroys}`` with secret parameters masked."""
        hidden = frozenset(secret)
        sent = {k: MASK if k in hidden else v for k, v in self.params.items() if v is not None}
        shown: dict[str, Any] = {"request": f"{self.method} {self.path}"}
        if self.label:
            shown["label"] = self.label
        if sent:
            shown["params"] = sent
        if self.file:
            shown["file"] = self.file
        if self.destroys:
            shown["destroys"] = self.destroys
        return shown


@dataclass(frozen=True)
class Run:
    """One command on a host. ``argv`` is never given to a shell; ``ok_rcs`` are the exit codes that mean success."""

    argv: tuple[str, ...]
    label: str = ""
    destroys: str | None = None
    stdin: str | None = None
    timeout_s: float = 60.0
    ok_rcs: tuple[int, ...] = (0,)

    def describe(self, secret: Iterable[str] = ()) -> dict[str, Any]:
        """The step for people: ``{label, argv, destroys}``; arguments ``name=value`` of a secret name are masked."""
        hidden = frozenset(secret)
        shown: dict[str, Any] = {"argv": [_mask_argument(a, hidden) for a in self.argv]}
        if self.label:
            shown["label"] = self.label
        if self.destroys:
            shown["destroys"] = self.destroys
        return shown


@dataclass(frozen=True)
class Write:
    """One file on a host, replaced atomically. ``content`` is its text, or the bytes of what is no text.

    ``validate`` is an argv in which ``%s`` stands for the candidate file; it must succeed before the file is put in
    place. ``content`` of ``None`` removes the file. ``backup`` keeps the old content beside it as ``PATH.pvelab~``.
    ``in_place`` is for files of the kernel in /sys and /proc: each is a door rather than a file, which has to be there
    and is written as it stands.
    """

    path: str
    content: str | bytes | None
    label: str = ""
    destroys: str | None = None
    mode: int = 0o644
    validate: tuple[str, ...] = ()
    backup: bool = True
    in_place: bool = False

    def describe(self, secret: Iterable[str] = ()) -> dict[str, Any]:
        """The step for people: ``{label, path, mode, destroys}``; never the content, which the diff shows."""
        shown: dict[str, Any] = {"path": self.path, "mode": f"{self.mode:04o}"}
        if self.content is None:
            shown = {"path": self.path, "remove": True}
        elif self.in_place:
            shown = {"path": self.path, "in_place": True}
        if self.label:
            shown["label"] = self.label
        if self.destroys:
            shown["destroys"] = self.destroys
        return shown


Step: TypeAlias = "Call | Run | Write"


@dataclass(eq=False)
class Failure(Exception):
    """Anything that stops a module, below the shell.

    ``msg`` is the cause and, where there is one, the remedy: one or two sentences without "Unable to …", which the
    engine adds because it knows what was being done. ``again`` is True for kinds of failures after which the same work
    may well go through a moment later. Everything else is optional evidence:

    ``status`` (HTTP), ``rc`` (exit code), ``request`` ("PUT /nodes/pve1/qemu/104/config"), ``argv``,
    ``errors`` ({option: text}), ``task_log`` (the log lines nearest to the error), ``library`` (a Python library that
    is missing on the machine that runs the module). The engine fills in ``doing``, ``done`` and ``diff``.
    """

    again: ClassVar[bool] = False

    msg: str
    status: int | None = None
    rc: int | None = None
    request: str | None = None
    argv: Sequence[str] | None = None
    errors: Mapping[str, str] | None = None
    task_log: Sequence[str] | None = None
    library: str | None = None
    doing: str | None = None
    done: list[dict[str, Any]] = field(default_factory=list)
    diff: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__init__(self.msg)

    def __str__(self) -> str:
        return self.msg

    def result(self) -> dict[str, Any]:
        """The arguments of ``fail_json``: ``msg`` and ``done`` always, the evidence where there is some."""
        msg = f"Unable to {self.doing}: {self.msg}" if self.doing else self.msg
        evidence = {
            "status": self.status,
            "rc": self.rc,
            "request": self.request,
            "argv": list(self.argv) if self.argv else None,
            "errors": dict(self.errors) if self.errors else None,
            "task_log": list(self.task_log) if self.task_log else None,
            "diff": self.diff,
        }
        return {"msg": msg, "done": self.done, **{k: v for k, v in evidence.items() if v is not None}}


@dataclass(eq=False)
class Missing(Failure):
    """Something that the task builds on is not there: the guest of a snapshot, the template of a clone, free space.

    For real it is a Failure like any other. In check mode an earlier task of the same play may be about to see to it,
    so the engine turns it into a warning and foresees what it can. ``have`` is the observed state of the object where
    it is there already and only lacks what it refers to.
    """

    have: dict[str, Any] | None = None


def _mask_argument(argument: str, hidden: frozenset[str]) -> str:
    name, equals, _value = argument.partition("=")
    return f"{name}={MASK}" if equals and name.lstrip("-") in hidden else argument

# SPDX-License-Identifier: GPL-3.0-or-later
"""The API by pvesh, on a Proxmox VE node itself: as root, without a login, and without any Python library.

proxmoxer's backend for it is not used: it takes every warning on stderr for an error, gives up after 5 s although
pvesh runs the workers of tasks in its foreground, and loses the error of one that fails.

What a worker prints comes first, its UPID last, whether it succeeded or not.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .api_wire import NoAnswer, Refused, Reply, Request, form

VERBS = {"GET": "get", "POST": "create", "PUT": "set", "DELETE": "delete"}
# "400 Parameter verification failed." and then one line a parameter, or just a sentence.
_STATUS = re.compile(r"^(\d{3}) (.+)$")
_FIELD = re.compile(r"^([A-Za-z][\w.-]*): (.+)$")


def have_pvesh() -> bool:
    """True on a Proxmox VE node."""
    return shutil.which("pvesh") is not None


class LocalWire:
    """``pvesh`` as a Wire."""

    where = "pvesh on this machine"
    user = "root@pam"
    skew_s = 0.0

    def send(self, request: Request) -> Reply:
        """Run pvesh once. Raises Refused, or NoAnswer when pvesh cannot be run or takes too long."""
        params = form(request.params)
        upload = _stage(request.file) if request.file else None
        if upload is not None:
            params["tmpfilename"] = str(upload)
            params.setdefault("filename", Path(request.file or "").name)
        command = ["pvesh", VERBS[request.method], unquote(request.path), *_options(params), "--output-format", "json"]
        try:
            out, err, code = _run(command, request)
        except OSError as error:
            raise NoAnswer(f"pvesh cannot be run: {error.strerror}", sent=False, permanent=True) from error
        finally:
            if upload is not None:
                upload.unlink(missing_ok=True)
        if code != 0:
            raise _refused(err or out)
        return Reply(_answer(out))

    def close(self) -> None:
        """Nothing stays open."""


class _Pvesh(subprocess.Popen[str]):
    """pvesh in a session of its own: Ctrl-C and the end of this process do not cut off the worker of a task."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )


def _run(command: list[str], request: Request) -> tuple[str, str, int]:
    """Standard output, standard error and exit code. A write that takes too long is left to finish."""
    process = _Pvesh(command)
    try:
        out, err = process.communicate(timeout=request.timeout_s)
    except subprocess.TimeoutExpired:
        if not request.writes:
            process.kill()
            process.communicate()
        raise NoAnswer(f"pvesh did not finish within {request.timeout_s:g} seconds", sent=True) from None
    return out, err, process.returncode


def _options(params: dict[str, Any]) -> list[str]:
    pairs = [(name, v) for name, value in params.items() for v in (value if isinstance(value, list) else [value])]
    return [word for name, value in pairs for word in (f"--{name}", str(value))]


def _stage(file: str) -> Path:
    """Copy an upload to where Proxmox VE takes it from (Storage/Status.pm: /var/tmp/pveupload-HEX)."""
    target = Path(f"/var/tmp/pveupload-{secrets.token_hex(16)}")
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as sink, Path(file).open("rb") as source:
            shutil.copyfileobj(source, sink, 1 << 20)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise NoAnswer(f"{file} cannot be copied: {error.strerror}", sent=False, permanent=True) from error
    return target


def _answer(out: str) -> Any:
    """The JSON that pvesh prints on one line, after the log of a task if it ran one."""
    lines = out.strip().splitlines()
    if not lines:
        return None
    try:
        return json.loads(lines[-1])
    except ValueError:
        raise Refused(500, f"pvesh printed no JSON but: {lines[-1]}") from None


def _refused(complaint: str) -> Refused:
    lines = [line.rstrip() for line in complaint.splitlines() if line.strip()] or ["pvesh gave no reason"]
    if re.match(r"No '\w+' handler defined for ", lines[0]):
        return Refused(501, lines[0])
    at, status = next(((i, found) for i, line in enumerate(lines) if (found := _STATUS.match(line))), (0, None))
    if status is None:
        return Refused(500, " ".join(line for line in lines if not line.startswith("pvesh ")) or lines[0])
    fields = [m for m in map(_FIELD.match, lines[at + 1 :]) if m]
    return Refused(int(status[1]), status[2], {m[1]: m[2] for m in fields})

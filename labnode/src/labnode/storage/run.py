# SPDX-License-Identifier: GPL-3.0-or-later
"""Running tools: qemu-img, lvm, zfs, lsblk.

Children get SIGKILL when labnode dies (`setpriv --pdeathsig`), so that a killed labnode leaves no half-done copy
running. One that labnode did not live to see asking for that signal sees that its parent is another, and ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence

from labnode.errors import ApiError

ENV = {"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


ORPHAN_CHECK = '[ "$PPID" = "$0" ] && exec "$@"'


def tool(name: str) -> str | None:
    """Full path of a program, also from the sbin directories an ordinary user's PATH lacks."""
    return shutil.which(name, path=ENV["PATH"])


def bound(argv: Sequence[str]) -> list[str]:
    """The command line of a child that does not outlive labnode."""
    setpriv = tool("setpriv")
    guard = [setpriv, "--pdeathsig", "KILL", "--", "/bin/sh", "-c", ORPHAN_CHECK, str(os.getpid())] if setpriv else []
    return [*guard, *argv]


async def run(
    argv: Sequence[str],
    *,
    error: str = "",
    package: str = "",
    timeout: float | None = None,
    on_text: Callable[[str], None] | None = None,
) -> str:
    """Run a program and return what it wrote to stdout; ApiError "`error`: first line of stderr" when it fails.

    `on_text` sees stdout piece by piece while it runs. A missing program names the `package` that has it. When the
    caller is
    cancelled or `timeout` seconds pass, the program is killed.
    """
    path = tool(argv[0])
    if path is None:
        raise ApiError(f"program '{argv[0]}' is not installed" + (f" - apt install {package}" if package else ""))
    process = await asyncio.create_subprocess_exec(
        *bound([path, *argv[1:]]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **ENV},
    )
    try:
        out, err = await asyncio.wait_for(_collect(process, on_text), timeout)
    except TimeoutError:
        raise ApiError(f"{error or argv[0]}: got timeout after {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        text = err.strip() or out.strip() or f"exit code {process.returncode}"
        raise ApiError(f"{error}: {text}" if error else text)
    return out


async def _collect(process: asyncio.subprocess.Process, on_text: Callable[[str], None] | None) -> tuple[str, str]:
    assert process.stdout is not None and process.stderr is not None
    parts: list[str] = []

    async def pump(stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(65536):
            text = chunk.decode("utf-8", "replace")
            parts.append(text)
            if on_text is not None:
                on_text(text)

    err, _ = await asyncio.gather(process.stderr.read(), pump(process.stdout))
    await process.wait()
    return "".join(parts), err.decode("utf-8", "replace")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch and unpack distribution packages as an ordinary user."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError


@dataclass(frozen=True)
class Package:
    """A package in the version that apt would install now."""

    name: str
    version: str
    depends: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.name}={self.version}"


def run(argv: list[str], *, cwd: Path | None = None, timeout_s: float = 300) -> str:
    """Standard output of a command; raises BuildError with the last lines of what it said."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            timeout=timeout_s,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        package = _provider(argv[0])
        raise BuildError(f"{argv[0]} is not installed; on Debian: apt-get install {package}") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{argv[0]} did not finish within {timeout_s:.0f} s") from None
    if done.returncode != 0:
        said = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise BuildError(f"{' '.join(argv[:3])} failed: {said}")
    return done.stdout


def _provider(command: str) -> str:
    return {"qemu-img": "qemu-utils", "cc": "gcc libc6-dev", "dpkg-deb": "dpkg"}.get(command, command)


class Archive:
    """The distribution's packages. Without usable package lists of the system it fetches its own into `cache`."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._options: list[str] = []

    def find(self, names: list[str]) -> dict[str, Package]:
        """The named packages by name; raises BuildError when one is unknown even to fresh lists."""
        found = self._show(names)
        if set(names) - set(found):
            self._own_lists()
            found = self._show(names)
        missing = sorted(set(names) - set(found))
        if missing:
            raise BuildError(f"the package archive of this system has no {', '.join(missing)}; check apt's sources")
        return found

    def known(self, names: list[str]) -> set[str]:
        """Which of the names apt knows at all."""
        return set(self._show(names))

    def unpack(self, package: Package, target: Path) -> Path:
        """The unpacked package under `target`, downloaded once per version."""
        tree = target / package.name
        if not tree.exists():
            with tempfile.TemporaryDirectory(dir=target) as part:
                run(["dpkg-deb", "-x", str(self._download(package)), part])
                os.chmod(part, 0o755)
                os.rename(part, tree)
                os.mkdir(part)  # what the context manager removes
        return tree

    def _download(self, package: Package) -> Path:
        debs = self.cache / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        pattern = f"{package.name}_{package.version.replace(':', '%3a')}_*.deb"
        for known in debs.glob(pattern):
            return known
        with tempfile.TemporaryDirectory(dir=debs) as part:
            try:
                run(["apt-get", *self._options, "download", "-q", package.label], cwd=Path(part), timeout_s=900)
            except BuildError:
                if self._options:
                    raise
                self._own_lists()  # the system's lists name a version that the mirror has replaced
                raise BuildError(f"cannot download {package.label}: run the build again, or apt-get update") from None
            (deb,) = Path(part).glob("*.deb")
            os.rename(deb, debs / deb.name)
            return debs / deb.name

    def _show(self, names: list[str]) -> dict[str, Package]:
        try:
            text = run(["apt-cache", *self._options, "show", "--no-all-versions", *names])
        except BuildError:
            text = ""  # "No packages found": told apart by what is missing
            for name in names:
                try:
                    text += run(["apt-cache", *self._options, "show", "--no-all-versions", name]) + "\n"
                except BuildError:
                    continue
        found = {}
        for stanza in text.split("\n\n"):
            field = dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE))
            if "Package" in field:
                listed = ", ".join(field[key] for key in ("Pre-Depends", "Depends") if key in field)
                depends = tuple(re.split(r"[ (|:]", item.strip())[0] for item in listed.split(",") if item.strip())
                found[field["Package"]] = Package(field["Package"], field["Version"], depends)
        return found

    def _own_lists(self) -> None:
        if self._options:
            return
        base = self.cache / "apt"
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        self._options = ["-o", f"Dir::State={base}/state", "-o", f"Dir::Cache={base}/cache", "-o", "Debug::NoLocking=1"]
        self._options += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
        run(["apt-get", *self._options, "update", "-q"], timeout_s=600)

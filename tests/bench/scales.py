# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a module takes, by an interpreter that Ansible starts in place of Python.

It starts Python as a child and asks the kernel for the child's peak, so nothing is missed between two looks. It costs a
start of Python, so what is weighed is not timed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_WRAPPER = """#!{python}
import os, subprocess, sys
module = subprocess.Popen([{python!r}, *sys.argv[1:]])
_pid, status, used = os.wait4(module.pid, 0)
with open({kept!r}, "a") as kept:
    kept.write(f"{{used.ru_maxrss}}\\n")
sys.exit(os.waitstatus_to_exitcode(status))
"""


@dataclass(frozen=True)
class Scales:
    """Lives in ``folder``, which belongs to whoever made it."""

    folder: Path

    @property
    def interpreter(self) -> Path:
        """What Ansible is to start; written when first asked for."""
        path = self.folder / "python"
        if not path.exists():
            path.write_text(_WRAPPER.format(python=sys.executable, kept=str(self._kept)), encoding="utf-8")
            path.chmod(0o700)
        return path

    def peak_mib(self) -> float:
        """The most that one module held since the last call, in MiB. Raises ValueError when none ran."""
        noted = self._kept.read_text(encoding="utf-8").split() if self._kept.exists() else []
        self._kept.unlink(missing_ok=True)
        return max(int(kib) for kib in noted) / 1024

    @property
    def _kept(self) -> Path:
        return self.folder / "kept"

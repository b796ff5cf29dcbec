# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that begins as a copy of Ansible's worker, where it would run on this machine, with this Python, anyway.

Ansible packs a module, starts a Python, and has it unpack, compile and import all of it again: most of what a small
task takes. An action of ours has its module imported once, in the process that Ansible forks its workers from, and a
task is one fork more. The module is the same and is told the same; its signals, its environment and its memory are its
own and end with it. What asks for more than that goes Ansible's own way: see ``Direct.may``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action.normal import ActionModule as Normal
from ansible.release import __version__ as release
from ansible.utils.display import Display

display = Display()

VARIABLE = "pvelab_direct"
"""A variable of the user's: false has Ansible start these modules as it starts all others."""

# What is done here for Ansible was seen with these; any other one does it all itself.
RELEASES = ("2.19.", "2.20.", "2.21.")


class Direct(Normal):
    """The action of one module: ``main`` is that of the module."""

    main: ClassVar[Callable[[], None]]
    _here = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """As every action."""
        self._here = self.may(task_vars or {})
        result: dict[str, Any] = super().run(tmp, task_vars)  # type: ignore[no-untyped-call]
        return result

    def may(self, task_vars: Mapping[str, Any]) -> bool:
        """Whether Ansible would start the module on this machine, with this very Python, and wait for it."""
        known = task_vars
        if self._task.delegate_to:
            known = task_vars.get("ansible_delegated_vars", {}).get(self._task.delegate_to, {})
        return (
            # Elsewhere libraries of the system do not bear being forked.
            sys.platform == "linux"
            and release.startswith(RELEASES)
            and self._connection.transport in ("local", "ansible.builtin.local")
            and not self._connection.become
            and not self._task.async_val
            and not constants.config.get_config_value("DEFAULT_KEEP_REMOTE_FILES")
            and _is_this_python(self._templar.template(known.get("ansible_python_interpreter")))
            and boolean(self._templar.template(task_vars.get(VARIABLE, True)))
        )

    def _execute_module(self, *given: Any, **named: Any) -> dict[str, Any]:
        """The module's result, as Ansible hands it on."""
        if not self._here:
            result: dict[str, Any] = super()._execute_module(*given, **named)
            return result
        # Another release of Ansible may not have what this is made of.
        from ansible_collections.pvelab.proxmox.plugins.plugin_utils.module_process import PROFILE, Module  # noqa: PLC0415

        options = {**self._task.args}
        self._update_module_args(self._task.action, options, named.get("task_vars"))
        environment: dict[str, str] = {}
        self._compute_environment_string(environment)  # type: ignore[no-untyped-call]
        display.vvv(f"{self._task.action} begins as a copy of process {os.getpid()}")
        said = Module(type(self).main, options, environment, self._loader.get_basedir()).call()
        return _cleaned(self._parse_returned_data(said, PROFILE))


def _cleaned(parsed: Any) -> dict[str, Any]:
    """A result without what only Ansible itself may say in it: a mapping, since 2.21 an object."""
    if isinstance(parsed, dict):
        from ansible.vars.clean import remove_internal_keys  # noqa: PLC0415 (since 2.21 there is none)

        remove_internal_keys(parsed)
        return parsed
    parsed.remove_internal_keys()
    return dict(parsed.as_result_dict(for_round_trip=True))


def _is_this_python(path: Any) -> bool:
    """True for another name of it in the same folder, too; the same program in another folder has other libraries."""
    if not path:
        return False
    named, own = Path(str(path).strip()), Path(sys.executable)
    return named == own or (named.parent == own.parent and named.resolve() == own.resolve())

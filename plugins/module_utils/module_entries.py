# SPDX-License-Identifier: GPL-3.0-or-later
"""Long lists of entries as options of a module: read in less time, and wrong ones named.

Ansible goes through all options that an entry may have, several times, for each entry of a list. Hundreds of guests use
a few of them, so it is told of those; whoever makes a mistake gets the message that all of them give.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NoReturn

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

# Ansible shows with -vvv how a module was invoked.
SHOWN_WITH = 3
SHORT = 20
# An option with one of these means something where nobody gave it.
_ALWAYS = ("required", "default", "fallback", "apply_defaults")


class EntriesModule(AnsibleModule):
    """An AnsibleModule whose option ``entries`` is a list of what may have names; ``params`` are those of any other."""

    entries: ClassVar[str] = ""

    def _load_params(self) -> None:
        """Called by AnsibleModule before it goes through the options."""
        super()._load_params()  # type: ignore[no-untyped-call]
        self._all: dict[str, Any] = self.argument_spec[self.entries]
        given = self.params.get(self.entries)
        if isinstance(given, list):
            known = {**self._all, "options": used(self._all["options"], given)}
            self.argument_spec = {**self.argument_spec, self.entries: known}

    def told(self) -> dict[str, Any]:
        """What is told of the options that were given: of a long list how long it is, and all of it with -vvv.

        Of hundreds of guests that are as they should be it would be much of the result, which Ansible takes along.
        """
        if self._verbosity >= SHOWN_WITH or len(self.params[self.entries]) <= SHORT:
            return dict(said(self.params))
        rest = {k: v for k, v in self.params.items() if k != self.entries}
        return {**said(rest), self.entries: f"{len(self.params[self.entries])} entries, which -vvv shows"}

    def fill(self) -> None:
        """Have ``params`` say None for each option that was not given, as Ansible does."""
        self.params[self.entries] = [filled(self._all["options"], entry) for entry in self.params[self.entries]]

    def fail_json(self, msg: str, **more: Any) -> NoReturn:
        """Called by AnsibleModule, too, when it refuses the options; it says which list, and this which entry."""
        super().fail_json(msg=self._whose(msg) or msg, **more)
        raise AssertionError("fail_json returned")

    def _whose(self, msg: str) -> str:
        given = self.params.get(self.entries)
        # Only what the options are refused for comes before they are all known to be right.
        if f"found in {self.entries}" not in msg and f"{self.entries}." not in msg:
            return ""
        constraints = {k: v for k, v in self._all.items() if k.startswith("required_")}
        for i, entry in enumerate(given if isinstance(given, list) else ()):
            errors = ArgumentSpecValidator(self._all["options"], **constraints).validate(said(entry)).error_messages
            if errors:
                return f"guest {entry.get('name') or entry.get('vmid') or f'number {i + 1}'}: {errors[0]}"
        return ""


def used(options: Mapping[str, Any], values: Iterable[Any]) -> dict[str, Any]:
    """Of these options those that some of the values give, and those that mean something when none does.

    All of them where a value is no mapping yet: what it will be, Ansible knows.
    """
    entries = list(values)
    if not all(isinstance(entry, Mapping) for entry in entries):
        return dict(options)
    names = {name for entry in entries for name in entry}
    kept: dict[str, Any] = {}
    for name, option in options.items():
        called = names.intersection((name, *option.get("aliases", ())))
        if not called and not any(option.get(word) for word in _ALWAYS):
            continue
        kept[name] = option
        if "options" in option:
            inner = [v for entry in entries for word in called for v in _listed(entry.get(word))]
            kept[name] = {**option, "options": used(option["options"], inner)}
    return kept


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def filled(options: Mapping[str, Any], value: Any) -> Any:
    """A value with None for each option that it does not give, at every depth."""
    if isinstance(value, list):
        return [filled(options, entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    inner = {k: filled(options[k]["options"], v) for k, v in value.items() if "options" in options.get(k, ())}
    return {**dict.fromkeys(options), **value, **inner}


def said(value: Any) -> Any:
    """What a user wrote: AnsibleModule fills in None for what is not given."""
    if isinstance(value, dict):
        return {k: said(v) for k, v in value.items() if v is not None}
    return [said(v) for v in value] if isinstance(value, list) else value

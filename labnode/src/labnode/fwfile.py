# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewall files (cluster.fw, host.fw, ID.fw): options, aliases, IP sets, security groups and rules. Pure, no I/O.

Format as pve-firewall writes it: ``[OPTIONS]``, ``[ALIASES]``, ``[IPSET name]``, ``[RULES]``, ``[group name]``
sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Rule = dict[str, Any]

_SECTION = re.compile(r"\[(\S+)(?:\s+(\S+))?\]\s*(?:#\s*(.*))?$")
_FLAGS = {
    "-i": "iface", "-p": "proto", "-dport": "dport", "-sport": "sport", "-source": "source", "-dest": "dest",
    "-log": "log", "-icmp-type": "icmp-type",
}  # fmt: skip
_MACRO = re.compile(r"(\S+)\((ACCEPT|DROP|REJECT)\)")


@dataclass
class IpSet:
    """A named set; ``entries`` maps an address to its comment and whether it is excluded (nomatch)."""

    comment: str = ""
    entries: dict[str, tuple[str, bool]] = field(default_factory=dict)


@dataclass
class Group:
    """A security group: rules that others may refer to."""

    comment: str = ""
    rules: list[Rule] = field(default_factory=list)


@dataclass
class Firewall:
    """One file. ``aliases`` maps a name to address and comment."""

    options: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, tuple[str, str]] = field(default_factory=dict)
    ipsets: dict[str, IpSet] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    rules: list[Rule] = field(default_factory=list)


def _split_comment(line: str) -> tuple[str, str]:
    body, _, comment = line.partition("#")
    return body.strip(), comment.strip()


def parse(text: str) -> Firewall:
    """Read a file; lines that make no sense are left out."""
    firewall = Firewall()
    kind, name = "", ""
    for raw in text.splitlines():
        line = raw.strip()
        match = _SECTION.match(line)
        if match:
            kind, name = match[1].lower(), match[2] or ""
            if kind == "ipset":
                firewall.ipsets[name] = IpSet(match[3] or "")
            elif kind == "group":
                firewall.groups[name] = Group(match[3] or "")
        elif line and not line.startswith("#"):
            _read_line(firewall, kind, name, line)
    return firewall


def _read_line(firewall: Firewall, kind: str, name: str, line: str) -> None:
    body, comment = _split_comment(line)
    if kind == "options" and ":" in line:
        key, _, value = line.partition(":")
        firewall.options[key.strip()] = value.strip()
    elif kind == "aliases" and len(parts := body.split()) == 2:
        firewall.aliases[parts[0]] = (parts[1], comment)
    elif kind == "ipset":
        firewall.ipsets[name].entries[body.lstrip("! ")] = (comment, body.startswith("!"))
    elif kind == "rules" and (rule := parse_rule(line)):
        firewall.rules.append(rule)
    elif kind == "group" and (rule := parse_rule(line)):
        firewall.groups[name].rules.append(rule)


def parse_rule(line: str) -> Rule | None:
    """One rule such as ``|IN SSH(ACCEPT) -i net0 -source 10.0.0.0/8 # why``; None when it is none."""
    body, comment = _split_comment(line)
    words = body.lstrip("|").split()
    if len(words) < 2:
        return None
    rule: Rule = {"type": words[0].lower(), "action": words[1], "enable": int(not body.startswith("|"))}
    macro = _MACRO.fullmatch(words[1])
    if macro and rule["type"] != "group":
        rule["macro"], rule["action"] = macro[1], macro[2]
    for flag, value in zip(words[2::2], words[3::2], strict=False):
        known = _FLAGS.get(flag.replace("--", "-", 1))
        if known:
            rule[known] = value
    if comment:
        rule["comment"] = comment
    return rule


def render_rule(rule: Rule) -> str:
    """The line of a rule."""
    action = f"{rule['macro']}({rule['action']})" if rule.get("macro") else rule["action"]
    kind = rule["type"].upper() if rule["type"] != "group" else "GROUP"
    words = [f"{'' if rule.get('enable') else '|'}{kind}", action]
    for flag, key in _FLAGS.items():
        if rule.get(key):
            words += [flag, str(rule[key])]
    if rule.get("comment"):
        words += ["#", str(rule["comment"]).replace("\n", " ")]
    return " ".join(words)


def render(firewall: Firewall) -> str:
    """The text of a file; empty when there is nothing in it."""
    return "\n\n".join("\n".join(block) for block in _blocks(firewall)) + ("\n" if any(_blocks(firewall)) else "")


def _blocks(firewall: Firewall) -> Iterator[list[str]]:
    if firewall.options:
        yield ["[OPTIONS]", *(f"{key}: {value}" for key, value in sorted(firewall.options.items()))]
    if firewall.aliases:
        yield ["[ALIASES]", *(_noted(f"{n} {a}", c) for n, (a, c) in sorted(firewall.aliases.items()))]
    for name, ipset in sorted(firewall.ipsets.items()):
        entries = (_noted(f"{'!' if no else ''}{cidr}", c) for cidr, (c, no) in sorted(ipset.entries.items()))
        yield [_noted(f"[IPSET {name}]", ipset.comment), *entries]
    if firewall.rules:
        yield ["[RULES]", *map(render_rule, firewall.rules)]
    for name, group in sorted(firewall.groups.items()):
        yield [_noted(f"[group {name}]", group.comment), *map(render_rule, group.rules)]


def _noted(text: str, comment: str) -> str:
    return f"{text} # {comment}" if comment else text

# SPDX-License-Identifier: GPL-3.0-or-later
"""/etc/network/interfaces as ifupdown2 reads it, without losing a byte of what is not edited. Pure.

A file is a sequence of lines that keep their text; what a line means is worked out beside it. Words are split at blanks
and tabs, a backslash at the end of a line joins the next one, and a line of which the first word is "#" or begins with
it is a comment. A stanza reaches from "iface NAME" to its last option and the comments directly below that; what
follows after a blank line belongs to nobody and stays. ifupdown2 takes "_" for "-" in the names of options
(ifupdown/networkinterfaces.py), so both count as one option here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

_STANZAS = frozenset({"iface", "mapping", "vlan"})
_SINGLES = frozenset({"auto", "source", "source-directory", "no-auto-down", "no-scripts"})
_PHYSICAL = re.compile(r"[^\n]*\n|[^\n]+")
_BLANKS = " \t\r\n\f\v"


@dataclass(frozen=True)
class Line:
    """One line with its end, or several that backslashes join."""

    raw: str

    @property
    def text(self) -> str:
        """What it says: joined, without blanks around it."""
        return re.sub(r"\\\r?\n", " ", self.raw).strip(_BLANKS)

    @property
    def words(self) -> list[str]:
        """Its words; none for a comment or a blank line."""
        return [] if self.text.startswith("#") else self.text.split()

    @property
    def is_comment(self) -> bool:
        return self.text.startswith("#")

    @property
    def keyword(self) -> str:
        """ "iface", "auto", "allow", …; empty for an option, a comment or a blank line."""
        first = self.words[0] if self.words else ""
        if first.startswith("allow-"):
            return "allow"
        return first if first in _STANZAS | _SINGLES else ""

    @property
    def option(self) -> tuple[str, str]:
        """An option's name as ifupdown2 calls it, and its value."""
        name, *value = self.text.split(None, 1)
        return canonical(name), " ".join(value)


@dataclass(frozen=True)
class Stanza:
    """An "iface" stanza: lines ``first`` to ``end`` (exclusive) of its file."""

    name: str
    family: str
    method: str
    first: int
    end: int


@dataclass(frozen=True)
class Edit:
    """What an interface is to be. ``options`` gives all values of an option, by its name as it is to be written; no
    values remove it; options that are not named stay. ``addresses`` (CIDR), ``gateways`` and ``comments`` likewise;
    None leaves them. ``method`` is that of the family inet.
    """

    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    addresses: Sequence[str] | None = None
    gateways: Sequence[str] | None = None
    method: str | None = None
    auto: bool | None = None
    comments: Sequence[str] | None = None


def canonical(option: str) -> str:
    """ "bridge_ports" → "bridge-ports"."""
    return option.replace("_", "-")


@dataclass(frozen=True)
class Interfaces:
    """A file. ``render(parse(text)) == text`` holds for every text."""

    lines: tuple[Line, ...]

    @property
    def stanzas(self) -> list[Stanza]:
        """All "iface" stanzas in their order."""
        found = []
        for first, line in enumerate(self.lines):
            if line.keyword == "iface" and len(line.words) > 1:
                _none, name, *rest = [*line.words, "", ""]
                found.append(Stanza(name, rest[0], rest[1], first, self._end(first)))
        return found

    def _end(self, first: int) -> int:
        """Behind the last option and the comments that directly follow it."""
        end = first + 1
        for number in range(first + 1, len(self.lines)):
            line = self.lines[number]
            if line.keyword:
                break
            if line.words or (line.is_comment and end == number):
                end = number + 1
        return end

    def of(self, name: str) -> list[Stanza]:
        """The stanzas of one interface."""
        return [s for s in self.stanzas if s.name == name]

    @property
    def names(self) -> list[str]:
        """The interfaces that have a stanza, in their order."""
        return list(dict.fromkeys(s.name for s in self.stanzas))

    @property
    def sources(self) -> list[tuple[str, str]]:
        """("source" or "source-directory", pattern) of every file that this one reads in."""
        wanted = ("source", "source-directory")
        return [(ln.keyword, ln.words[1]) for ln in self.lines if ln.keyword in wanted and len(ln.words) > 1]

    def values(self, name: str, option: str) -> list[str]:
        """All values of an option of an interface, in their order."""
        return [v for k, v in self.options(name) if k == canonical(option)]

    def options(self, name: str) -> list[tuple[str, str]]:
        """All options of an interface with their values."""
        return [self.lines[n].option for s in self.of(name) for n in range(s.first + 1, s.end) if self.lines[n].words]

    def comments(self, name: str) -> list[str]:
        """The comments inside the stanzas of an interface, without the "#"."""
        inside = [self.lines[n] for s in self.of(name) for n in range(s.first + 1, s.end)]
        return [line.text[1:].strip() for line in inside if line.is_comment]

    def addresses(self, name: str) -> list[str]:
        """Its addresses in CIDR form; a mask in a line of its own counts for the address before it."""
        found: list[str] = []
        for option, value in self.options(name):
            if option == "address" and value:
                found.append(value.split()[0])
            elif option == "netmask" and found and "/" not in found[-1]:
                found[-1] = f"{found[-1]}/{prefix_length(value)}"
        return found

    def is_auto(self, name: str) -> bool:
        """Whether it is brought up at boot."""
        marked = [ln.words[1:] for ln in self.lines if ln.words[:1] in (["auto"], ["allow-auto"])]
        return any(name in names or "all" in names for names in marked)

    def without(self, name: str) -> Interfaces:
        """Without the stanzas of an interface and without its name in "auto" and "allow-…" lines."""
        gone = {n for s in self.of(name) for n in range(s.first, s.end)}
        kept: list[Line] = []
        removed = False
        for number, line in enumerate(self.lines):
            left = None if number in gone else _unmarked(line, name)
            if left is None:
                removed = True
                continue
            # Of the blank lines before and after a stanza one goes with it.
            if not (removed and not left.text and kept and not kept[-1].text):
                kept.append(left)
            removed = False
        if removed and kept and not kept[-1].text:
            kept.pop()
        return Interfaces(tuple(kept))

    def edited(self, name: str, edit: Edit) -> Interfaces:
        """With one interface as wanted. Lines that say already what is wanted stay as they are."""
        now = self if self.of(name) else self._with_stanza(name, "inet", "manual")
        if edit.addresses is not None:
            if now.addresses(name) != list(edit.addresses):
                now = now._stripped(name, {"netmask", "broadcast", "network"})
            now = now._by_family(name, "address", list(edit.addresses), now.addresses(name))
        if edit.gateways is not None:
            now = now._by_family(name, "gateway", list(edit.gateways), now.values(name, "gateway"))
        for option, values in edit.options.items():
            now = now._with_option(name, option, list(values))
        if edit.method is not None:
            now = now._with_method(name, edit.method)
        if edit.comments is not None and now.comments(name) != list(edit.comments):
            now = now._with_comments(name, edit.comments)
        if edit.auto is not None and edit.auto != now.is_auto(name):
            now = now._marked(name) if edit.auto else now._unmarked(name)
        return now

    def _by_family(self, name: str, option: str, wanted: list[str], have: list[str]) -> Interfaces:
        """IPv4 goes into the stanza inet, IPv6 into inet6; a stanza inet6 that has nothing left goes."""
        now = self
        if have == wanted:
            return now
        for family, colon in (("inet", False), ("inet6", True)):
            mine = [a for a in wanted if (":" in a) is colon]
            if mine and not any(s.family in (family, "") for s in now.of(name)):
                now = now._with_stanza(name, family, "static")
            rows = [n for n in now._rows(name, {option}) if (":" in now.lines[n].option[1]) is colon]
            now = now._put(name, rows, option, mine, family)
        empty = [s for s in now.of(name) if s.family == "inet6" and s.method == "static" and s.end == s.first + 1]
        gone = {s.first for s in empty if len(now.of(name)) > 1}
        return Interfaces(tuple(line for n, line in enumerate(now.lines) if n not in gone))

    def _with_option(self, name: str, option: str, wanted: list[str]) -> Interfaces:
        if self.values(name, option) == wanted:
            return self
        return self._put(name, self._rows(name, {canonical(option)}), option, wanted, "inet")

    def _rows(self, name: str, options: set[str]) -> list[int]:
        inside = [n for s in self.of(name) for n in range(s.first + 1, s.end) if self.lines[n].words]
        return [n for n in inside if self.lines[n].option[0] in options]

    def _stripped(self, name: str, options: set[str]) -> Interfaces:
        gone = set(self._rows(name, options))
        return Interfaces(tuple(line for n, line in enumerate(self.lines) if n not in gone))

    def _put(self, name: str, rows: list[int], option: str, values: list[str], family: str) -> Interfaces:
        """Values into the lines where the option was; those too many go, those too few come behind the last option."""
        lines: list[Line | None] = list(self.lines)
        for n, value in zip(rows, values, strict=False):
            if self.lines[n].option[1] != value:
                lines[n] = _option_like(self.lines[n], self.lines[n].words[0], value)
        for n in rows[len(values) :]:
            lines[n] = None
        more = values[len(rows) :]
        if more:
            stanzas = self.of(name)
            home = next((s for f in (family, "") for s in stanzas if s.family == f), stanzas[0])
            inside = [n for n in range(home.first, home.end) if self.lines[n].words]
            at = rows[-1] if rows else inside[-1]
            model = self.lines[inside[-1]] if len(inside) > 1 else Line("\t" + _end_of(self.lines[home.first]))
            ended = _ended(lines[at] or self.lines[at], self._newline)
            lines[at] = ended if lines[at] is not None else None
            lines[at + 1 : at + 1] = [_option_like(_ended(model, self._newline), option, v) for v in more]
        return Interfaces(tuple(line for line in lines if line is not None))

    def _with_method(self, name: str, method: str) -> Interfaces:
        stanza = next((s for s in self.of(name) if s.family in ("inet", "")), self.of(name)[0])
        if stanza.method == method or stanza.family == "inet6":
            return self
        line = self.lines[stanza.first]
        head = " ".join(["iface", name, "inet", method])
        lines = list(self.lines)
        lines[stanza.first] = Line(_indent(line) + head + _end_of(line))
        return Interfaces(tuple(lines))

    def _with_comments(self, name: str, comments: Sequence[str]) -> Interfaces:
        stanza = self.of(name)[0]
        lines = list(self.lines)
        inside = [line for line in lines[stanza.first : stanza.end] if not line.is_comment]
        inside[-1] = _ended(inside[-1], self._newline)
        inside += [Line(f"#{c}{self._newline}") for c in comments]
        return Interfaces((*lines[: stanza.first], *inside, *lines[stanza.end :]))

    def _with_stanza(self, name: str, family: str, method: str) -> Interfaces:
        """A new stanza behind the others of the interface, else at the end of the file."""
        head = Line(f"iface {name} {family} {method}{self._newline}")
        blank = Line(self._newline)
        mine = self.of(name)
        at = mine[-1].end if mine else len(self.lines)
        before = list(self.lines[:at])
        if before:
            before[-1] = _ended(before[-1], self._newline)
            if before[-1].text:
                before.append(blank)
        after = self.lines[at:]
        return Interfaces((*before, head, *([blank] if after and after[0].text else []), *after))

    def _marked(self, name: str) -> Interfaces:
        first = self.of(name)[0].first
        return Interfaces((*self.lines[:first], Line(f"auto {name}{self._newline}"), *self.lines[first:]))

    def _unmarked(self, name: str) -> Interfaces:
        kept = (_unmarked(ln, name) if ln.words[:1] in (["auto"], ["allow-auto"]) else ln for ln in self.lines)
        return Interfaces(tuple(line for line in kept if line is not None))

    @property
    def _newline(self) -> str:
        return "\r\n" if self.lines and self.lines[0].raw.endswith("\r\n") else "\n"


def parse(text: str) -> Interfaces:
    """A file's text, whatever is in it."""
    lines: list[Line] = []
    for raw in _PHYSICAL.findall(text):
        if lines and re.search(r"\\\r?\n\Z", lines[-1].raw):
            lines[-1] = replace(lines[-1], raw=lines[-1].raw + raw)
        else:
            lines.append(Line(raw))
    return Interfaces(tuple(lines))


def render(file: Interfaces) -> str:
    """The text of a file."""
    return "".join(line.raw for line in file.lines)


def prefix_length(mask: str) -> str:
    """ "255.255.255.0" → "24"; a number stays. A mask that is none comes back as it is, for the linter to name."""
    octets = mask.split(".")
    if len(octets) != 4 or not all(o.isdecimal() and int(o) < 256 for o in octets):
        return mask
    bits = "".join(f"{int(o):08b}" for o in octets)
    return str(bits.count("1")) if "01" not in bits else mask


def _indent(line: Line) -> str:
    return line.raw[: len(line.raw) - len(line.raw.lstrip(" \t"))]


def _end_of(line: Line) -> str:
    found = re.search(r"\r?\n\Z", line.raw)
    return found[0] if found else ""


def _ended(line: Line, newline: str) -> Line:
    return line if line.raw.endswith("\n") else Line(line.raw.rstrip("\\") + newline)


def _option_like(model: Line, option: str, value: str) -> Line:
    """A line with the indentation, the gap and the end of another one."""
    gap = re.match(r"\s*\S+([ \t]+)\S", model.raw)
    return Line(f"{_indent(model)}{option}{gap[1] if gap else ' '}{value}{_end_of(model)}")


def _unmarked(line: Line, name: str) -> Line | None:
    """An "auto" or "allow-…" line without one interface; None when nobody is left in it."""
    words = line.words
    if line.keyword not in ("auto", "allow") or name not in words[1:]:
        return line
    kept = [w for w in words if w != name]
    return Line(_indent(line) + " ".join(kept) + _end_of(line)) if len(kept) > 1 else None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Calendar events and firewall files."""

from __future__ import annotations

import datetime

import pytest

from labnode.calendar import CalendarError, next_run
from labnode.fwfile import parse, parse_rule, render, render_rule

START = datetime.datetime(2026, 11, 18, 12, 30).astimezone()  # a Wednesday


@pytest.mark.parametrize(
    ("event", "want"),
    [
        ("02:30", "2026-11-19 02:30"),
        ("21:00", "2026-11-18 21:00"),
        ("mon..fri 12:30", "2026-11-19 12:30"),
        ("sat 18:15", "2026-11-21 18:15"),
        ("sun..tue 0:0", "2026-11-22 00:00"),
        ("*/15", "2026-11-18 12:45"),
        ("*:0/20", "2026-11-18 12:40"),
        ("hourly", "2026-11-18 13:00"),
        ("weekly", "2026-11-23 00:00"),
        ("monthly", "2026-12-01 00:00"),
        ("*-2-29 1:00", "2028-02-29 01:00"),
    ],
)
def test_next_run(event: str, want: str) -> None:
    moment = next_run(event, START.timestamp())
    assert moment is not None
    assert datetime.datetime.fromtimestamp(moment).strftime("%Y-%m-%d %H:%M") == want


@pytest.mark.parametrize(
    "event", ["", "blursday 1:00", "25:00", "1:2:3", "1..0:0", "*-13-1 0:0", "mon 1:00 x", "1/0:0"]
)
def test_no_events(event: str) -> None:
    with pytest.raises(CalendarError):
        next_run(event, START.timestamp())


FW = """\
[OPTIONS]
enable: 1
policy_in: DROP

[ALIASES]
web 10.0.0.5 # the server

[IPSET office] # where we sit
10.1.0.0/16 # all of it
!10.1.0.9

[RULES]
IN SSH(ACCEPT) -i net0 -source +office # admins
|OUT DROP -p tcp -dport 25
GROUP common -i net0

[group common]
IN ACCEPT -p icmp
"""


def test_firewall_file_round_trip() -> None:
    firewall = parse(FW)
    assert render(firewall) == FW
    assert firewall.rules[0] == {
        "type": "in", "action": "ACCEPT", "macro": "SSH", "iface": "net0", "source": "+office", "enable": 1,
        "comment": "admins",
    }  # fmt: skip
    assert firewall.rules[1]["enable"] == 0
    assert render(parse("")) == ""


def test_rules() -> None:
    assert parse_rule("nonsense") is None
    rule = parse_rule("|IN ACCEPT --dport 22 -p tcp")
    assert rule is not None and render_rule(rule) == "|IN ACCEPT -p tcp -dport 22"

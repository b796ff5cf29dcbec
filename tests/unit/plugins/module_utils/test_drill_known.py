# SPDX-License-Identifier: GPL-3.0-or-later
"""What a report says of guests without a canary on a serial port: how finely they were seen, what is not known."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_html import html
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import Journal, read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_markdown import markdown
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_measured import measured
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import Samples
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made

UNKNOWN = "Nobody has numbered the writes of 102 (dns1): whether any is lost is not known."
COARSE = "Guest 102 (dns1) was heard at most 1.4 s apart: a shorter outage is not seen."


def journal(**of_102: Any) -> Journal:
    data = made.storage_full()
    (row,) = [row for row in data["guests"] if row["vmid"] == 102]
    row.update(of_102)
    return read_journal(json.dumps(data), "journal.json")


def opaque() -> Journal:
    counted = {"baseline": 4096, "fault": 0, "after": None}
    return journal(probe="echo", canary=None, latency_ms=None, resolution_s=1.4, written_bytes=counted)


def test_of_an_opaque_guest_nothing_is_claimed() -> None:
    said = measured(opaque())
    assert UNKNOWN in said
    assert COARSE in said
    assert any("had no outage" in sentence for sentence in said), "that it answered all the time is known"


def test_of_a_guest_known_by_its_agent_its_writes_are_told() -> None:
    said = measured(journal(probe="agent", resolution_s=1.4))
    assert UNKNOWN not in said
    assert COARSE in said
    assert not any("heard at most" in sentence for sentence in measured(journal()))


def test_the_report_says_by_what_a_guest_was_watched_and_what_qemu_counted() -> None:
    for text in (html(opaque(), Samples()), markdown(opaque(), Samples())):
        assert "answers at its address (nothing is known of its data)" in text
        assert "What they have written, as QEMU counts it." in text
        assert "4 KiB" in text
        assert "0 KiB" in text
    assert "as QEMU counts it" not in html(journal(), Samples())


def test_how_a_guest_was_known_is_part_of_running_it_again() -> None:
    data = made.storage_full()
    assert "canaries" not in markdown(read_journal(json.dumps(data), "journal.json"), Samples())
    data["plan"] = {**data["plan"], "canaries": {"102": {"by": "opaque", "address": "10.0.0.2"}}}
    text = markdown(read_journal(json.dumps(data), "journal.json"), Samples())
    assert 'canaries: {"102": {"by": "opaque", "address": "10.0.0.2"}}' in text

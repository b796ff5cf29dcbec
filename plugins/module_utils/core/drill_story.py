# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill's report says, in order, as blocks that HTML and Markdown are made of. Both say the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable

from .drill_blocks import Block, Bullets, Cell, Code, Figure, Section, Table, Text, Tone
from .drill_history import ENOUGH, History, Spread
from .drill_journal import Canary, Journal, Latency, Outage
from .drill_measured import measured
from .drill_outlook import outside
from .drill_samples import Samples
from .drill_words import (
    MEASURES,
    MOMENTS,
    PHASES,
    PROBES,
    UNKNOWN,
    VERDICTS,
    clock_time,
    joined,
    many,
    metric,
    seconds,
    since,
)

EVENTS = 200


def story(journal: Journal, samples: Samples, past: History | None) -> list[Section]:
    """The sections after the verdict, from what matters most to what proves it."""
    sections = [
        Section("expected", "Expected and measured", _expected(journal)),
        Section("timeline", "What happened when", _timeline(journal, samples)),
        Section("guests", "How the guests fared", _guests(journal)),
        Section("outside", "Who answered, and whom", outside(journal)),
        Section("host", "What the host felt", _host_felt(journal, samples)),
        Section("guards", "Checks before the start", _guards(journal)),
        Section("undo", "The safety timer", _undo(journal)),
        Section("residue", "What was left behind", _residue(journal)),
        Section("commands", "Exactly what was run", _commands(journal)),
        Section("learn", "What to learn from it", _learn(journal)),
        Section("history", "Compared with earlier runs", _history(past) if past else ()),
        Section("again", "Run it again", _again(journal)),
        Section("events", "Everything in order", _events(journal)),
        Section("evidence", "Evidence", _evidence(journal)),
    ]
    return [section for section in sections if section.blocks]


def _ok(value: bool | None, good: str, bad: str) -> Cell:
    return Cell(UNKNOWN) if value is None else Cell(f"✓ {good}", "good") if value else Cell(f"✗ {bad}", "bad")


def _expected(journal: Journal) -> tuple[Block, ...]:
    signs = tuple(
        (s.name, _ok(s.seen, "seen", "not seen"), since(journal, s.at) if s.at is not None else "", s.evidence or "")
        for s in journal.signature
    )
    table = Table(("Sign of the fault", "Seen", "After injection", "By what it was known"), signs)
    said = tuple(measured(journal))
    return (
        Text(f"Expected: {journal.drill.hypothesis}"),
        *([Bullets(said)] if said else []),
        table if signs else Text("The journal names no signs by which the fault was to be known."),
    )


def _timeline(journal: Journal, samples: Samples) -> tuple[Block, ...]:
    known = sorted((at, name) for name in MOMENTS if (at := journal.marks.get(name)) is not None)
    # Most drills have no remedy that is tried meanwhile, and not every host has guest_watch: that is nothing to tell.
    here = {"relief": bool(journal.plan.relief), "watch": journal.watched}
    meant = [name for name in MOMENTS if here.get(name, True)]
    unknown = [name for name in meant if journal.marks.get(name) is None]
    rows = [(MOMENTS[n][1], since(journal, at), clock_time(journal, at), MOMENTS[n][2]) for at, n in known]
    rows += [(MOMENTS[name][1], "never", "", MOMENTS[name][2]) for name in unknown] if known else []
    phases = tuple(
        (
            f"{s.name}: {PHASES[s.name]}",
            since(journal, s.began),
            seconds(s.ended - s.began) if s.ended is not None else "did not end",
            _ok(s.ok, "ok", "failed"),
            s.text or "",
        )
        for s in journal.states
    )
    moments = Table(("Moment", "After injection", "UTC", "What it means"), tuple(rows))
    rebooted = "The host's clock began anew during the drill, so nothing is drawn and no moment is told in UTC."
    return (
        *([] if journal.one_clock else [Text(rebooted, "warn")]),
        *[Text(note, "warn") for note in samples.notes],
        Figure("timeline"),
        moments if known else Text("Nothing was injected, so there are no moments to tell of."),
        *([Table(("Phase", "Began", "Took", "Result", "Why"), phases)] if phases else []),
    )


def _guests(journal: Journal) -> tuple[Block, ...]:
    if not journal.guests:
        return (Text("No guest was watched."),)
    outages = tuple(
        (
            guest.called,
            guest.role,
            "none" if guest.outage_s == 0 else seconds(guest.outage_s),
            seconds(guest.longest_gap_s),
            "; ".join(_outage(journal, outage) for outage in guest.outages) or "none",
            PROBES[guest.probe],
        )
        for guest in journal.guests
    )
    writes = tuple((guest.called, *_writes(guest.canary)) for guest in journal.guests if guest.canary is not None)
    head = ("Guest", "Acknowledged writes", "Lost", "Damaged", "Data lost (RPO)", "Errors the guest saw", "Boots")
    return (
        Table(("Guest", "Role", "Outage", "Longest silence", "When", "Watched by"), outages),
        *([Table(head, writes)] if writes else []),
        *_latencies(journal),
        *_counted(journal),
    )


def _counted(journal: Journal) -> tuple[Block, ...]:
    """What QEMU has counted of guests that say less themselves."""
    found = [(guest.called, guest.written_bytes) for guest in journal.guests if guest.written_bytes is not None]
    rows = tuple((called, *(_kib(n) for n in (got.baseline, got.fault, got.after))) for called, got in found)
    head = ("Guest", "Before", "During the fault", "After")
    return (Text("What they have written, as QEMU counts it."), Table(head, rows)) if rows else ()


def _kib(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count / 1024:.0f} KiB"


def _latencies(journal: Journal) -> tuple[Block, ...]:
    """How long writes took, with a column for what an operator did meanwhile where there was something."""
    found = [(guest.called, guest.latency_ms) for guest in journal.guests if guest.latency_ms is not None]
    if not found:
        return ()
    spans = [("Before", "baseline"), ("During the fault", "fault"), ("With the remedy", "relief"), ("After", "after")]
    if journal.marks.get("relief") is None:
        spans = [(head, name) for head, name in spans if name != "relief"]
    rows = tuple((called, *(_latency(getattr(times, name)) for _head, name in spans)) for called, times in found)
    return (
        Text("How long a write took: the median, the 99th percentile and the longest, in milliseconds."),
        Table(("Guest", *(head for head, _name in spans)), rows),
    )


def _writes(canary: Canary) -> tuple[Cell | str, ...]:
    """A guest's numbered writes: acknowledged, lost, damaged, RPO, errors, boots."""
    unread = Cell("not checked", "warn")
    return (
        UNKNOWN if canary.acked is None else str(canary.acked),
        _numbers(canary.lost) if canary.checked else unread,
        _numbers(canary.corrupt) if canary.checked else unread,
        f"{UNKNOWN if canary.rpo_records is None else many(canary.rpo_records, 'write')}, {seconds(canary.rpo_s)}"
        if canary.checked
        else UNKNOWN,
        "; ".join(f"{error} ({many(n, 'time')})" for error, n in sorted(canary.errors.items())) or "none",
        UNKNOWN if canary.boots is None else str(canary.boots),
    )


def _outage(journal: Journal, outage: Outage) -> str:
    lasted = f"for {seconds(outage.s)}" if outage.to is not None else "and not over"
    return f"{since(journal, outage.from_)}, {lasted}"


def _numbers(found: tuple[int, ...]) -> Cell:
    """Numbers of records that are lost or damaged; a few of them are enough."""
    if not found:
        return Cell("✓ none", "good")
    more = ", …" if len(found) > 5 else ""
    return Cell(f"✗ {len(found)} (numbers {', '.join(map(str, found[:5]))}{more})", "bad")


def _latency(found: Latency | None) -> str:
    if found is None or found.n == 0:
        return "no write"
    told = " / ".join("?" if v is None else f"{v:.1f}" for v in (found.p50, found.p99, found.max))
    return f"{told} ms, {many(found.n, 'write')}"


def _host_felt(journal: Journal, samples: Samples) -> tuple[Block, ...]:
    host, recorder = journal.host, journal.recorder
    memory = UNKNOWN if host.memory_mib is None else f"{host.memory_mib:.0f} MiB"
    reboots = host.boot_id_before is not None and host.boot_id_after not in (None, host.boot_id_before)
    rows = [
        ("Host", host.name),
        ("Kernel", host.kernel or UNKNOWN),
        ("QEMU", host.qemu or UNKNOWN),
        ("Proxmox VE", host.pve or "none, or not known"),
        ("Processors, memory", f"{host.cpus or UNKNOWN}, {memory}"),
        ("Rebooted during the drill", "yes" if reboots else "no" if host.boot_id_after else UNKNOWN),
    ]
    if recorder:
        load = UNKNOWN if recorder.cpu_share is None else f"{recorder.cpu_share * 100:.1f} % of one processor"
        count = UNKNOWN if recorder.samples is None else many(recorder.samples, "sample")
        rate = "" if recorder.hz is None else f", {recorder.hz:g} a second"
        rows.append(("Recorder", f"{count}{rate}, {many(len(recorder.gaps), 'gap')}, used {load}"))
    return (Figure("plots"), Table(("What", "Value"), tuple(rows)))


def _guards(journal: Journal) -> tuple[Block, ...]:
    if not journal.guards:
        return (Text("The journal holds no checks."),)
    rows = tuple(
        (g.name, _ok(g.ok, "fine", "refused"), g.value or "", "" if g.ok else g.remedy or "") for g in journal.guards
    )
    return (Table(("Check", "Result", "What was seen", "What to do"), rows),)


def _undo(journal: Journal) -> tuple[Block, ...]:
    undo, injected = journal.undo, journal.marks.get("inject")
    armed = undo.armed if undo else None
    warning: list[Block] = []
    if injected is not None and (armed is None or armed > injected):
        warning = [Text("The fault was injected without a safety timer that was armed before.", "bad")]
    if undo is None:
        return (*warning, Text("No safety timer was prepared."))
    fired = "not known whether it fired" if undo.fired is None else "it fired" if undo.fired else "it did not fire"
    row = (
        undo.unit or "none",
        _ok(undo.rehearsed, "yes", "no"),
        since(journal, armed) if armed is not None else "never",
        since(journal, undo.due) if undo.due is not None else "",
        Cell(fired, "warn" if undo.fired else ""),
    )
    says = "The host itself would have undone the fault at the time below, even if nobody could reach it any more."
    heads = ("Timer", "Rehearsed before", "Armed", "Due", "In the end")
    return (*warning, Text(says if armed is not None else "The safety timer was never armed."), Table(heads, (row,)))


def _residue(journal: Journal) -> tuple[Block, ...]:
    residue = journal.residue
    if residue is None or not (residue.checked or residue.left):
        return (Text("Nobody looked for what the drill may have left behind."),)
    looked = f"Looked at: {joined(list(residue.checked))}." if residue.checked else ""
    if not residue.left:
        return (Text(f"Nothing was left behind. {looked}", "good"),)
    found = many(len(residue.left), "thing")
    return (Text(f"{found} left behind. Remove by hand: {looked}".strip(), "bad"), Bullets(residue.left))


def _commands(journal: Journal) -> tuple[Block, ...]:
    plan = journal.plan
    return (
        Text(f"Target: {joined(list(plan.targets)) if plan.targets else UNKNOWN}."),
        *([Text("The injection:"), Code(plan.inject)] if plan.inject else [Text("There was no text to inject.")]),
        *([Text("What an operator did meanwhile:"), Code(plan.relief)] if plan.relief else []),
        *([Text("The undo:"), Code(plan.undo)] if plan.undo else [Text("There was no text to undo it.")]),
    )


def _learn(journal: Journal) -> tuple[Block, ...]:
    lessons = [Bullets(journal.drill.learn)] if journal.drill.learn else []
    remedy = [Text(f"What repairs it: {journal.drill.remedy}")] if journal.drill.remedy else []
    unwatched = [] if journal.watched or journal.marks.get("effect") is None else [Text(_UNWATCHED)]
    return (*lessons, *remedy, *unwatched, Text(f"Next: {VERDICTS[journal.verdict].then}"))


_UNWATCHED = (
    "As far as the drill knows, nobody would have been told: the role guest_watch installs a watch, and the drill then"
    " shows how soon it tells."
)


def _history(past: History) -> tuple[Block, ...]:
    told = [f"{VERDICTS[verdict].headline.lower()} ({many(n, 'time')})" for verdict, n in past.verdicts]
    where = f" They ran on {joined(list(past.hosts))}, which may not compare." if len(past.hosts) > 1 else ""
    later = f" {many(past.later, 'later run')} not counted." if past.later else ""
    rows = tuple(_spread(spread) for spread in past.spreads)
    head = ("Metric", "This run", "Lowest before", "Median before", "Highest before", "Earlier runs", "Verdict")
    return (
        Text(f"{many(past.earlier, 'earlier run')}. With this one: {joined(told)}.{where}{later}"),
        Table(head, rows),
        Text(f"Better or worse is said from {ENOUGH} earlier runs on, and only outside of their whole range."),
    )


def _spread(spread: Spread) -> tuple[Cell | str, ...]:
    times = (spread.newest, spread.lowest, spread.middle, spread.highest)
    shown = ("-" if value is None else seconds(value) for value in times)
    tones: dict[str, tuple[str, Tone]] = {
        "better": ("▼ better", "good"),
        "worse": ("▲ worse", "bad"),
        "same": ("same", ""),
        "": ("too few runs" if spread.n < ENOUGH else "not measured this time", ""),
    }
    return (MEASURES[spread.metric][0], *shown, str(spread.n), Cell(*tones[spread.judged]))


def _again(journal: Journal) -> tuple[Block, ...]:
    """The command, and the settings in the form that the role ``drill`` takes them; JSON is YAML, too."""
    plan, name = journal.plan, journal.drill.name
    settings: list[tuple[str, object]] = [
        ("victims", list(plan.victims)),
        ("bystanders", list(plan.bystanders)),
        ("options", dict(plan.fault.options)),
        *([("canaries", dict(plan.canaries))] if plan.canaries else []),
        ("limits", dict(plan.limits)),
    ]
    lines = [f"    {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings]
    command = f"ansible-playbook pvelab.proxmox.drill -e {shlex.quote(f'drill_name={name}')}"
    harm = f"The most that it can harm: {journal.drill.blast_radius}."
    return (
        Text(f"Look first at what would be broken, with --check. {harm}"),
        Code(f"{command} --check\n{command}"),
        Text("Only the same settings compare with this run:"),
        Code("\n".join(["drill_targets:", f"  {json.dumps(name, ensure_ascii=False)}:", *lines]), "yaml"),
    )


def _events(journal: Journal) -> tuple[Block, ...]:
    ordered = sorted(journal.events, key=lambda event: event.at) if journal.one_clock else journal.events
    shown = ordered[:EVENTS]
    rows = tuple(
        (since(journal, e.at), clock_time(journal, e.at), e.source, "" if e.guest is None else str(e.guest), e.text)
        for e in shown
    )
    more = len(journal.events) - len(shown)
    rest = [Text(f"{many(more, 'more event')} in journal.json.")] if more else []
    return (Table(("After injection", "UTC", "Who saw it", "Guest", "What"), rows), *rest) if rows else ()


def _evidence(journal: Journal) -> tuple[Block, ...]:
    rows = tuple((e.name, e.sha256 or UNKNOWN, UNKNOWN if e.bytes is None else str(e.bytes)) for e in journal.evidence)
    table = Table(("File", "SHA-256", "Bytes"), rows)
    says = Text(f"Run {journal.run}, machine {journal.host.machine_id or UNKNOWN}, journal {journal.schema}.")
    return (says, table if rows else Text("The journal names no files."))


def tiles(journal: Journal) -> Iterable[tuple[str, str, str]]:
    """The metrics: name, value, what it measures."""
    return [(MEASURES[key][0], metric(journal, key), MEASURES[key][1]) for key in journal.measures]

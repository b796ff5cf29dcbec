# SPDX-License-Identifier: GPL-3.0-or-later
"""Same-page merging: the kernel's knobs in their order, the file for the boot, ksmtuned's settings, the steps. Pure.

Facts: Documentation/admin-guide/mm/ksm.rst and mm/ksm.c of Linux; ksmtuned as Proxmox VE packages it in
ksm-control-daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .options import listed
from .reconcile import Params, Plan
from .state import State
from .steps import Failure, Run, Step, Write
from .tunables import assignments, boot_values, in_place, shown, with_assignments, with_boot_values

SYSFS = "/sys/kernel/mm/ksm"
BOOT_FILE = "/etc/tmpfiles.d/pvelab-ksm.conf"
TUNED_FILE = "/etc/ksmtuned.conf"
UNIT = "ksmtuned.service"
HEAD = "Same-page merging at boot. Kept by pvelab.proxmox.ksm."

KNOBS: Mapping[str, str] = {
    "merge_across_nodes": "one that is built with NUMA",
    "max_page_sharing": "Linux 4.13",
    "use_zero_pages": "Linux 4.12",
    "smart_scan": "Linux 6.7",
    "advisor_mode": "Linux 6.8",
    "advisor_max_cpu": "Linux 6.8",
    "advisor_min_pages_to_scan": "Linux 6.8",
    "advisor_max_pages_to_scan": "Linux 6.8",
    "advisor_target_scan_time": "Linux 6.8",
    "sleep_millisecs": "Linux 2.6.32",
    "pages_to_scan": "Linux 2.6.32",
}
"""What can be set, in the order in which it has to be, and since which kernel. ``run`` comes after all of them."""

SWITCHES = frozenset({"merge_across_nodes", "use_zero_pages", "smart_scan"})
# The kernel answers EBUSY to a change of these while it has merged pages.
UNMERGED_ONLY = frozenset({"merge_across_nodes", "max_page_sharing"})
# What ksmtuned writes by itself, each minute.
TUNED = ("state", "pages_to_scan", "sleep_millisecs")
TUNED_KEYS = (
    "KSM_MONITOR_INTERVAL", "KSM_SLEEP_MSEC", "KSM_NPAGES_BOOST", "KSM_NPAGES_DECAY", "KSM_NPAGES_MIN",
    "KSM_NPAGES_MAX", "KSM_THRES_COEF", "KSM_THRES_CONST", "KSM_PS_METRIC", "LOGFILE", "DEBUG",
)  # fmt: skip


def value(name: str, text: str) -> Any:
    """A knob's text as a value: "[none] scan-time" → "none", "1" → True for a switch, else a number."""
    if name == "advisor_mode":
        chosen = [word.strip("[]") for word in text.split() if word.startswith("[")]
        return chosen[0] if chosen else text.strip()
    return text.strip() == "1" if name in SWITCHES else int(text)


def wanted(params: Params) -> State:
    """The wanted state of a task; ``runtime.merged`` is False where pages that are merged are to be taken apart."""
    knobs = {name: params[name] for name in KNOBS if params[name] is not None}
    state: State = {f"runtime.{name}": v for name, v in knobs.items()}
    running = None if params["state"] is None else params["state"] == "running"
    state["runtime.running"] = running
    state["runtime.merged"] = False if params["state"] == "unmerged" else None
    if params["persist"]:
        state |= {f"persisted.{name}": v for name, v in knobs.items()}
        state["persisted.running"] = running
        if params["ksmtuned"]:
            # The file would fight with the daemon at each boot.
            state |= {f"persisted.{key}": "" for key in ("running", "pages_to_scan", "sleep_millisecs")}
    state["ksmtuned.enabled"] = state["ksmtuned.active"] = params["ksmtuned"]
    state |= {f"ksmtuned.{key}": str(v) for key, v in (params["ksmtuned_settings"] or {}).items()}
    return state


def observed(knobs: Mapping[str, str], boot: str | None, tuned: str | None, unit: Mapping[str, str]) -> State:
    """The observed state, from the texts of the knobs (with ``run`` and ``pages_shared``) and of both files."""
    state: State = {f"runtime.{name}": value(name, knobs[name]) for name in KNOBS if name in knobs}
    state["runtime.running"] = knobs["run"].strip() == "1"
    state["runtime.merged"] = int(knobs["pages_shared"]) > 0
    for path, text in boot_values(boot).items():
        name = path.rpartition("/")[2]
        if name in KNOBS:
            state[f"persisted.{name}"] = value(name, text)
        elif name == "run":
            state["persisted.running"] = text == "1"
    state["ksmtuned.enabled"] = unit.get("UnitFileState") == "enabled"
    state["ksmtuned.active"] = unit.get("ActiveState") == "active"
    return state | {f"ksmtuned.{k}": v for k, v in assignments(tuned).items() if k in TUNED_KEYS}


def refuse(params: Params, have: State, present: list[str]) -> None:
    """Raise Failure for what cannot be: a knob that this kernel lacks, or two who set the same one."""
    for name in [n for n in KNOBS if params[n] is not None and n not in present]:
        raise Failure(f"this kernel has no {name}. It takes {KNOBS[name]} or later; leave the option away.")
    strange = sorted(set(params["ksmtuned_settings"] or {}) - set(TUNED_KEYS))
    if strange:
        raise Failure(f"ksmtuned has no setting {listed(strange)}. It knows {listed(TUNED_KEYS)}.")
    tuned = params["ksmtuned"] if params["ksmtuned"] is not None else have["ksmtuned.active"]
    own = [name for name in TUNED if params[name] is not None]
    if tuned and own:
        raise Failure(f"ksmtuned sets {listed(own)} by itself. Leave that to it, or set ksmtuned: false.")
    mode = params["advisor_mode"] or have.get("runtime.advisor_mode", "none")
    if mode != "none" and (tuned or params["pages_to_scan"] is not None):
        who = "ksmtuned" if tuned else "pages_to_scan"
        raise Failure(
            f"the kernel's advisor ({mode}) sets pages_to_scan by itself, so {who} cannot. Choose one of both."
        )


def steps(plan: Plan, params: Params) -> list[Step]:
    """The steps: ksmtuned stops before the knobs change and starts after them; the files come in between.

    Raises Failure where taking merged pages apart takes more memory than there is.
    """
    changes = {key: change.after for key, change in plan.changes.items()}
    knobs = _knobs(plan, changes)
    needed, available = params["_merged_bytes"], params["_available_bytes"]
    if any(s.path == f"{SYSFS}/run" and s.content == "2\n" for s in knobs) and needed > available:
        raise Failure(
            f"taking merged pages apart needs {needed >> 20} MiB and only {available >> 20} MiB are available. "
            "Stop guests first."
        )
    texts = params["_texts"]
    units = {k for k in ("ksmtuned.enabled", "ksmtuned.active") if k in changes}
    tuned = {k.removeprefix("ksmtuned."): v for k, v in changes.items() if k.startswith("ksmtuned.") and k not in units}
    before: list[Step] = []
    after: list[Step] = []
    if units:
        verb = "enable" if plan.after("ksmtuned.enabled") else "disable"
        (after if verb == "enable" else before).append(_systemctl(verb, "--now", UNIT))
    if tuned:
        text = with_assignments(texts[TUNED_FILE], tuned, "Settings of ksmtuned.")
        before.append(Write(TUNED_FILE, text, label="settings of ksmtuned"))
        if plan.after("ksmtuned.active") and "ksmtuned.active" not in units:
            after.append(_systemctl("restart", UNIT))  # it reads its settings when it starts, and only then
    return [*before, *knobs, *_boot(plan, changes, texts[BOOT_FILE]), *after]


def _knobs(plan: Plan, changes: Mapping[str, Any]) -> list[Write]:
    have = plan.have or {}
    names = [name for name in KNOBS if f"runtime.{name}" in changes]
    if "advisor_mode" in names and (plan.want or {}).get("runtime.pages_to_scan") is not None:
        names = [*(n for n in names if n != "pages_to_scan"), "pages_to_scan"]  # another advisor resets it
    written = [in_place(f"{SYSFS}/{n}", plan.after(f"runtime.{n}"), f"same-page merging: {n}") for n in names]
    apart = "runtime.merged" in changes
    running, first = have["runtime.running"], []
    if UNMERGED_ONLY & set(names) and (running or have["runtime.merged"]):
        first = [in_place(f"{SYSFS}/run", 2, "take merged pages apart, as the kernel asks for it")]
        running = apart = False
    if apart:
        return [*first, *written, in_place(f"{SYSFS}/run", 2, "stop and take merged pages apart")]
    if plan.after("runtime.running") != running:
        running = plan.after("runtime.running")
        written.append(in_place(f"{SYSFS}/run", running, f"same-page merging: {'start' if running else 'stop'}"))
    return [*first, *written]


def _boot(plan: Plan, changes: Mapping[str, Any], text: str | None) -> list[Step]:
    keys = [key for key in changes if key.startswith("persisted.")]
    if not keys:
        return []
    values: dict[str, str | None] = {}
    for name in [*KNOBS, "running"]:
        kept = (plan.want or {}).get(f"persisted.{name}")
        kept = (plan.have or {}).get(f"persisted.{name}") if kept is None else kept
        path = f"{SYSFS}/{'run' if name == 'running' else name}"
        values[path] = None if kept in (None, "") else shown(kept)
    return [Write(BOOT_FILE, with_boot_values(text, values, HEAD), label="same-page merging at boot", backup=False)]


def _systemctl(*words: str) -> Run:
    return Run(("systemctl", *words), label=f"{words[0]} ksmtuned")

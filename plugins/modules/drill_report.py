#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: drill_report
short_description: Write the report of a failure drill
version_added: 1.0.0
description:
  - Turns the journal of a failure drill, and the samples beside it, into files that people and other programs read.
  - C(report.html) is one file without scripts that needs nothing from elsewhere, with a timeline and plots.
  - C(report.svg) is its beginning as a picture, for a page or a ticket that tells of the run.
  - C(report.md) says the same in Markdown, C(junit.xml) is for systems that count tests, and C(chaostoolkit.json) for
    viewers of journals of the Chaos Toolkit. In both, nothing but the verdict V(passed) is a success.
  - The same journal gives the same files, so a second run changes nothing.
  - It runs on the host where the journal is, and touches nothing else there.
options:
  journal:
    description:
      - The C(journal.json) of the drill. Its format is in C(docs/drills/journal.schema.json).
      - A C(samples.jsonl) is looked for beside it. Where there is none, the report says so.
    type: path
    required: true
  path:
    description: The directory of the files. It is made if it is not there.
    type: path
    required: true
  formats:
    description: Which files to write. Files of other formats are left as they are.
    type: list
    elements: str
    choices: [html, markdown, svg, junit, chaostoolkit]
    default: [html, markdown, svg, junit, chaostoolkit]
  history:
    description:
      - Journals of earlier runs of the same drill, in any order. HTML and Markdown then compare this run with them.
      - A run is called better or worse only with three earlier ones or more. Runs that came later do not count.
    type: list
    elements: path
    default: []
extends_documentation_fragment:
  - pvelab.proxmox.attributes
author:
  - The pvelab.proxmox contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Write the report beside the journal
  pvelab.proxmox.drill_report:
    journal: /var/lib/pvelab-drills/20261122T021500Z-storage_full-1a2b3c/journal.json
    path: /var/lib/pvelab-drills/20261122T021500Z-storage_full-1a2b3c
  register: report

- name: Say how it went
  ansible.builtin.debug:
    msg: "{{ report.object.verdict }}: {{ report.object.because }}"

- name: Write it for a machine that reads JUnit, with the runs before as its history
  pvelab.proxmox.drill_report:
    journal: /var/lib/pvelab-drills/20261122T021500Z-storage_full-1a2b3c/journal.json
    path: /srv/reports
    formats: [junit]
    history: ["{{ last_week }}/journal.json"]
"""

RETURN = r"""
object:
  description: The report, as it is now; before the change in check mode.
  returned: success
  type: dict
  contains:
    run:
      description: Which run it is of.
      type: str
    verdict:
      description:
        - C(passed), C(recovered_by_deadman), C(hypothesis_refuted), C(fault_not_observed), C(not_recovered),
          C(aborted_preflight), C(inconclusive) or C(skipped).
      type: str
    because:
      description: Why, in a sentence.
      type: str
    metrics:
      description:
        - Seconds, C(time_to_detect_s), C(blind_s), C(time_to_recover_s) and C(outage_s).
        - Null for what was not measured.
        - C(watch_s) is there only where guest_watch was, and null where it said nothing.
      type: dict
    paths:
      description: The file of each format.
      type: dict
    sha256:
      description: The checksum of each file that is there.
      type: dict
  sample:
    run: 20261122T021500Z-storage_full-1a2b3c
    verdict: passed
    because: Guest 103 stopped with io-error, went on after space was freed, and lost no write.
    metrics: {time_to_detect_s: 0.4, blind_s: 6.1, time_to_recover_s: 3.2, outage_s: 19.2}
    paths: {html: /var/lib/pvelab-drills/report.html}
    sha256: {html: 5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03}
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_render
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_history import history
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import Journal, read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import NAME, read_samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.reconcile import Params, Plan, Resource, State
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Missing, Run, Write
from ansible_collections.pvelab.proxmox.plugins.module_utils.host import Host
from ansible_collections.pvelab.proxmox.plugins.module_utils.module import run

FORMATS = ["html", "markdown", "svg", "junit", "chaostoolkit"]
OPTIONS = {
    "journal": {"type": "path", "required": True},
    "path": {"type": "path", "required": True},
    "formats": {"type": "list", "elements": "str", "choices": FORMATS, "default": FORMATS},
    "history": {"type": "list", "elements": "path", "default": []},
}


def journal_at(host: Any, path: str) -> Journal:
    text = host.read(path)
    if text is None:
        raise Missing(f"there is no journal at {path}. Run the drill first, or correct the path.")
    return read_journal(text, path)


def resolve(host: Any, params: Params) -> Mapping[str, Any]:
    drill_render.checked(params)
    journal = journal_at(host, params["journal"])
    samples = read_samples(host.read(drill_render.beside(params["journal"], NAME)), journal.evidence)
    others = [journal_at(host, path) for path in params["history"]]
    past = history(journal, others) if others else None
    there = host.link(params["path"]) is not None
    if there:
        host.names(params["path"])  # which refuses what is no directory
    texts = drill_render.render(journal, samples, past, params["formats"])
    return {"_told": drill_render.told(journal), "_texts": texts, "_there": there}


def want(params: Params) -> State | None:
    paths = drill_render.paths(params["path"], params["formats"])
    return {**params.get("_told", {}), "paths": paths, **drill_render.digests(params.get("_texts", {}))}


def read(host: Any, params: Params) -> State | None:
    paths = drill_render.paths(params["path"], params["formats"])
    texts = {name: host.read(path) for name, path in paths.items()}
    return {**params["_told"], "paths": paths, **drill_render.digests(texts)}


def steps(plan: Plan, params: Params) -> Sequence[Run | Write]:
    paths = drill_render.paths(params["path"], params["formats"])
    made = [] if params["_there"] else [Run(("mkdir", "-p", "--", params["path"]), label="make the directory")]
    changed = [name for name in paths if f"sha256.{name}" in plan.changes]
    files = [Write(paths[n], params["_texts"][n], label=f"write the report ({n})", backup=False) for n in changed]
    return [*made, *files]


RESOURCE = Resource(
    noun="drill report",
    options=OPTIONS,
    want=want,
    resolve=resolve,
    read=read,
    steps=steps,
    name=lambda params: f"of {params['journal']} in {params['path']}",
)


def main() -> None:
    run(RESOURCE, Host)


if __name__ == "__main__":
    main()

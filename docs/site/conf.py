# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx makes the site. `make docs` lays this file at the top of a copy of the pages (tools/docs_site.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes

project = "pvelab.proxmox"
author = "The pvelab.proxmox contributors"
project_copyright = author
extensions = ["myst_parser", "sphinx_antsibull_ext"]
html_theme = "furo"
html_title = project
html_copy_source = False
myst_heading_anchors = 4
# What the reference leads to in Ansible's own documentation. The network is not asked, so each is named here.
ELSEWHERE = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "callback_plugins": "plugins/callback.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}
VARIABLES = "reference_appendices/config.html#envvar-"
ANSIBLE = "https://docs.ansible.com/ansible/latest/"

OURS = "pvelab.proxmox."
KINDS = ("module", "role", "inventory", "callback", "filter", "lookup")


def labels() -> dict[str, str]:
    """Where `pvelab.proxmox.NAME` leads to in the reference: its module, or its role, or whatever there is."""
    folder = Path(__file__).parent / "reference"
    found: dict[str, str] = {}
    for kind in KINDS:
        for path in sorted(folder.glob(f"*_{kind}.rst")):
            found.setdefault(OURS + path.stem.removesuffix(f"_{kind}"), f"ansible_collections.{OURS}{path.stem}")
    return found


def link_names(app: Any, doctree: nodes.document) -> None:
    """Names of plugins and roles in pages of ours lead to their reference."""
    known = app.config.reference_labels
    for literal in list(doctree.findall(nodes.literal)):
        label = known.get(literal.astext())
        if label is None or isinstance(literal.parent, nodes.reference | addnodes.pending_xref):
            continue
        ref = addnodes.pending_xref(
            "", refdomain="std", reftype="ref", reftarget=label, refexplicit=True, refwarn=True, refdoc=app.env.docname
        )
        literal.replace_self(ref)
        ref += literal


def elsewhere(_app: Any, _env: Any, node: addnodes.pending_xref, inner: nodes.Element) -> nodes.reference | None:
    """A link into Ansible's own documentation, for what is not ours."""
    target = str(node["reftarget"])
    if node.get("reftype") == "envvar" and target.startswith("ANSIBLE_"):
        place = VARIABLES + target
    elif node.get("reftype") == "ref" and target in ELSEWHERE:
        place = ELSEWHERE[target]
    else:
        return None
    return nodes.reference("", "", inner, internal=False, refuri=ANSIBLE + place)


def setup(app: Any) -> dict[str, bool]:
    app.add_config_value("reference_labels", labels(), "env")
    app.connect("doctree-read", link_names)
    app.connect("missing-reference", elsewhere)
    return {"parallel_read_safe": True}

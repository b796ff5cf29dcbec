# SPDX-License-Identifier: GPL-3.0-or-later
"""Which fields of AWX's objects a client may write, and what hangs on them (awx/api/serializers.py, AWX 24.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """``kind`` is a Python type by name. ``leads`` is where the object is whose id it holds; None holds none."""

    kind: str
    default: Any = None
    needed: bool = False
    leads: str = ""
    choices: Sequence[Any] = ()
    null: bool = False

    def takes(self, value: Any) -> bool:
        if value is None:
            return self.null or (bool(self.leads) and not self.needed)
        if self.choices:
            return value in self.choices
        return type(value).__name__ == self.kind


def text(default: str = "", **more: Any) -> Field:
    return Field("str", default, **more)


def one_of(*choices: Any, default: Any = None) -> Field:
    return Field("str", choices[0] if default is None else default, choices=choices)


def to(place: str, *, needed: bool = False) -> Field:
    return Field("int", None, needed, place)


NAME = text(needed=True)
YES, NO = Field("bool", True), Field("bool", False)
NUMBER, ONE, MAPPING = Field("int", 0), Field("int", 1), Field("dict", {})
NAMED = {"name": NAME, "description": text()}
NOTHING = Field("str", None, null=True)
PROMPTS = {
    "inventory": to("inventories"),
    "execution_environment": to("execution_environments"),
    "diff_mode": Field("bool", None, null=True),
    **{name: Field("int", None, null=True) for name in ("verbosity", "forks", "job_slice_count", "timeout")},
    **{name: NOTHING for name in ("scm_branch", "job_type", "job_tags", "skip_tags", "limit")},
}
ASKS = (
    "scm_branch diff_mode variables limit tags skip_tags job_type verbosity inventory credential execution_environment",
    "labels forks job_slice_count timeout instance_groups",
)
WORKFLOW_ASKS = "variables inventory scm_branch limit labels tags skip_tags"
# A field that is asked for under another name than its own.
ASKED = {"job_tags": "tags"}

FIELDS: dict[str, dict[str, Field]] = {
    "organizations": {**NAMED, "max_hosts": NUMBER, "default_environment": to("execution_environments")},
    "credential_types": {
        **NAMED,
        "kind": one_of("cloud", "net", "ssh"),
        "managed": Field("bool", False, choices=(False,)),
        "inputs": MAPPING,
        "injectors": MAPPING,
    },
    "credentials": {
        **NAMED,
        "organization": to("organizations"),
        "credential_type": to("credential_types", needed=True),
        "inputs": MAPPING,
    },
    "execution_environments": {
        **NAMED,
        "organization": to("organizations"),
        "image": NAME,
        "credential": to("credentials"),
        "pull": one_of("", "always", "missing", "never"),
    },
    "notification_templates": {
        **NAMED,
        "organization": to("organizations", needed=True),
        "notification_type": one_of("webhook", "email", "slack", "mattermost", "grafana", "irc", "pagerduty", "twilio"),
        "notification_configuration": MAPPING,
        "messages": Field("dict", None, null=True),
    },
    "projects": {
        **NAMED,
        "organization": to("organizations"),
        "local_path": text(),
        "scm_type": one_of("", "git", "svn", "insights", "archive"),
        **{name: text() for name in ("scm_url", "scm_branch", "scm_refspec")},
        **{name: NO for name in ("scm_clean", "scm_track_submodules", "scm_delete_on_update", "scm_update_on_launch")},
        "scm_update_cache_timeout": NUMBER,
        "allow_override": NO,
        "timeout": NUMBER,
        "credential": to("credentials"),
        "signature_validation_credential": to("credentials"),
        "default_environment": to("execution_environments"),
    },
    "inventories": {
        **NAMED,
        "organization": to("organizations", needed=True),
        "kind": Field("str", "", choices=("", "smart", "constructed"), null=True),
        "host_filter": NOTHING,
        "variables": text(),
        "prevent_instance_group_fallback": NO,
    },
    "inventory_sources": {
        **NAMED,
        "inventory": to("inventories", needed=True),
        "source": one_of("scm", "ec2", "gce", "azure_rm", "vmware", "satellite6", "openstack", "controller"),
        "source_project": to("projects"),
        **{name: text() for name in ("source_path", "source_vars", "enabled_var", "enabled_value", "host_filter")},
        **{name: text() for name in ("limit", "scm_branch")},
        **{name: NO for name in ("overwrite", "overwrite_vars", "update_on_launch")},
        "timeout": NUMBER,
        "update_cache_timeout": NUMBER,
        "verbosity": Field("int", 1, choices=(0, 1, 2)),
        "credential": to("credentials"),
        "execution_environment": to("execution_environments"),
    },
    "job_templates": {
        **NAMED,
        "organization": to("organizations"),
        "job_type": one_of("run", "check"),
        "inventory": to("inventories"),
        "project": to("projects", needed=True),
        "playbook": NAME,
        **{name: text() for name in ("scm_branch", "limit", "extra_vars", "job_tags", "skip_tags", "start_at_task")},
        **{name: NUMBER for name in ("forks", "timeout")},
        "verbosity": Field("int", 0, choices=tuple(range(6))),
        "host_config_key": text(),
        "execution_environment": to("execution_environments"),
        **{f"ask_{name}_on_launch": NO for name in " ".join(ASKS).split()},
        **{name: NO for name in ("force_handlers", "use_fact_cache", "survey_enabled", "become_enabled", "diff_mode")},
        **{name: NO for name in ("allow_simultaneous", "prevent_instance_group_fallback")},
        "job_slice_count": ONE,
        "webhook_service": one_of("", "github", "gitlab"),
        "webhook_credential": to("credentials"),
    },
    "workflow_job_templates": {
        **NAMED,
        "organization": to("organizations"),
        **{name: text() for name in ("extra_vars", "job_tags", "skip_tags")},
        "inventory": to("inventories"),
        "limit": NOTHING,
        "scm_branch": NOTHING,
        **{f"ask_{name}_on_launch": NO for name in WORKFLOW_ASKS.split()},
        **{name: NO for name in ("survey_enabled", "allow_simultaneous")},
        "webhook_service": one_of("", "github", "gitlab"),
        "webhook_credential": to("credentials"),
    },
    "workflow_job_template_nodes": {
        **PROMPTS,
        "extra_data": MAPPING,
        "identifier": NAME,
        "workflow_job_template": to("workflow_job_templates", needed=True),
        "unified_job_template": to("unified_job_templates"),
        "all_parents_must_converge": NO,
    },
    "workflow_approval_templates": {**NAMED, "timeout": NUMBER},
    "schedules": {
        **PROMPTS,
        "extra_data": MAPPING,
        **NAMED,
        "unified_job_template": to("unified_job_templates", needed=True),
        "rrule": NAME,
        "enabled": YES,
    },
}
TYPES = {
    **{place: place.removesuffix("s") for place in FIELDS},
    "inventories": "inventory",
}
UNIFIED = ("projects", "inventory_sources", "job_templates", "workflow_job_templates", "workflow_approval_templates")
NOTIFIED = {f"notification_templates_{when}": "notification_templates" for when in ("started", "success", "error")}
APPROVED = {**NOTIFIED, "notification_templates_approvals": "notification_templates"}
JOINED: dict[str, dict[str, str]] = {
    "organizations": {**APPROVED, "galaxy_credentials": "credentials"},
    "projects": NOTIFIED,
    "inventory_sources": NOTIFIED,
    "job_templates": {**NOTIFIED, "credentials": "credentials"},
    "workflow_job_templates": APPROVED,
    "workflow_job_template_nodes": {
        "credentials": "credentials",
        **{name: "workflow_job_template_nodes" for name in ("success_nodes", "failure_nodes", "always_nodes")},
    },
    "schedules": {"credentials": "credentials"},
}

# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine as a declaration: the modules vm and guests share it."""

from __future__ import annotations

from typing import Any

from .core.guest_steps import vm_steps
from .core.guest_want import options, wanted
from .core.options import ONE_GUEST, guest
from .core.reconcile import Params, Resource
from .core.state import State
from .guest_find import situate
from .guest_read import read_vm

OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "allow_data_loss": {"type": "bool", "default": False},
    "vmid": {"type": "int"},
    "vmid_range": {"type": "list", "elements": "int"},
    "name": {"type": "str"},
    "rename": {"type": "bool", "default": False},
    "node": {"type": "str"},
    "pool": {"type": "str"},
    "status": {"type": "str", "choices": ["running", "stopped", "paused"]},
    "shutdown_timeout_s": {"type": "int", "default": 180},
    "force_stop": {"type": "bool", "default": False},
    "apply_pending": {"type": "str", "choices": ["report", "reboot"], "default": "report"},
    "clone": {
        "type": "dict",
        "options": {
            "source": {"type": "str", "required": True},
            "full": {"type": "bool"},
            "snapname": {"type": "str"},
            "storage": {"type": "str"},
            "format": {"type": "str", "choices": ["raw", "qcow2", "vmdk"]},
        },
    },
    "unset": {"type": "list", "elements": "str"},
    "update_password": {"type": "str", "choices": ["on_create", "always"], "default": "on_create", "no_log": False},
    "purge": {"type": "bool", "default": False},
    "destroy_unreferenced_disks": {"type": "bool", "default": False},
    "bwlimit": {"type": "int"},
    "import_working_storage": {"type": "str"},
    **options(),
}


def want(params: Params) -> State | None:
    if params["state"] == "absent":
        return None
    own = {key: params[key] for key in ("name", "node", "pool", "status") if params[key] is not None}
    applied: State = {"pending": []} if params["apply_pending"] == "reboot" else {}
    # Where something that the task refers to is missing, there is no Situation.
    at = params.get("_guest")
    return {**(at.want if at else wanted(params)), **own, **applied}


VM = Resource(
    noun="guest",
    options=OPTIONS,
    want=want,
    resolve=situate,
    read=read_vm,
    steps=vm_steps,
    name=guest,
    secret=frozenset({"cloud_init.password", "cipassword"}),
    write_only=frozenset({"cloud_init.password"}),
    # A clone's disks can be changed once their volumes have names; what waits for a reboot shows after the change.
    passes=3,
    constraints=ONE_GUEST,
)

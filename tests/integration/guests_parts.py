# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the module guests share: running it in this process, and what must hold of a node afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure
from ansible_collections.pvelab.proxmox.plugins.modules.guests import RESOURCE
from ansible_collections.pvelab.proxmox.tests.lab import PASSWORD, Lab, orphans
from ansible_collections.pvelab.proxmox.tests.unit.plugins.modules.test_cases import validated

# What no guest of these tests needs, so that making one takes as little time as the node allows.
BARE = {"memory": 32}


def guests(
    lab: Lab, params: Mapping[str, Any], *, check: bool = False, port: int | None = None, **connection: Any
) -> dict[str, Any]:
    """The module's declaration, carried out in this process; ``port`` is that of a proxy before the node."""
    login = {"api_host": f"127.0.0.1:{port or lab.port}", "api_user": "root@pam", "api_password": PASSWORD}
    options = {**login, "api_fingerprint": [lab.fingerprint], **connection}
    with Api.from_params(options, read_only=check) as api:
        try:
            # Validating fills in what is not given, in place.
            result = dict(RESOURCE.work(api, validated(RESOURCE, json.loads(json.dumps(params))), check))
        except Failure as failure:
            return {**failure.result(), "failed": True, "warnings": api.warnings}
        return {**result, "warnings": api.warnings}


def passed(result: Any) -> Any:
    """A result that is no failure."""
    assert not result.get("failed"), "\n".join([result["msg"], *result.get("lines", ())])
    return result


def there(lab: Lab) -> dict[str, list[int]]:
    """The guests of the node: {name: ids}."""
    found: dict[str, list[int]] = {}
    for row in lab.api().nodes("pve1").qemu.get():
        found.setdefault(row["name"], []).append(int(row["vmid"]))
    return found


def whole(lab: Lab, names: set[str]) -> None:
    """Each of these guests is there once and unlocked, and nothing lies about that belongs to none."""
    seen = there(lab)
    assert {n: ids for n, ids in seen.items() if len(ids) > 1} == {}, "made twice"
    assert names <= set(seen), f"missing: {sorted(names - set(seen))}"
    api = lab.api()
    locks = Counter(row.get("lock") for row in api.nodes("pve1").qemu.get())
    assert set(locks) <= {None}, locks
    assert orphans(api) == set()


def clear(lab: Lab) -> None:
    """Remove every guest of the node."""
    ids = [vmid for found in there(lab).values() for vmid in found]
    gone = [{"vmid": vmid, "state": "absent", "force_stop": True, "allow_data_loss": True} for vmid in ids]
    if gone:
        passed(guests(lab, {"guests": gone}))
    assert there(lab) == {}

# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of the module of the same name, which says what it does."""

from __future__ import annotations

from ansible_collections.pvelab.proxmox.plugins.modules import pool
from ansible_collections.pvelab.proxmox.plugins.plugin_utils.direct import Direct


class ActionModule(Direct):
    """Begins the module without a Python of its own, where that is possible."""

    main = staticmethod(pool.main)

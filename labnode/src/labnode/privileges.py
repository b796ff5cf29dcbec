# SPDX-License-Identifier: GPL-3.0-or-later
"""Privileges and the built-in roles of Proxmox VE 9 (facts from pve-access-control, AccessControl.pm)."""

from __future__ import annotations

# Area to (root, admin, user, audit): who of the built-in roles gets which privilege of it.
_LEVELS: dict[str, tuple[str, str, str, str]] = {
    "VM": (
        "",
        "Config.Disk Config.CPU Config.Memory Config.Network Config.HWType Config.Options Allocate Clone "
        "GuestAgent.Unrestricted Migrate Replicate Snapshot Snapshot.Rollback",
        "Config.CDROM Config.Cloudinit Console Backup GuestAgent.FileRead GuestAgent.FileSystemMgmt "
        "GuestAgent.FileWrite PowerMgmt",
        "Audit GuestAgent.Audit",
    ),
    "Sys": ("PowerMgmt Modify Incoming AccessNetwork", "Console Syslog", "", "Audit"),
    "Datastore": ("", "Allocate AllocateTemplate", "AllocateSpace", "Audit"),
    "SDN": ("", "Allocate Audit", "Use", "Audit"),
    "Pool": ("", "Allocate", "Audit", "Audit"),
    "Mapping": ("", "Modify", "Use", "Audit"),
}
# The area "User" has privileges of several names.
_USER_ROOT = {"Realm.Allocate"}
_USER_ADMIN = {"User.Modify", "Group.Allocate", "Realm.AllocateUser"}


def _levels() -> dict[str, tuple[set[str], set[str], set[str], set[str]]]:
    found = {}
    for area, levels in _LEVELS.items():
        root, admin, user, audit = ({f"{area}.{name}" for name in names.split()} for names in levels)
        found[area] = (root, admin, user, audit)
    found["User"] = (_USER_ROOT, _USER_ADMIN, set(), set())
    return found


def _roles() -> dict[str, frozenset[str]]:
    roles: dict[str, set[str]] = {"NoAccess": set(), "Administrator": set(ALL), "PVEAdmin": set(), "PVEAuditor": set()}
    for area, (_root, admin, user, audit) in _levels().items():
        roles[f"PVE{area}Admin"] = admin | user | audit
        roles["PVEAdmin"] |= admin | user | audit
        if user:
            roles[f"PVE{area}User"] = user | audit
        roles["PVEAuditor"] |= audit
    roles["PVEAdmin"].discard("Mapping.Modify")
    roles["PVETemplateUser"] = {"VM.Clone", "VM.Audit"}
    return {name: frozenset(privs) for name, privs in roles.items()}


ALL: frozenset[str] = frozenset(
    {"Permissions.Modify"}.union(*(level for levels in _levels().values() for level in levels))
)
ROLES: dict[str, frozenset[str]] = _roles()

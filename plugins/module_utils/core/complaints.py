# SPDX-License-Identifier: GPL-3.0-or-later
"""What the error texts of Proxmox VE mean. Pure: text and status in, a decision out.

The API says most things by HTTP 500 and a sentence, so the sentence decides. Each pattern is a text of
Proxmox VE 8 or 9, found in its sources or in answers of a node.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .steps import Failure

# pve-common Tools.pm lock_file_full, pve-cluster Cluster.pm cfs_lock: raised before the locked work begins.
_LOCK_TIMEOUT = re.compile(
    r"can't lock file '[^']*' - got timeout|cfs-lock '[^']*' error: (?:got lock request timeout|no quorum!)"
)
_NO_QUORUM = re.compile(r"cluster not ready - no quorum\?|cfs-lock '[^']*' error: no quorum!")
# PVE/AbstractConfig.pm check_lock
_CONFIG_LOCK = re.compile(r"(?:VM|CT) is locked \(([a-z-]+)\)")
# Guests, storages and pools say "does not exist", jobs and HA "no such", interfaces and storages a 400 with a field.
_MISSING = re.compile(
    r"^Configuration file '[^']*' does not exist"
    r"|^(?:storage|pool|user|role|group|snapshot|volume|domain|realm|zone|vnet|mapping) ?(?:ID )?'[^']*' does not exist"
    r"|^(?:delete|update|create) \w+ failed: \w+ '[^']*' does not exist"
    r"|^(?:interface does not exist|No such storage\.|no such (?:resource|user|token|group|role|realm|job|rule))"
    r"|^(?:sdn|SDN) .* does not exist|No such job '"
    r"|^no such task$",
    re.IGNORECASE,
)
_STALE_DIGEST = re.compile(r"checksum mismatch \(file change by other user\?\)|detected modified configuration")
_WRONG_NODE = re.compile(
    r"hostname lookup '[^']*' failed|no such cluster node|certificate verify failed|tls_process_server_certificate"
)
_TAKEN = re.compile(r"already (?:exists|defined|used|in use)|config file already exists")

# Cause → what to do about it; the first that matches. Only where the text alone does not say it.
_REMEDIES = (
    (_STALE_DIGEST, "Somebody else changed it in between; run the task again."),
    (_NO_QUORUM, "Guests run on, but nothing can be changed until enough nodes are back: see pvecm status."),
    (re.compile(r"user != root@pam"), "Only root@pam itself may do this: log in with its password, not with a token."),
    (re.compile(r"[Oo]nly root (?:can|may)"), "Log in as root@pam with its password, not with a token."),
    (re.compile(r"not available with API token"), "Log in with a password: a token may not do this."),
    (re.compile(r"No space left on device|not enough free space|out of space"), "Free some or use another storage."),
    (re.compile(r"is not most recent snapshot"), "This storage rolls back to the newest snapshot only."),
    (re.compile(r"protection mode enabled"), "Set protection to false first."),
    (re.compile(r"used in HA resources"), "Remove it from high availability first, or purge it."),
    (re.compile(r"bridge '[^']*' does not exist"), "Create that bridge on the node or name another one."),
    (re.compile(r"storage '[^']*' does not exist|No such storage"), "Look at what there is with pvesm status."),
    (re.compile(r"No QEMU guest agent configured"), "Set agent.enabled to true and restart the guest."),
    (re.compile(r"QEMU guest agent is not running"), "Start qemu-guest-agent inside the guest."),
    (re.compile(r"Linked clone feature is not supported"), "Clone in full, or from a template on a storage that can."),
    (re.compile(r"VM quit/powerdown failed - got timeout"), "The guest ignored it: stop it, or give it longer."),
    (_LOCK_TIMEOUT, "Another task held the lock all the time; run the task again when it is over."),
)  # fmt: skip

UNKNOWN_OPTION = "This version of Proxmox VE does not know that option."


def is_missing(failure: Failure) -> bool:
    """True when a read failed because the object that it asks for does not exist.

    Proxmox VE answers 500 (guests, storages, pools, users) or 400 with a field (interfaces, storages of a node).
    A missing *node* is not that: it is a wrong parameter.
    """
    if failure.status == 404:
        return True
    if failure.status not in (400, 500):
        return False
    texts = [failure.msg, *(failure.errors or {}).values()]
    return any(_MISSING.search(text.strip()) for text in texts) and not is_wrong_node(failure.status, failure.msg)


def is_lock_timeout(text: str) -> bool:
    """True when a lock could not be had in time: nothing was done, the same request may be sent again."""
    return bool(_LOCK_TIMEOUT.search(text))


def is_timeout(text: str) -> bool:
    """True when something on the node took too long, which the text does not name (pve-common run_with_timeout)."""
    return text.strip().rstrip(".") == "got timeout"


def is_no_quorum(text: str) -> bool:
    """True when the cluster has lost its quorum, so that every write fails before it begins."""
    return bool(_NO_QUORUM.search(text))


def config_lock(text: str) -> str | None:
    """The name of the lock in "VM is locked (backup)", or None."""
    found = _CONFIG_LOCK.search(text)
    return found[1] if found else None


def is_stale_digest(text: str) -> bool:
    """True when the object was changed between the read and the write."""
    return bool(_STALE_DIGEST.search(text))


def is_taken(text: str) -> bool:
    """True when an object of this id exists already."""
    return bool(_TAKEN.search(text))


def is_wrong_node(status: int, text: str) -> bool:
    """True when the answer looks as if the node's name leads nowhere: Proxmox VE takes it for a host to proxy to."""
    return status in (595, 596) or bool(_WRONG_NODE.search(text))


def remedy(text: str) -> str:
    """What to do about an error, as a sentence, or "" where its text says it all."""
    return next((advice for pattern, advice in _REMEDIES if pattern.search(text)), "")


def folded(message: str, errors: Mapping[str, str] | None) -> str:
    """One sentence (without a full stop) out of the message and the errors of single parameters.

    "Parameter verification failed." says nothing that its errors do not say better, so it is dropped.
    """
    text = " ".join(message.split())
    # Some calls fold a 400 into the text of a 500: "400 Parameter verification failed. id: No such job 'x'".
    text = re.sub(r"^(?:400 )?Parameter verification failed\.\s*", "", text)
    details = "; ".join(f"{option}: {' '.join(why.split())}" for option, why in sorted((errors or {}).items()))
    return ": ".join(part.rstrip(".") for part in (text, details) if part) or "no reason given"

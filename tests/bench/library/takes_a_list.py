#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module that is handed a list of guests and does nothing with it: what Ansible itself takes for a list."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    AnsibleModule(argument_spec={"guests": {"type": "list", "elements": "dict"}}).exit_json(changed=False)


if __name__ == "__main__":
    main()

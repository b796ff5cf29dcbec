# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab machine: a Debian host in a virtual machine, built once, booted once, and restored in seconds after that."""

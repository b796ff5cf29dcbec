# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, in words for the person who typed `make image`."""


class BuildError(Exception):
    """One clear sentence: what failed, why, what to do."""

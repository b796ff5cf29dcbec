# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of failure drills: it breaks one thing on this host, measures, and puts it back."""

# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in of the program ``date``, for a clock that can be set without harm."""

from __future__ import annotations

# A wall clock that is as many nanoseconds ahead of the machine's as the file {by} says, and can be set by a step.
DATE = """\
by=$(cat "{by}")
case "$*" in
+%s%N) echo $(($({date} +%s%N) + by)) ;;
"--utc --set="*" seconds")
    [ ! -e "{by}.refuses" ] || exit 1
    # What the real one makes of it, ten years after the epoch: without the right to set a clock.
    echo $((by + $({date} --utc --date="1980-01-01 ${{2#--set=}}" +%s%N) - 315532800000000000)) > "{by}" ;;
*) exit 64 ;;
esac
"""

# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation: `make docs` and `make docs-pages`.

tools/docs.py pages             write what is made: pages of drills, of community.proxmox, of labnode
tools/docs.py check             all that can be seen without running anything: marks, options, pages that are current
tools/docs.py agree             whether ansible-doc reads the options of both collections as the check does
tools/docs.py site              build the site into .build/docs/html, and look at its links
tools/docs.py type [PAGE…]      type what the guides show
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import docs_drills
import docs_labnode
import docs_marks
import docs_migration
import docs_options
import docs_run
import docs_site

ROOT = docs_options.ROOT


def made() -> dict[Path, str]:
    """Every page that is made, by where it belongs."""
    return {
        docs_migration.PAGE: docs_migration.page(),
        docs_labnode.PAGE: docs_labnode.page(),
        **docs_drills.pages(),
    }


def write() -> list[str]:
    docs_drills.FOLDER.mkdir(parents=True, exist_ok=True)
    for path in docs_drills.FOLDER.glob("*.md"):
        path.unlink()
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
    return []


def stale() -> list[str]:
    """Pages that are not what they would be made now, and drills' pages that no drill has."""
    pages = made()
    there = {*docs_drills.FOLDER.glob("*.md"), *pages}
    return [
        f"{path.relative_to(ROOT)} is not current; make docs-pages"
        for path in sorted(there)
        if not path.exists() or path.read_text(encoding="utf-8") != pages.get(path)
    ]


def neighbours() -> list[str]:
    """Where the table differs from the collection that it is about."""
    theirs = docs_options.modules(docs_options.NEIGHBOUR)
    return docs_migration.differences(theirs, docs_migration.version_of(docs_options.NEIGHBOUR))


def check() -> list[str]:
    return [
        *docs_marks.complaints(docs_marks.pages()),
        *stale(),
        *docs_migration.wrong_here(docs_migration.table()),
        *neighbours(),
    ]


def agree() -> list[str]:
    """Modules whose options ansible-doc does not read as they are read here."""
    found: list[str] = []
    for name, collection in (("pvelab.proxmox", ROOT), ("community.proxmox", docs_options.NEIGHBOUR)):
        read = {f"{name}.{module}": options for module, options in docs_options.modules(collection).items()}
        command = [Path(sys.executable).with_name("ansible-doc"), "--json", *read]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        told = {module: entry["doc"].get("options") or {} for module, entry in json.loads(done.stdout).items()}
        found += [
            f"{module}: ansible-doc reads other options"
            for module in {*read, *told}
            if set(docs_options.flat(read.get(module, {}))) != set(docs_options.flat(told.get(module, {})))
        ]
        print(f"{name}: ansible-doc was asked for {len(told)} modules", flush=True)
    return found


def main(words: list[str]) -> int:
    if words == ["pages"]:
        found = write()
    elif words == ["check"]:
        found = check()
    elif words == ["agree"]:
        found = agree()
    elif words == ["site"]:
        found = docs_site.build()
    elif words[:1] == ["type"]:
        found = docs_run.all_pages(words[1:])
    else:
        print(__doc__, file=sys.stderr)
        return 2
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

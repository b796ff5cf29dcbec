# SPDX-License-Identifier: GPL-3.0-or-later
"""A package repository that is looked at before anything trusts it: the program that asks apt, and its answers. Pure.

The program runs apt's own update with directories of its own, so that the proxies, mirrors and the program that checks
signatures are those of the host, and nothing of the host is changed. Facts: apt.conf(5), sources.list(5) and the texts
of apt 2.6 and 3.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LIMIT_S = 180.0
"""How long apt may take."""

LOOK, FETCH = "# look at a repository", "# fetch a key"
"""The first line of the program, by which it is known."""
PROBE = """
import json, os, shutil, subprocess, sys, tempfile
asked = json.loads(sys.argv[1])
work = tempfile.mkdtemp(prefix="pvelab-apt-")
def path(name, text=None):
    where = os.path.join(work, name)
    if text is not None:
        with open(where, "w") as out:
            out.write(text)
    return where
def call(argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                          env={**os.environ, "LC_ALL": "C"}, timeout=asked["limit"])
    return done.returncode, done.stdout, done.stderr
def text_of(where):
    with open(where, "rb") as source:
        return source.read()
try:
    os.chmod(work, 0o755)
    for name in ("lists/partial", "cache/archives/partial", "empty"):
        os.makedirs(path(name))
    conf = path("apt.conf", asked["conf"].replace("@", work))
    if "url" in asked:
        import base64
        rc, out, err = call(["/usr/lib/apt/apt-helper", "-c", conf, "download-file", asked["url"], path("key")])
        body = base64.b64encode(text_of(path("key"))).decode() if rc == 0 else ""
        print(json.dumps({"rc": rc, "err": out + err, "key": body}))
    else:
        path("key.asc", asked["key"])
        path("wanted.sources", asked["sources"].replace("@", work))
        rc, out, err = call(["apt-get", "-c", conf, "-q", "update"])
        told = {"rc": rc, "err": out + err, "release": "", "versions": ""}
        if rc == 0:
            for name in os.listdir(path("lists")):
                if name.endswith("Release"):
                    told["release"] = text_of(path("lists/" + name)).decode("utf-8", "replace")
            told["versions"] = call(["apt-cache", "-c", conf, "madison", *asked["packages"]])[1]
        print(json.dumps(told))
finally:
    shutil.rmtree(work, ignore_errors=True)
"""

_CONF = """\
Dir::Etc::SourceList "@/wanted.sources";
Dir::Etc::SourceParts "@/empty";
Dir::Etc::Trusted "@/empty/none.gpg";
Dir::Etc::TrustedParts "@/empty";
Dir::State::Lists "@/lists";
Dir::Cache "@/cache";
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::Contents-deb;
"""


def key_question(url: str) -> dict[str, Any]:
    """What the program is asked to fetch a key."""
    return {"conf": _CONF, "limit": LIMIT_S, "url": url}


def question(params: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What the program is asked to look at a repository with an armoured key."""
    sources = (
        f"Types: deb\nURIs: {params['uri']}\nSuites: {params['suite']}\n"
        f"Components: {' '.join(params['components'])}\nSigned-By: @/key.asc\n"
    )
    return {"conf": _CONF, "limit": LIMIT_S, "key": key, "sources": sources, "packages": params["packages"]}


# Each: what apt says, and what that means; {where} is the repository. The first that fits is told.
_MEANINGS = (
    (r"is not valid yet",
     "the clock of this host is behind: {where} says that it was made in the future. Set the clock."),
    (r"(Release file .* is expired|is expired \(invalid since)",
     "what {where} offers has expired, or the clock of this host is ahead. Set the clock, or take another mirror."),
    (r"(NO_PUBKEY|BADSIG|EXPKEYSIG|REVKEYSIG|is not signed|Missing key|sqv returned|signatures? (were|was|could)"
     r"|not available: |OpenPGP signature verification failed)",
     "{where} is not signed by the key that was given. Give the key of its maker, or do not trust it."),
    (r"(Certificate verification failed|certificate|SSL|TLS)",
     "{where} cannot be reached safely: its certificate is not trusted by this host."),
    (r"401 +Unauthorized",
     "{where} wants a login. Give this host its subscription key first, or take another repository."),
    (r"(Could not resolve|Temporary failure resolving|Could not connect|Unable to connect|Connection refused|timed out"
     r"|Connection failed|Cannot initiate|No route to host|Network is unreachable)",
     "{where} cannot be reached from this host. See to its network, or give a mirror that it reaches."),
    (r"doesn't have the component", "{where} has no component of that name."),
    (r"(404 +Not Found|does not have a Release file|File not found)",
     "there is no repository {where}. See to address and suite."),
)  # fmt: skip


def complaint(said: str, where: str) -> str:
    """One sentence for people from the output of an update that failed, or that left something away."""
    for pattern, sentence in _MEANINGS:
        if re.search(pattern, said):
            return sentence.format(where=where)
    lines = [line for line in said.splitlines() if line.startswith(("E:", "W:", "Err:"))]
    return f"apt does not take {where}: {' '.join(lines)[:500] or 'it does not say why'}"


def lacks_component(said: str) -> bool:
    """Whether an update went well but for a component that is not there."""
    return "doesn't have the component" in said


def release_fields(text: str) -> dict[str, str]:
    """The single-line fields of a Release or InRelease file."""
    return dict(re.findall(r"^([A-Z][A-Za-z-]+): (\S.*?)\s*$", text, re.MULTILINE))


def versions(madison: str, names: Sequence[str]) -> dict[str, str]:
    """{package: version} of `apt-cache madison`, of each the first (newest); what is not there is left out."""
    found: dict[str, str] = {}
    for line in madison.splitlines():
        words = [word.strip() for word in line.split("|")]
        if len(words) > 2 and words[0] in names:
            found.setdefault(words[0], words[1])
    return found

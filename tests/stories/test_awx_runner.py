# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs as AWX runs them, by ansible-runner: a lab is provisioned, a job killed and run again, a drill, its report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ansible_collections.pvelab.proxmox.tests.integration.awx_parts import DATA, loaded
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT, until
from ansible_collections.pvelab.proxmox.tests.stories.demo_parts import Demo, living_lab

pytestmark = pytest.mark.release

SHORT = {"baseline_s": 3, "observe_s": 30, "hold_s": 1, "recover_s": 60, "verify_s": 60, "undo_after_s": 240}

# As the survey's answer comes to the play.
AGENTS_OFF = {
    "survey_steady_state_agents": "false",
    "steady_state_agents": loaded(DATA / "surveys.yml")["awx_survey_vars"]["steady_state"]["steady_state_agents"],
}


class Job:
    """One job in a directory of its own, as AWX lays it out: project, inventory, variables, environment."""

    def __init__(self, folder: Path, inventory: Path, playbook: str, **extra: Any) -> None:
        self.folder, self.name = folder, "1"
        (folder / "env").mkdir(parents=True)
        (folder / "project").symlink_to(ROOT)
        (folder / "inventory").symlink_to(inventory)
        self.playbook = f"playbooks/{playbook}"
        (folder / "env/extravars").write_text(yaml.safe_dump(extra), encoding="utf-8")
        variables = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "PYTHONPATH": str(ROOT / ".build"),
        }
        (folder / "env/envvars").write_text(yaml.safe_dump(variables), encoding="utf-8")

    def begin(self, demo: Demo, name: str = "1") -> subprocess.Popen[bytes]:
        """Start the runner in a session of its own, with the lab in the environment, where a credential puts it."""
        self.name = name
        command = [sys.executable, BIN / "ansible-runner", "run", self.folder, "-p", self.playbook, "--ident", name]
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "LAB_STATE": str(demo.lab)}
        with (self.folder / f"out-{name}").open("wb") as out:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
            )

    def run(self, demo: Demo, name: str = "1") -> int:
        return self.begin(demo, name).wait(timeout=600)

    def artifact(self, name: str) -> str:
        return (self.folder / "artifacts" / self.name / name).read_text(encoding="utf-8")

    def events(self) -> list[dict[str, Any]]:
        """What it told while it ran, in order."""
        files = (self.folder / "artifacts" / self.name / "job_events").glob("*-*.json")
        found = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        return sorted(found, key=lambda event: int(event["counter"]))

    def stats(self) -> Mapping[str, Any]:
        """What `set_stats` has told: AWX's artifacts, which become variables of the next nodes of a workflow."""
        (last,) = [event["event_data"] for event in self.events() if event["event"] == "playbook_on_stats"]
        found: Mapping[str, Any] = last["artifact_data"]
        return found

    def changed(self) -> dict[str, int]:
        (last,) = [event["event_data"] for event in self.events() if event["event"] == "playbook_on_stats"]
        found: dict[str, int] = last["changed"]
        return found

    def is_over(self, status: str = "successful", rc: int = 0) -> None:
        said = self.artifact("stdout")
        assert (self.artifact("status"), self.artifact("rc")) == (status, str(rc)), said


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = living_lab(tmp_path_factory.mktemp("inventory"))
    limits = made / "group_vars/embedded/limits.yml"
    limits.write_text(json.dumps({"drill_limits": SHORT}), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, inventory: Path) -> Iterator[Demo]:
    """A node that is up, with a token for drills; what was on it is taken away, so that jobs provision it anew."""
    made = Demo(tmp_path_factory.mktemp("awx"))
    try:
        made.run(KEEP="1", LAB_INVENTORY=str(inventory))
        yield made
        made.run("demo-down")
        made.is_gone()
    finally:
        made.sweep()


def below(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def within(folder: Path) -> list[psutil.Process]:
    """What works in a directory, whoever has started it."""
    return [
        found
        for found in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in found.info["cmdline"] or [])
    ]


def kill(process: subprocess.Popen[bytes], folder: Path) -> None:
    """kill -9 of the runner and all that it has started, as a container that is taken away."""
    victims = list({*below(process), psutil.Process(process.pid), *within(folder)})
    for victim in victims:
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait(timeout=30)
    psutil.wait_procs(victims, timeout=30)


def test_the_lab_is_taken_away_by_a_job(demo: Demo, inventory: Path, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", inventory, "teardown.yml", teardown_confirm="pve1")
    assert job.run(demo) == 0
    job.is_over()


def test_a_job_is_killed_and_run_again(demo: Demo, inventory: Path, tmp_path: Path) -> None:
    job = Job(tmp_path / "job", inventory, "site.yml", guests_wait_for_agent_s=120)
    process = job.begin(demo, "killed")
    try:
        config = demo.lab / "etc/nodes/pve1/qemu-server/101.conf"
        until(lambda: config.exists() or process.poll() is not None, "the guest is being made", 300)
        assert process.poll() is None, "it was over before it could be killed"
    finally:
        kill(process, tmp_path)
    assert job.run(demo, "again") == 0
    job.is_over()
    assert job.changed(), "something was left to do"
    assert job.stats()["site"] == {"pve1": {"guests": ["web1"]}}
    events = [event["event"] for event in job.events()]
    assert (events[0], events[-1]) == ("playbook_on_start", "playbook_on_stats")
    assert {"runner_on_ok", "playbook_on_task_start"} <= set(events) and "runner_on_failed" not in events
    assert job.run(demo, "third") == 0
    assert sum(job.changed().values()) == 0, job.artifact("stdout")


def test_the_lab_is_steady_and_what_is_not_is_named(demo: Demo, inventory: Path, tmp_path: Path) -> None:
    job = Job(tmp_path / "steady", inventory, "steady_state.yml")
    assert job.run(demo) == 0
    job.is_over()
    assert job.stats()["steady_state"] == {"pve1": True}
    guests = [{"name": "web1", "vmid": 101, "cores": 3, "status": "running"}, {"name": "web9", "vmid": 109}]
    other = Job(tmp_path / "other", inventory, "steady_state.yml", guests_list=guests)
    assert other.run(demo) != 0
    other.is_over("failed", 2)
    assert "pve1 is not as it is declared. To change: web1, web9." in other.artifact("stdout").replace("\\n", " ")
    assert "steady_state" not in other.stats()
    silent = Job(tmp_path / "silent", inventory, "steady_state.yml", steady_state_awaited=["web1", "web9"])
    assert silent.run(demo) != 0
    assert "No agent answers: web9." in silent.artifact("stdout")
    unasked = Job(tmp_path / "unasked", inventory, "steady_state.yml", steady_state_awaited=["web9"], **AGENTS_OFF)
    assert unasked.run(demo) == 0, unasked.artifact("stdout")


def test_a_drill_tells_the_workflow_and_is_reported_on(demo: Demo, inventory: Path, tmp_path: Path) -> None:
    drill = Job(tmp_path / "drill", inventory, "drill.yml", drill_name="guest_crash", drill_reports=str(tmp_path / "a"))
    assert drill.run(demo) == 0, drill.artifact("stdout")
    drill.is_over()
    ((run, told),) = drill.stats()["drill_runs"].items()
    assert (told["drill"], told["host"], told["verdict"]) == ("guest_crash", "pve1", "passed")
    assert told["because"] and float(told["outage_s"]) > 0
    assert Path(told["report"]) == tmp_path / "a" / run / "report.html" and Path(told["report"]).exists()
    # The next node of the workflow: in another container, which has nothing but what it was told.
    told_on = {"drill_runs": drill.stats()["drill_runs"], "drill_reports": str(tmp_path / "b")}
    report = Job(tmp_path / "report", inventory, "drill_report.yml", **told_on)
    assert report.run(demo) == 0, report.artifact("stdout")
    assert {**report.stats()["drill_runs"][run], "report": ""} == {**told, "report": ""}
    assert (tmp_path / "b" / run / "report.md").read_text(encoding="utf-8").splitlines()[0] in report.artifact("stdout")
    # By hand, the last one, and one that there is not.
    last = Job(tmp_path / "last", inventory, "drill_report.yml", drill_reports=str(tmp_path / "c"))
    assert last.run(demo) == 0
    assert list(last.stats()["drill_runs"]) == [run]
    none = Job(tmp_path / "none", inventory, "drill_report.yml", drill_run="other", drill_reports=str(tmp_path / "d"))
    assert none.run(demo) != 0
    assert "there is no run other on this host that is over" in none.artifact("stdout").replace("\n", " ")


def test_a_workflow_hears_of_its_own_drills_only(demo: Demo, inventory: Path, tmp_path: Path) -> None:
    strict = {"survey_drill_report_strict": "true", **loaded(DATA / "surveys.yml")["awx_survey_vars"]["drill_report"]}
    older = {path.name for path in demo.runs.iterdir()}
    assert older, "there are older drills to report on"
    unbegun = Job(tmp_path / "unbegun", inventory, "drill_report.yml", drill_reports=str(tmp_path / "a"), **strict)
    assert unbegun.run(demo) != 0
    assert "no drill has been told of" in unbegun.artifact("stdout").replace("\n", " ")
    told = {"drill_runs": {max(older): {"host": "pve1"}}, "drill_reports": str(tmp_path / "b"), **strict}
    well = Job(tmp_path / "well", inventory, "drill_report.yml", **told)
    assert well.run(demo) == 0, well.artifact("stdout")
    assert list(well.stats()["drill_runs"]) == [max(older)]
    badly = Job(tmp_path / "badly", inventory, "drill_report.yml", **told, drill_expect="not_recovered")
    assert badly.run(demo) != 0
    assert "passed, and drill_expect is not_recovered" in badly.artifact("stdout").replace("\n", " ")
    assert list(badly.stats()["drill_runs"]) == [max(older)]


def test_a_drill_whose_job_is_killed_ends_by_itself_and_is_reported_on(
    demo: Demo, inventory: Path, tmp_path: Path
) -> None:
    before = set(demo.runs.iterdir())
    drill = Job(tmp_path / "drill", inventory, "drill.yml", drill_name="guest_hang", drill_reports=str(tmp_path / "a"))
    process = drill.begin(demo, "killed")
    try:
        demo.wait_for_a_fault(process, "guest_hang")
    finally:
        kill(process, tmp_path)
    (run,) = set(demo.runs.iterdir()) - before
    assert not (tmp_path / "a" / run.name / "journal.json").exists()
    until(lambda: json.loads((run / "journal.json").read_text(encoding="utf-8"))["verdict"], "the host ends it", 300)
    until(lambda: not within(run), "nobody works on it any more")
    report = Job(tmp_path / "report", inventory, "drill_report.yml", drill_reports=str(tmp_path / "b"))
    assert report.run(demo) == 0, report.artifact("stdout")
    ((name, told),) = report.stats()["drill_runs"].items()
    assert (name, told["verdict"]) == (run.name, "passed"), told["because"]
    assert (tmp_path / "b" / run.name / "report.html").exists()
    # Nothing is left that would keep the same job from being run again.
    assert drill.run(demo, "again") == 0, drill.artifact("stdout")
    ((again, told),) = drill.stats()["drill_runs"].items()
    assert again != run.name and told["verdict"] == "passed"


def test_a_drill_that_does_not_end_as_expected_fails_its_job_and_tells_all_the_same(
    demo: Demo, inventory: Path, tmp_path: Path
) -> None:
    reports = {"drill_reports": str(tmp_path / "reports")}
    job = Job(tmp_path / "job", inventory, "drill.yml", drill_name="guest_hang", drill_expect="skipped", **reports)
    assert job.run(demo) != 0
    job.is_over("failed", 2)
    (told,) = job.stats()["drill_runs"].values()
    assert told["verdict"] == "passed" and Path(told["report"]).exists()

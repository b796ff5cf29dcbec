# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP side as clients meet it: formats of requests and answers, errors, connections."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from pathlib import Path

import pytest
import requests
from proxmoxer import ProxmoxAPI
from proxmoxer.backends.https import AuthenticationError


def connection(port: int) -> http.client.HTTPSConnection:
    """A bare connection: what the server does with it is under test."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)


def test_unknown_methods_and_paths(root, server) -> None:
    answer = root.call("GET", "/nosuch")
    assert (answer.status_code, answer.reason) == (501, "Method 'GET /nosuch' not implemented")
    assert answer.json() == {"data": None, "message": "Method 'GET /nosuch' not implemented"}
    answer = root.call("POST", "/nodes/pve1/qemu/100/status/nosuch")
    assert answer.reason == "Method 'POST /nodes/pve1/qemu/100/status/nosuch' not implemented"
    answer = root.session.patch(f"{root.base}/version")
    assert (answer.status_code, answer.reason, answer.text) == (501, "method 'PATCH' not available", "")
    answer = root.call("GET", "/nodes/pve1/ceph/status")
    assert answer.status_code == 501 and "not implemented by labnode" in answer.reason
    assert root.session.get(f"{server.url}/").status_code == 404


def test_unknown_node(root) -> None:
    answer = root.call("GET", "/nodes/other/status")
    assert answer.status_code == 500
    assert answer.reason.startswith("hostname lookup 'other' failed")
    assert root.call("GET", "/nodes/bad_name/status").json()["errors"]["node"].startswith("invalid format")
    assert root.data("GET", "/nodes/localhost/version") == root.data("GET", "/version")


def test_reason_is_the_first_line_and_the_body_has_all(root) -> None:
    root.call("DELETE", "/cluster/backup/none")
    answer = root.call("DELETE", "/cluster/backup/none")
    assert answer.reason == "400 Parameter verification failed."
    assert answer.json()["message"] == "400 Parameter verification failed.\nid: No such job 'none'\n"


@pytest.mark.parametrize("form", ["form", "json", "query"])
def test_parameters_in_every_place(root, form: str) -> None:
    url, body = f"{root.base}/access/groups", {"groupid": f"g-{form}", "comment": "ä b&c=d"}
    how = {"form": {"data": body}, "json": {"json": body}, "query": {"params": body}}[form]
    assert root.session.post(url, **how).status_code == 200
    assert root.data("GET", f"/access/groups/g-{form}")["comment"] == "ä b&c=d"


def test_json_values_of_every_type(root) -> None:
    url = f"{root.base}/cluster/backup"
    body = {"id": "typed", "schedule": "1:00", "all": True, "enabled": False, "bwlimit": 100, "mailto": None}
    assert root.session.post(url, json=body).status_code == 200
    job = root.data("GET", "/cluster/backup/typed")
    assert (job["all"], job["enabled"], job["bwlimit"]) == (1, 0, 100)
    for bad in ("[1]", "{", '"x"'):
        answer = root.session.post(url, data=bad, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400 and "JSON" in answer.reason


def test_a_parameter_in_path_and_body_must_agree(root) -> None:
    assert root.call("GET", "/nodes/pve1/tasks", node="pve1").status_code == 200
    answer = root.call("GET", "/nodes/pve1/tasks", node="pve2")
    want = {"node": "duplicate parameter (already defined in URI) with conflicting values!"}
    assert answer.status_code == 400 and answer.json()["errors"] == want


def test_extjs_answers_are_always_200(root, server) -> None:
    base = f"{server.url}/api2/extjs"
    good = root.session.get(f"{base}/version")
    assert good.status_code == 200 and good.json()["success"] == 1
    bad = root.session.post(f"{base}/access/groups", data={"groupid": "!"})
    assert bad.status_code == 200
    said = bad.json()
    assert (said["success"], said["status"], list(said["errors"])) == (0, 400, ["groupid"])


def test_without_ticket_token_or_csrf(server, root) -> None:
    stranger = server.client()
    for call, reason in (
        (stranger.call("GET", "/nodes"), "No ticket"),
        (server.client().token("root@pam!none", "x").call("GET", "/nodes"), "Authentication failed!"),
        (server.client().token("nonsense", "").call("GET", "/nodes"), "Authentication failed!"),
    ):
        assert (call.status_code, call.reason, call.text) == (401, reason, "")
    refused = stranger.call("POST", "/access/ticket", username="root@pam", password="wrong")
    assert (refused.status_code, refused.reason) == (401, "authentication failure")
    assert refused.json() == {"data": None, "message": "authentication failure\n"}
    root.session.headers.pop("CSRFPreventionToken")
    refused = root.call("POST", "/pools", poolid="x")
    assert (refused.status_code, refused.reason) == (401, "Permission denied - invalid csrf token")
    assert root.call("GET", "/pools").status_code == 200
    assert stranger.call("GET", "/access/domains").status_code == 200


def test_errors_close_the_connection_and_successes_keep_it(server, root) -> None:
    ticket = root.session.cookies["PVEAuthCookie"]
    link = connection(server.port)
    link.request("GET", "/api2/json/version", headers={"Cookie": f"PVEAuthCookie={ticket}"})
    first = link.getresponse()
    assert first.status == 200 and first.getheader("Connection") != "close"
    first.read()
    link.request("GET", "/api2/json/nosuch", headers={"Cookie": f"PVEAuthCookie={ticket}"})
    second = link.getresponse()
    assert second.status == 501 and second.getheader("Connection") == "close"
    link.close()


def test_a_connection_serves_a_hundred_requests(server, root) -> None:
    ticket = root.session.cookies["PVEAuthCookie"]
    link = connection(server.port)
    closed = []
    for number in range(1, 101):
        link.request("GET", "/api2/json/version", headers={"Cookie": f"PVEAuthCookie={ticket}"})
        answer = link.getresponse()
        answer.read()
        if answer.getheader("Connection") == "close":
            closed.append(number)
    link.close()
    assert closed == [100]


def test_an_idle_connection_is_closed_after_five_seconds(server, root) -> None:
    ticket = root.session.cookies["PVEAuthCookie"]
    link = connection(server.port)
    link.request("GET", "/api2/json/version", headers={"Cookie": f"PVEAuthCookie={ticket}"})
    link.getresponse().read()
    assert link.sock is not None
    link.sock.settimeout(9)
    assert link.sock.recv(1) == b""  # the server hangs up; a timeout would be an error
    link.close()


def test_the_certificate_has_the_printed_fingerprint(server) -> None:
    shown = json.loads((server.state / "endpoint.json").read_text())["fingerprint"]
    context = ssl.create_default_context(cafile=str(server.state / "etc/nodes/pve1/pve-ssl.pem"))
    link = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)
    link.request("GET", "/api2/json/access/domains")
    assert link.getresponse().status == 200
    link.close()
    log = (server.folder / "log").read_text()
    assert f"fingerprint {shown}" in log and f"ready {server.url}" in log


def test_uploads_stream_to_disk_and_leave_nothing_behind(root, server) -> None:
    content = bytes(range(256)) * 20000
    files = {"filename": ("tiny.iso", content)}
    url = f"{root.base}/nodes/pve1/storage/local/upload"
    answer = root.session.post(url, data={"content": "iso"}, files=files)
    assert answer.status_code == 200, answer.text
    assert root.session.post(url, data={"content": "nosuch"}, files=files).status_code == 400
    task = answer.json()["data"]

    def over() -> bool:
        return bool(root.data("GET", f"/nodes/pve1/tasks/{task}/status")["status"] == "stopped")

    from_disk = Path(server.state, "storage/local/template/iso/tiny.iso")
    deadline = 200
    while not over() and deadline:
        deadline -= 1
    assert from_disk.read_bytes() == content
    assert list((server.state / "tmp").iterdir()) == []


def test_proxmoxer_by_password_and_token(server, root) -> None:
    where = {"port": server.port, "verify_ssl": False}
    by_password = ProxmoxAPI("127.0.0.1", user="root@pam", password="correct horse", **where)
    assert by_password.version.get()["release"] == "9.1"
    made = by_password.access.users("root@pam").token("px").post(privsep=0)
    by_token = ProxmoxAPI("127.0.0.1", user="root@pam", token_name="px", token_value=made["value"], **where)
    assert by_token.nodes.get()[0]["node"] == "pve1"
    by_token.pools.post(poolid="px", comment="from proxmoxer")
    assert by_token.pools("px").get()["comment"] == "from proxmoxer"
    by_token.pools("px").delete()
    with pytest.raises(AuthenticationError):
        ProxmoxAPI("127.0.0.1", user="root@pam", password="wrong", **where)


def test_a_body_that_is_cut_off_changes_nothing(server, root) -> None:
    ticket, csrf = root.session.cookies["PVEAuthCookie"], str(root.session.headers["CSRFPreventionToken"])
    link = connection(server.port)
    link.putrequest("POST", "/api2/json/pools")
    for name, value in (
        ("Cookie", f"PVEAuthCookie={ticket}"),
        ("CSRFPreventionToken", csrf),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", "100"),
    ):
        link.putheader(name, value)
    link.endheaders(b"poolid=half")
    link.close()
    assert isinstance(requests.get(f"{server.url}/api2/json/access/domains", verify=False, timeout=10).json(), dict)
    assert root.data("GET", "/pools") == []


def test_verbose_tells_every_request_and_which_of_its_connection_it_is(verbose_server) -> None:
    for _connection in range(2):
        line = connection(verbose_server.port)
        for path in ("/api2/json/access/domains", "/api2/json/access/domains", "/api2/json/nosuch?password=x"):
            line.request("GET", path)
            line.getresponse().read()
        line.close()
    verbose_server.end()
    told = re.findall(r"request (\d+): (.+)$", (verbose_server.folder / "log").read_text(), re.MULTILINE)
    domains = "GET /api2/json/access/domains 200"
    assert told == 2 * [("1", domains), ("2", domains), ("3", "GET /api2/json/nosuch 401")]

# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of AWX as the collection awx.awx asks for: keeps what it is sent, and shows it as AWX does."""

from __future__ import annotations

import json
import os
import re
import threading
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

API = "/api/v2/"
VERSION = "24.6.1"
TOKEN = "of the test"
HIDDEN = "$encrypted$"
MANAGED_TYPES = {"Machine": ["password", "ssh_key_data"], "Source Control": ["password", "ssh_key_data"]}
UNIFIED = ("job_templates", "projects", "inventory_sources")
SECRETS_OF_NOTIFICATIONS = ("password", "token")
# Text that is null in a request becomes empty.
EMPTY_TEXT = ("kind",)


class Refused(Exception):
    """What AWX answers with status 400."""


class Awx:
    """The objects by id, each with its kind; ``writes`` are the requests that were to change something.

    ``playbooks`` are the files that each project has once it is synchronised.
    """

    def __init__(self, playbooks):
        self.playbooks = playbooks
        self.items = {}
        self.associated = defaultdict(list)
        self.surveys = defaultdict(dict)
        self.writes = []
        for name, secrets in MANAGED_TYPES.items():
            fields = [{"id": field, "secret": True} for field in secrets]
            self.create("credential_types", {"name": name, "managed": True, "inputs": {"fields": fields}})

    def named(self, kind):
        """What is shown of the objects of a kind, by their names."""
        return {item["name"]: self.shown(item) for item in self.items.values() if item["kind_of"] == kind}

    def create(self, kind, data):
        number = len(self.items) + 1
        own = {"id": number, "kind_of": kind, "url": f"{API}{kind}/{number}/"}
        self.items[number] = own | self.checked(data)
        return self.items[number]

    def checked(self, data):
        if "playbook" in data and data["playbook"] not in self.playbooks:
            raise Refused({"playbook": ["Playbook not found for project."]})
        if "rrule" in data and not re.fullmatch(r"DTSTART:\d{8}T\d{6}Z RRULE:FREQ=\w+;INTERVAL=\d+", data["rrule"]):
            raise Refused({"rrule": ["not of the form that these tests know"]})
        return {key: "" if value is None and key in EMPTY_TEXT else value for key, value in data.items()}

    def shown(self, item):
        found = {**item, "type": item["kind_of"], "related": {}, "summary_fields": {}}
        del found["kind_of"]
        if item["kind_of"] == "credentials":
            kind = self.items[item["credential_type"]]
            secret = {field["id"] for field in kind["inputs"]["fields"] if field.get("secret")}
            found["inputs"] = hidden(item["inputs"], secret)
        if item["kind_of"] == "notification_templates":
            found["notification_configuration"] = hidden(item["notification_configuration"], SECRETS_OF_NOTIFICATIONS)
        if item["kind_of"] == "job_templates":
            found["related"]["survey_spec"] = f"{item['url']}survey_spec/"
        if item["kind_of"] == "projects":
            found |= {"scm_revision": "", "summary_fields": {"current_update": {"id": item["id"]}}}
        return found

    def answer(self, method, path, query, data):
        """Status and body of the answer to a request."""
        kind, *rest = path.removeprefix(API).strip("/").split("/")
        if method != "GET":
            self.writes.append((method, path.removeprefix(API), data))
        if kind == "project_updates":
            return 200, {"status": "successful"}
        if not rest:
            if method == "POST":
                return 201, self.shown(self.create(kind, data))
            return 200, listed([self.shown(item) for item in self.items.values() if matches(item, kind, query)])
        item = self.items[int(rest[0])]
        if rest[1:] == ["survey_spec"]:
            if method != "GET":
                self.surveys[item["id"]] = data
            return 200, self.surveys[item["id"]]
        if rest[1:]:
            return self.association(method, self.associated[item["id"], rest[1]], data)
        if method == "PATCH":
            item |= self.checked(data)
        return 200, self.shown(item)

    @staticmethod
    def association(method, ids, data):
        if method == "GET":
            return 200, listed([{"id": number} for number in ids])
        (ids.remove if data.get("disassociate") else ids.append)(data["id"])
        return 204, None


def hidden(values, secret):
    return {key: HIDDEN if key in secret and value else value for key, value in values.items()}


def listed(results):
    return {"count": len(results), "next": None, "results": results}


def matches(item, kind, query):
    return item["kind_of"] in (UNIFIED if kind == "unified_job_templates" else (kind,)) and all(
        str(item.get(key)) == value for key, value in query.items()
    )


@contextmanager
def running_awx(playbooks):
    """An Awx on loopback, with ``environment``: what the collection awx.awx needs to reach it."""
    awx = Awx(playbooks)

    class Handler(BaseHTTPRequestHandler):
        def reply(self):
            length = int(self.headers.get("Content-Length") or 0)
            data = json.loads(self.rfile.read(length) or "{}")
            url = urlsplit(self.path)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, body = 401, None
            else:
                try:
                    status, body = awx.answer(self.command, url.path, dict(parse_qsl(url.query)), data)
                except Refused as error:
                    status, body = 400, error.args[0]
            content = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", VERSION)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = reply

        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        awx.environment = {
            "CONTROLLER_HOST": f"http://127.0.0.1:{server.server_port}",
            "CONTROLLER_OAUTH_TOKEN": TOKEN,
            "SSL_CERT_FILE": os.devnull,  # else the authorities are read for each request, most of a run's time
        }
        try:
            yield awx
        finally:
            server.shutdown()
            thread.join()

#!/usr/bin/env python3
"""A small EC2 instance metadata service (IMDSv2), standard library only.

usage: imds.py STATE_DIR ADDRESS:PORT [ADDRESS:PORT...]

STATE_DIR/facts.json     what the instance says about itself (see FACTS); optional
STATE_DIR/interrupt.json {"action": ..., "time": ...}: while it exists, it is served as
                         spot/instance-action (and its time as spot/termination-time)
STATE_DIR/rebalance.json {"noticeTime": ...}: events/recommendations/rebalance
The files are read at every request, so `cloud interrupt` only writes a file.
"""

import json
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FACTS = {
    "ami-id": "ami-12c6146b",
    "instance-id": "i-0123456789abcdef0",
    "instance-life-cycle": "spot",
    "instance-type": "c5.large",
    "local-hostname": "ip-10-0-0-1.ec2.internal",
    "local-ipv4": "10.0.0.1",
    "placement/availability-zone": "us-east-1a",
    "placement/region": "us-east-1",
    "iam/security-credentials": "testbed-role",
}
CREDENTIALS = {
    "Code": "Success",
    "Type": "AWS-HMAC",
    "LastUpdated": "2020-01-01T00:00:00Z",
    "AccessKeyId": "testing",
    "SecretAccessKey": "testing",
    "Token": "testing",
    "Expiration": "2099-01-01T00:00:00Z",
}
TOKENS = {}  # token -> time of expiry
STATE = []  # the folder


def load(name):
    try:
        return json.loads(Path(STATE[0], name).read_text())
    except FileNotFoundError:
        return None


def tree():
    """Every path below /latest and its text; a value of None is a 404."""
    facts = {**FACTS, **(load("facts.json") or {})}
    leaves = {"meta-data/" + key: value for key, value in facts.items()}
    role = leaves.pop("meta-data/iam/security-credentials")
    leaves["meta-data/iam/security-credentials/" + role] = json.dumps(CREDENTIALS)
    interrupt, rebalance = load("interrupt.json"), load("rebalance.json")
    if interrupt:
        leaves["meta-data/spot/instance-action"] = json.dumps(interrupt)
        if interrupt["action"] != "hibernate":
            leaves["meta-data/spot/termination-time"] = interrupt["time"]
    if rebalance:
        leaves["meta-data/events/recommendations/rebalance"] = json.dumps(rebalance)
    leaves["dynamic/instance-identity/document"] = json.dumps(
        {
            "instanceId": facts["instance-id"],
            "instanceType": facts["instance-type"],
            "imageId": facts["ami-id"],
            "region": facts["placement/region"],
            "availabilityZone": facts["placement/availability-zone"],
            "privateIp": facts["local-ipv4"],
            "accountId": "123456789012",
        }
    )
    return leaves


class Handler(BaseHTTPRequestHandler):
    server_version = "EC2ws"
    protocol_version = "HTTP/1.1"

    def answer(self, status, text="", **headers):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/latest/api/token":
            return self.answer(404, "Not Found")
        if self.headers.get("X-Forwarded-For"):
            return self.answer(403, "Forbidden")
        ttl = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not ttl.isdigit() or not 1 <= int(ttl) <= 21600:
            return self.answer(400, "Bad Request")
        token = secrets.token_urlsafe(40)
        TOKENS[token] = time.monotonic() + int(ttl)
        self.answer(200, token, X_aws_ec2_metadata_token_ttl_seconds=ttl)
        return None

    def do_GET(self):
        token = self.headers.get("X-aws-ec2-metadata-token", "")
        if TOKENS.get(token, 0) < time.monotonic():
            return self.answer(401, "Unauthorized")
        path = self.path.split("?")[0].strip("/")
        if not path.startswith("latest"):
            return self.answer(404, "Not Found")
        path = path[len("latest") :].strip("/")
        leaves = tree()
        if path in leaves:
            return self.answer(200, leaves[path])
        # a directory: its entries, one a line, those with entries of their own end in /
        prefix = path + "/" if path else ""
        below = {key[len(prefix) :] for key in leaves if key.startswith(prefix)}
        names = sorted({key.split("/")[0] + ("/" if "/" in key else "") for key in below})
        if names:
            return self.answer(200, "\n".join(names))
        self.answer(404, "Not Found")
        return None

    def log_message(self, *args):
        sys.stderr.write(f"{self.log_date_time_string()} {args[0] % args[1:]}\n")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    STATE.append(sys.argv[1])
    servers = []
    for place in sys.argv[2:]:
        address, port = place.rsplit(":", 1)
        servers.append(ThreadingHTTPServer((address, int(port)), Handler))
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()

"""A network namespace with the real nft, one per test module: a child process that runs what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CHILD = """
import json, subprocess, sys
for line in sys.stdin:
    job = json.loads(line)
    try:
        done = subprocess.run(job["argv"], input=job["stdin"], capture_output=True, text=True, timeout=60)
        answer = [done.returncode, done.stdout, done.stderr]
    except Exception as error:
        answer = [127, "", repr(error)]
    print(json.dumps(answer), flush=True)
"""


class Nft:
    """Runs programs inside the namespace; `load` and `objects` speak JSON with nft."""

    def __init__(self):
        way = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
        self.child = subprocess.Popen(
            [*way, sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *argv, stdin=""):
        try:
            self.child.stdin.write(json.dumps({"argv": argv, "stdin": stdin}) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            pytest.fail("this machine cannot make a network namespace (unshare --net); the firewall cannot be tested")
        return tuple(json.loads(line))

    def load(self, commands):
        """One transaction; the error of nft when it refuses."""
        code, _, error = self.run("nft", "-j", "-f", "-", stdin=json.dumps({"nftables": commands}))
        assert code == 0, error[:2000]

    def objects(self, name):
        listing = {"nftables": [{"list": {"table": {"family": "inet", "name": name}}}]}
        code, out, error = self.run("nft", "-j", "-f", "-", stdin=json.dumps(listing))
        assert code == 0, error[:500]
        return json.loads(out)["nftables"]

    def close(self):
        self.child.stdin.close()
        self.child.wait(timeout=20)


@pytest.fixture(scope="module")
def nft():
    it = Nft()
    code, out, error = it.run("nft", "--version")
    if code:
        pytest.fail(f"nft cannot be run here: {out}{error}")
    yield it
    it.close()

"""Kubeconfigs are found, merged and chosen from as kubectl does it: kubectl itself is asked."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controlplane import ControlPlane
from meshwright.errors import ClusterError
from meshwright.io import kubeconfig
from meshwright.io.kubeconfig import Login

A = """
clusters:
- {name: one, cluster: {server: "https://a.example:1", certificate-authority: pki/ca.crt}}
users:
- {name: joe, user: {token: from-a}}
contexts:
- {name: red, context: {cluster: one, user: joe}}
"""
B = """
apiVersion: v1
kind: Config
clusters:
- {name: one, cluster: {server: "https://b.example:1", tls-server-name: other.example}}
- {name: two, cluster: {server: "https://c.example:1", insecure-skip-tls-verify: true}}
users:
- {name: joe, user: {token: from-b, username: joe}}
- {name: file, user: {client-certificate: pki/me.crt, client-key: pki/me.key}}
contexts:
- {name: red, context: {cluster: two, user: joe, namespace: inner}}
- {name: blue, context: {cluster: one, user: file, namespace: inner}}
current-context: blue
preferences: {}
"""
C = """
contexts:
- {name: mixed, context: {cluster: two, user: joe}}
current-context: mixed
"""
FILES = {
    "a": A,
    "b": B,
    "c": C,
    "empty": "",
    "null": "clusters: null\nusers: null\ncontexts: null\n",
    "later": "current-context: red\n",
    "twice": 'clusters:\n- {name: x, cluster: {server: "https://1:1"}}\n- {name: x, cluster: {server: "https://2:1"}}\n',
    "broken": "clusters:\n- name: [a\n",
    "list": "clusters: {one: two}\n",
    "pod": "apiVersion: v1\nkind: Pod\n",
    "numbers": "current-context: red\nusers: [{name: 12, user: {token: t}}]\n",
    "stranger": 'clusters: [{name: s, cluster: {server: "https://s:1"}}]\n'
    "contexts: [{name: s, context: {cluster: s, user: nobody}}]\ncurrent-context: s\n",
    "astray": "contexts: [{name: s, context: {cluster: nowhere, user: joe}}]\ncurrent-context: s\n",
    "extended": 'clusters: [{name: e, cluster: {server: "https://e:1", proxy-url: "http://p:3", extensions: '
    "[{name: x, extension: {a: 1}}]}}]\nusers: [{name: e, user: {tokenFile: tok}}]\n"
    "contexts: [{name: e, context: {cluster: e, user: e}}]\ncurrent-context: e\n",
    "data": 'clusters: [{name: e, cluster: {server: "https://e:1", certificate-authority-data: Y2E=}}]\n'
    "users: [{name: e, user: {client-certificate-data: Yw==, client-key-data: aw==}}]\n"
    "contexts: [{name: e, context: {cluster: e, user: e}}]\ncurrent-context: e\n",
}

CASES = [
    ("a:b", None), ("b:a", None), ("a:b", "red"), ("b:a", "red"), ("b", "red"), ("a", None), ("a", "red"),
    ("b:c", None), ("c:b", None), ("c:a:b", "mixed"), ("missing:b", None), ("empty:b", None), ("null:b", None),
    ("b:later", None), ("later:a", None), ("a:a:b", "blue"), ("b", "green"), ("twice", None), ("b:twice", None),
    ("b:broken", None), ("list", None), ("pod", None), ("b:numbers", None), ("sub/deep:b", "deep"), (":b:", None),
    ("astray:b", None), ("extended", None), ("data", None), ("c", None),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub" / "pki").mkdir(parents=True)
    (tmp_path / "pki").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "sub" / "deep").write_text(A.replace("red", "deep").replace("one", "deep").replace("joe", "deep"))
    for place in ("pki", "sub/pki"):
        for name in ("ca.crt", "me.crt", "me.key"):
            (tmp_path / place / name).write_text(f"{place}/{name}")
    return tmp_path


@pytest.mark.cluster
@pytest.mark.parametrize(("listed", "context"), CASES)
def test_as_kubectl_sees_it(
    listed: str, context: str | None, folder: Path, cluster: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    env = {"KUBECONFIG": listed, "HOME": str(folder)}
    chosen = [f"--context={context}"] if context else []
    done = subprocess.run(
        [cluster.programs["kubectl"], "config", "view", "--flatten", "--minify", "--raw", "-o", "json", *chosen],
        capture_output=True, timeout=60, cwd=folder, env={**env, "PATH": os.environ["PATH"]},
    )  # fmt: skip
    if done.returncode:
        with pytest.raises(ClusterError) as raised:
            kubeconfig.find(context, None, env)
        assert raised.value.hint
        return
    assert mine(kubeconfig.find(context, None, env)) == theirs(json.loads(done.stdout), folder)


def theirs(view: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What kubectl shows. It shows tokenFile as written, and reads it beside its kubeconfig."""
    context, cluster, user = view["contexts"][0], view["clusters"][0]["cluster"], view["users"][0]["user"]
    return {
        "context": context["name"],
        "namespace": context["context"].get("namespace", "default"),
        "server": cluster["server"],
        "ca": base64.b64decode(cluster.get("certificate-authority-data", "")),
        "tls_name": cluster.get("tls-server-name", ""),
        "insecure": cluster.get("insecure-skip-tls-verify", False),
        "proxy": cluster.get("proxy-url", ""),
        "token": user.get("token", ""),
        "username": user.get("username", ""),
        "tokenFile": str(folder / user["tokenFile"]) if "tokenFile" in user else "",
        "certificate": base64.b64decode(user.get("client-certificate-data", "")),
        "key": base64.b64decode(user.get("client-key-data", "")),
    }


def mine(login: Login) -> dict[str, Any]:
    account = login.account
    plain = {key: getattr(login, key) for key in ("context", "namespace", "server", "tls_name", "insecure", "proxy")}
    return {
        **plain,
        "ca": login.ca or b"",
        **{key: account.get(key, "") for key in ("token", "username", "tokenFile")},
        "certificate": kubeconfig.material(account, "client-certificate", "") or b"",
        "key": kubeconfig.material(account, "client-key", "") or b"",
    }


def test_a_file_that_is_named_is_the_only_one(folder: Path) -> None:
    env = {"KUBECONFIG": str(folder / "a"), "HOME": str(folder)}
    assert kubeconfig.find(None, folder / "b", env).context == "blue"
    with pytest.raises(ClusterError, match=r"nothing: no such kubeconfig"):
        kubeconfig.find(None, folder / "nothing", env)


def test_a_user_without_a_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ClusterError, match="no kubeconfig found in KUBECONFIG, and this user has no home"):
        kubeconfig.find(None, None, {})


def test_without_a_word_it_is_the_one_at_home(folder: Path) -> None:
    (folder / ".kube").mkdir()
    (folder / ".kube" / "config").write_text((folder / "data").read_text())
    assert kubeconfig.find(None, None, {"HOME": str(folder)}).server == "https://e:1"


def test_none_at_all_is_the_pods_own_account(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"HOME": str(folder), "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ClusterError, match="no kubeconfig found"):
        kubeconfig.find(None, None, env)
    account = folder / "account"
    account.mkdir()
    for name, text in {"token": "t", "ca.crt": "ca", "namespace": "tools\n"}.items():
        (account / name).write_text(text)
    monkeypatch.setattr(kubeconfig, "ACCOUNT", account)
    found = kubeconfig.find(None, None, env)
    assert (found.server, found.namespace, found.ca) == ("https://[fd00::1]:443", "tools", b"ca")
    assert found.account == {"tokenFile": str(account / "token")}
    with pytest.raises(ClusterError, match="no context 'x'"):
        kubeconfig.find("x", None, env)


WORDS = {
    "b context": ("green", "b", "there is no context 'green'", "the contexts are: blue, red"),
    "none chosen": (None, "a", "no context is chosen", "red"),
    "no user": (None, "stranger", "names the user 'nobody', which is not there", "the contexts are: s"),
    "no cluster": (None, "astray", "names the cluster 'nowhere', which is not there", "s"),
    "not YAML": (None, "broken", "broken:3:1: the kubeconfig is not YAML", "correct"),
    "a pod": (None, "pod", "not a kubeconfig", "Config"),
    "not text": (None, "numbers", "numbers: users: name is not text", "quotes"),
    "twice": (None, "twice", "'x' is there twice", "rename"),
    "a folder": (None, "sub", "cannot be read: Is a directory", "file"),
    "empty": (None, "empty", "empty is empty", "KUBECONFIG"),
    "missing": (None, "missing", "no kubeconfig found in", "KUBECONFIG"),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_is_wrong_is_said_with_place_and_next_step(name: str, folder: Path) -> None:
    context, file, message, hint = WORDS[name]
    with pytest.raises(ClusterError) as raised:
        kubeconfig.find(context, None, {"KUBECONFIG": str(folder / file)})
    assert str(folder / file) in raised.value.message
    assert message in raised.value.message
    assert hint in raised.value.hint


def test_no_representation_shows_a_secret(folder: Path) -> None:
    (folder / "b").write_text(B.replace("from-b", "hidden"))
    login = kubeconfig.find("red", folder / "b", {})
    assert login.account["token"] == "hidden"
    assert "hidden" not in repr(login) + str(login)


def test_a_plugin_with_a_slash_is_beside_its_file(folder: Path) -> None:
    text = B.replace("{token: from-b, username: joe}", '{exec: {command: "bin/login", apiVersion: v}}')
    (folder / "b").write_text(text)
    assert kubeconfig.find("red", folder / "b", {}).account["exec"]["command"] == str(folder / "bin" / "login")
    (folder / "b").write_text(text.replace("bin/login", "login"))
    assert kubeconfig.find("red", folder / "b", {}).account["exec"]["command"] == "login"

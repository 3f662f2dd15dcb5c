"""Who we are at a real API server: tokens that change, plugins, certificates; and what is said when that fails."""

from __future__ import annotations

import base64
import json
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from between import Between
from controlplane import ControlPlane
from meshwright.errors import ClusterError
from meshwright.io import credentials, execplugin
from meshwright.io.cluster import Cluster, connect
from meshwright.lab.cluster import kubeconfig, pki

pytestmark = pytest.mark.cluster

V1, BETA = execplugin.VERSIONS
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def whoami(client: Cluster) -> str:
    review = client.create(REVIEW, {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    return str(review["status"]["userInfo"]["username"])


class Plugin:
    """A credential plugin whose answer the test writes; it keeps what it was told."""

    def __init__(self, folder: Path, cluster: ControlPlane, server: str = "", version: str = V1) -> None:
        self.folder, self.version = folder, version
        self.program = folder / "plugin"
        self.program.write_text(
            f"#!{sys.executable}\nimport os, sys\nopen({str(folder / 'told')!r}, 'a')"
            f".write(os.environ['KUBERNETES_EXEC_INFO'] + '\\n')\n"
            f"exec(open({str(folder / 'does')!r}).read())\n"
            f"sys.stdout.write(open({str(folder / 'says')!r}).read())\n"
        )
        self.program.chmod(0o755)
        (folder / "does").write_text("")
        self.entry: dict[str, Any] = {
            "apiVersion": version,
            "command": "./plugin",
            "interactiveMode": "Never",
            "installHint": "Get it at the shop.",
        }
        self._where = server or cluster.server, cluster.ca

    def says(self, expires: str = "", **status: str) -> None:
        if expires:
            status["expirationTimestamp"] = expires
        answer = {"apiVersion": self.version, "kind": "ExecCredential", "status": status}
        (self.folder / "says").write_text(json.dumps(answer))

    def connect(self, patience: float = 30) -> Cluster:
        path = self.folder / "kubeconfig"
        kubeconfig.write(path, *self._where, {"exec": self.entry})  # type: ignore[dict-item]
        return Cluster(None, path, patience=patience)

    def told(self) -> list[dict[str, Any]]:
        path = self.folder / "told"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def plugin(tmp_path: Path, cluster: ControlPlane) -> Plugin:
    return Plugin(tmp_path, cluster)


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("version", [V1, BETA])
def test_a_plugin_gives_a_token(version: str, tmp_path: Path, cluster: ControlPlane, home: str, boss: str) -> None:
    plugin = Plugin(tmp_path, cluster, version=version)
    plugin.says(token=boss)
    client = plugin.connect()
    assert [whoami(client) for _ in range(3)] == [f"system:serviceaccount:{home}:boss"] * 3
    assert plugin.told() == [{"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}]


def test_a_plugin_is_asked_again_when_its_answer_has_ended(plugin: Plugin, boss: str) -> None:
    plugin.says(token=boss, expires=soon(execplugin.EARLY - 1))
    client = plugin.connect()
    whoami(client)
    whoami(client)
    assert len(plugin.told()) == 2
    plugin.says(token=boss, expires=soon(3600))
    whoami(client)
    whoami(client)
    assert len(plugin.told()) == 3


def test_a_refused_token_is_renewed_once(plugin: Plugin, cluster: ControlPlane, home: str, boss: str) -> None:
    plugin.says(token="ended")
    plugin.entry["args"] = [str(plugin.folder / "says")]
    plugin.entry["env"] = [{"name": "NEXT", "value": json.dumps(boss)}]
    # the second answer is a good one
    (plugin.folder / "does").write_text(
        "import pathlib, json\np = pathlib.Path(sys.argv[1])\n"
        f"if len(open({str(plugin.folder / 'told')!r}).readlines()) == 2:\n"
        "    p.write_text(p.read_text().replace('\"ended\"', os.environ['NEXT']))\n"
    )
    assert whoami(plugin.connect()) == f"system:serviceaccount:{home}:boss"
    assert len(plugin.told()) == 2


def test_a_token_that_stays_bad_is_an_error_with_a_next_step(plugin: Plugin) -> None:
    plugin.says(token="ended")
    with pytest.raises(ClusterError, match=r"credentials of context 'lab' .* are not accepted") as raised:
        whoami(plugin.connect())
    assert len(plugin.told()) == 2
    assert raised.value.status == 401
    assert raised.value.hint


def test_a_plugin_gives_a_certificate_and_another_one_later(plugin: Plugin, cluster: ControlPlane) -> None:
    folder = plugin.folder / "pki"
    folder.mkdir()
    for name in ("ca.crt", "ca.key"):
        (folder / name).write_bytes((cluster.ca.parent / name).read_bytes())
    for name in ("ada", "ben"):
        pki.issue(folder, name, f"/CN={name}")
        pair = {"clientCertificateData": f"{name}.crt", "clientKeyData": f"{name}.key"}
        plugin.says(
            **{key: (folder / file).read_text() for key, file in pair.items()},
            expires=soon(0 if name == "ada" else 3600),
        )
        client = plugin.connect() if name == "ada" else client  # type: ignore[has-type] # noqa: F821
        assert whoami(client) == name


def test_a_plugin_learns_where_its_credential_goes(plugin: Plugin, cluster: ControlPlane, boss: str) -> None:
    plugin.says(token=boss)
    plugin.entry["provideClusterInfo"] = True
    whoami(plugin.connect())
    authority = base64.b64encode(cluster.ca.read_bytes()).decode()
    assert plugin.told()[0]["spec"] == {
        "interactive": False,
        "cluster": {"server": cluster.server, "certificate-authority-data": authority},
    }


def prints(status: dict[str, str], version: str = V1) -> str:
    answer = json.dumps({"kind": "ExecCredential", "apiVersion": version, "status": status})
    return f"print({answer!r}); sys.exit(0)"


WRONG = {
    "exits": ("print('no access\\nlog in first', file=sys.stderr); sys.exit(3)", "ended with code 3: log in first"),
    "no json": ("print('hello'); sys.exit(0)", "no ExecCredential"),
    "nothing in it": (prints({}), "neither"),
    "another version": (prints({"token": "t"}, BETA), "no ExecCredential"),
    "half a pair": (prints({"token": "t", "clientKeyData": "k"}), "neither"),
    "bad time": (prints({"token": "t", "expirationTimestamp": "soon"}), "no ExecCredential"),
    "says a token": ("print('bad eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl', file=sys.stderr); sys.exit(1)", r"bad \(token\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_plugin_that_fails_is_one_sentence(name: str, plugin: Plugin) -> None:
    does, said = WRONG[name]
    plugin.says(token="t")
    (plugin.folder / "does").write_text(does)
    with pytest.raises(ClusterError, match=said) as raised:
        whoami(plugin.connect())
    assert "user 'lab'" in raised.value.message
    assert raised.value.hint


def test_a_plugin_that_is_not_there_says_where_to_get_it(plugin: Plugin) -> None:
    plugin.program.unlink()
    with pytest.raises(ClusterError, match="is not installed") as raised:
        whoami(plugin.connect())
    assert raised.value.hint == "Get it at the shop."


def test_a_plugin_that_hangs_is_ended(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execplugin, "TIMEOUT", 0.5)
    (plugin.folder / "does").write_text("import time; time.sleep(60)")
    with pytest.raises(ClusterError, match="did not finish"):
        whoami(plugin.connect())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "speaks client.authentication.k8s.io/v1alpha1"),
        ({"interactiveMode": "Always"}, "wants to ask"),
    ],
)
def test_plugins_that_we_cannot_run(change: dict[str, str], said: str, plugin: Plugin) -> None:
    plugin.entry.update(change)
    with pytest.raises(ClusterError, match=said):
        whoami(plugin.connect())
    assert not plugin.told()


def test_a_token_file_that_is_replaced(cluster: ControlPlane, home: str, boss: str, tmp_path: Path) -> None:
    file, path = tmp_path / "token", tmp_path / "kubeconfig"
    kubeconfig.write(path, cluster.server, cluster.ca, {"tokenFile": "token"})
    client = connect(kubeconfig=path)
    with pytest.raises(ClusterError, match=r"token file .*/token cannot be read: No such file"):
        whoami(client)
    file.write_text(boss + "\n")
    assert whoami(client) == f"system:serviceaccount:{home}:boss"
    # an ended one is in use until the file has a fresh one
    file.write_text("ended")
    client = connect(kubeconfig=path)
    with pytest.raises(ClusterError, match="not accepted"):
        whoami(client)
    file.write_text(boss)
    assert whoami(client) == f"system:serviceaccount:{home}:boss"


def test_a_token_file_is_read_again_before_anybody_complains(
    cluster: ControlPlane, home: str, boss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, path = tmp_path / "token", tmp_path / "kubeconfig"
    kubeconfig.write(path, cluster.server, cluster.ca, {"tokenFile": str(file)})
    file.write_text(boss)
    client = connect(kubeconfig=path)
    assert whoami(client) == f"system:serviceaccount:{home}:boss"
    file.write_text(cluster.token("default", "default"))
    assert whoami(client) == f"system:serviceaccount:{home}:boss"
    monkeypatch.setattr(credentials, "REREAD", 0)
    file.write_text(boss)
    client = connect(kubeconfig=path)
    assert whoami(client) == f"system:serviceaccount:{home}:boss"
    file.write_text(cluster.token("default", "default"))
    assert whoami(client) == "system:serviceaccount:default:default"


def test_a_certificate_from_files_and_one_that_is_broken(cluster: ControlPlane, tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    folder.mkdir()
    for name in ("ca.crt", "ca.key"):
        (folder / name).write_bytes((cluster.ca.parent / name).read_bytes())
    pki.issue(folder, "ada", "/CN=ada")
    pki.issue(folder, "ben", "/CN=ben")
    path = tmp_path / "kubeconfig"
    entry = {"client-certificate": "pki/ada.crt", "client-key": "pki/ada.key"}
    kubeconfig.write(path, cluster.server, cluster.ca, entry)
    assert whoami(connect(kubeconfig=path)) == "ada"
    assert stat.S_IMODE((folder / "ada.key").stat().st_mode) == 0o600
    kubeconfig.write(path, cluster.server, cluster.ca, {**entry, "client-key": "pki/ben.key"})
    with pytest.raises(ClusterError, match="cannot be used"):
        whoami(connect(kubeconfig=path))
    kubeconfig.write(path, cluster.server, cluster.ca, {"client-certificate": "pki/ada.crt"})
    with pytest.raises(ClusterError, match="only one of"):
        whoami(connect(kubeconfig=path))


def test_a_key_with_a_password_is_refused_without_asking(cluster: ControlPlane, tmp_path: Path) -> None:
    key = tmp_path / "locked.key"
    locked = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-aes256"]
    from meshwright.io import process

    assert process.run([*locked, "-pass", "pass:x", "-out", str(key)], timeout=30).code == 0
    path = tmp_path / "kubeconfig"
    certificate = str(cluster.ca.parent / "admin.crt")
    entry = {"client-certificate": certificate, "client-key": str(key)}
    kubeconfig.write(path, cluster.server, cluster.ca, entry)
    with pytest.raises(ClusterError, match="cannot be used") as raised:
        whoami(connect(kubeconfig=path))
    assert "password" in raised.value.hint


def test_a_token_with_a_line_break_is_sent_nowhere(way: Between, cluster: ControlPlane, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, way.url, cluster.ca, {"token": "a\r\nX-Evil: 1"})
    with pytest.raises(ClusterError, match="characters that no token has"):
        whoami(connect(kubeconfig=path))
    assert not way.asked


def test_acting_as_somebody_else(cluster: ControlPlane, boss: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, cluster.server, cluster.ca, {"token": boss, "as": "carol"})
    assert whoami(connect(kubeconfig=path)) == "carol"

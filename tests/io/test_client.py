"""The connection to a real API server: what it asks, what it gives, and what it says when it is refused."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

import between
from between import Between
from controlplane import ControlPlane
from meshwright.errors import ClusterError
from meshwright.io.cluster import Cluster, connect
from meshwright.lab.cluster import kubeconfig, pki

pytestmark = pytest.mark.cluster


def test_what_a_context_is(cluster: ControlPlane) -> None:
    client = cluster.connect()
    assert (client.name, client.server, client.namespace, client.insecure) == ("lab", cluster.server, "default", False)
    assert abs((client.now() - datetime.now(UTC)).total_seconds()) < 5


def test_apply_says_who_holds_what(cluster: ControlPlane, home: str) -> None:
    client, path = cluster.connect(), f"/api/v1/namespaces/{home}/configmaps/held"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held"}}
    client.apply(path, {**body, "data": {"a": "1", "b": "1"}}, manager="flux")
    with pytest.raises(ClusterError) as raised:
        client.apply(path, {**body, "data": {"a": "2", "b": "2"}}, manager="meshwright")
    assert (raised.value.status, raised.value.reason) == (409, "Conflict")
    assert sorted(raised.value.causes) == [(".data.a", "flux"), (".data.b", "flux")]
    dry = client.apply(path, {**body, "data": {"a": "2"}}, manager="meshwright", force=True, dry_run=True)
    assert dry["data"]["a"] == "2"
    assert client.get(path)["data"]["a"] == "1"
    assert client.apply(path, {**body, "data": {"a": "2"}}, manager="meshwright", force=True)["data"]["a"] == "2"
    client.delete(path)


def test_fields_that_are_not_there_are_refused(cluster: ControlPlane, home: str) -> None:
    client, folder = cluster.connect(), f"/api/v1/namespaces/{home}/configmaps"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "strict"}, "dta": {"a": "1"}}
    with pytest.raises(ClusterError, match="dta") as raised:
        client.apply(f"{folder}/strict", body, manager="m")
    assert "correct what it names" in raised.value.hint
    with pytest.raises(ClusterError, match="dta"):
        client.create(folder, body, manager="m")


def test_delete_minds_its_conditions(cluster: ControlPlane, home: str) -> None:
    client, folder = cluster.connect(), f"/api/v1/namespaces/{home}/configmaps"
    made = client.create(folder, {"metadata": {"name": "gone"}})
    for wrong in ({"uid": "other"}, {"version": "1"}):
        with pytest.raises(ClusterError) as raised:
            client.delete(f"{folder}/gone", **wrong)
        assert raised.value.status == 409
    client.delete(f"{folder}/gone", uid=made["metadata"]["uid"], version=made["metadata"]["resourceVersion"])
    client.delete(f"{folder}/gone")
    with pytest.raises(ClusterError) as raised:
        client.get(f"{folder}/gone")
    assert (raised.value.status, raised.value.reason) == (404, "NotFound")


def test_replace_is_compare_and_set(cluster: ControlPlane, home: str) -> None:
    client, folder = cluster.connect(), f"/api/v1/namespaces/{home}/configmaps"
    made = client.create(folder, {"metadata": {"name": "set"}})
    client.replace(f"{folder}/set", {**made, "data": {"a": "1"}}, manager="m")
    with pytest.raises(ClusterError) as raised:
        client.replace(f"{folder}/set", {**made, "data": {"a": "2"}}, manager="m")
    assert raised.value.reason == "Conflict"
    assert client.merge(f"{folder}/set", {"data": None}, manager="m").get("data") is None
    client.delete(f"{folder}/set")


def test_a_kind_that_is_not_installed_is_not_found(cluster: ControlPlane) -> None:
    with pytest.raises(ClusterError, match="no such kind") as raised:
        cluster.connect().list("/apis/example.invalid/v1/things")
    assert (raised.value.status, raised.value.reason) == (404, "NotFound")


def test_warnings_of_the_server_arrive(cluster: ControlPlane, home: str) -> None:
    heard: list[tuple[str, str]] = []
    client = connect(kubeconfig=cluster.kubeconfig, warn=lambda path, text: heard.append((path, text)))
    container = {"name": "c", "image": "x"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container] * 1}}
    pod["spec"]["nodeSelector"] = {"beta.kubernetes.io/os": "linux"}  # type: ignore[index]
    client.create(f"/api/v1/namespaces/{home}/pods", pod, dry_run=True)
    assert [path for path, _ in heard] == [f"/api/v1/namespaces/{home}/pods"]
    assert "beta.kubernetes.io/os" in heard[0][1]


def test_who_may_not_is_told_who_he_is(cluster: ControlPlane, home: str) -> None:
    token = cluster.token("default", "default")
    with pytest.raises(ClusterError, match="system:serviceaccount:default:default") as raised:
        cluster.as_(token).list(f"/api/v1/namespaces/{home}/secrets")
    assert (raised.value.status, raised.value.reason) == (403, "Forbidden")
    assert token not in str(raised.value)


def test_a_token_that_ended(cluster: ControlPlane) -> None:
    with pytest.raises(ClusterError, match="not accepted") as raised:
        cluster.as_(cluster.token("default", "default") + "x").get("/api/v1/namespaces")
    assert raised.value.status == 401
    assert "fresh kubeconfig" in raised.value.hint


def test_an_authority_that_is_not_the_servers(cluster: ControlPlane, tmp_path: Path) -> None:
    pki.make(tmp_path / "pki", ["127.0.0.1"])
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, cluster.server, tmp_path / "pki" / "ca.crt", {"token": "t"})
    with pytest.raises(ClusterError, match="not from the authority"):
        connect(kubeconfig=path).get("/version")


def test_a_name_that_the_certificate_lacks(cluster: ControlPlane, boss: str, tmp_path: Path) -> None:
    with between.between(cluster, tmp_path / "between", ("api.example",)) as way:
        path = tmp_path / "kubeconfig"
        kubeconfig.write(path, way.url, cluster.ca, {"token": boss})
        with pytest.raises(ClusterError, match=r"does not name 127\.0\.0\.1") as raised:
            connect(kubeconfig=path).get("/version")
        assert "tls-server-name" in raised.value.hint
        path.write_text(path.read_text().replace('"server"', '"tls-server-name": "api.example", "server"'))
        assert connect(kubeconfig=path).get("/version")["major"] == "1"
        path.write_text(path.read_text().replace("api.example", "other.example"))
        with pytest.raises(ClusterError, match=r"does not name other\.example"):
            connect(kubeconfig=path).get("/version")


def test_insecure_is_done_and_told(cluster: ControlPlane, boss: str, tmp_path: Path) -> None:
    pki.make(tmp_path / "pki", ["127.0.0.1"])
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, cluster.server, cluster.ca, {"token": boss})
    text = path.read_text()
    data = text.partition('"certificate-authority-data"')[2].partition("}")[0]
    path.write_text(text.replace(f'"certificate-authority-data"{data}', '"insecure-skip-tls-verify": true'))
    client = connect(kubeconfig=path)
    assert client.get("/version")["major"] == "1"
    assert client.insecure
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(ClusterError, match="not from the authority"):
        connect(kubeconfig=path).get("/version")


@contextmanager
def relay(path: Path, port: int) -> Iterator[list[int]]:
    """A Unix socket that leads to a port of this machine; counts its connections."""
    seen: list[int] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                seen.append(1)
                far = socket.create_connection(("127.0.0.1", port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_by_a_socket_the_certificate_is_still_that_of_the_url(
    cluster: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    port = int(cluster.server.rpartition(":")[2])
    admin = kubeconfig.admin(cluster.plane.folder)
    path, door = tmp_path / "kubeconfig", tmp_path / "door"
    with relay(door, port) as seen:
        # nobody listens at 192.0.2.1; kubernetes.default.svc is a name of the certificate, 192.0.2.1 is none
        kubeconfig.write(path, "https://192.0.2.1:6443", cluster.ca, admin)
        with pytest.raises(ClusterError, match=r"does not name 192\.0\.2\.1"):
            connect(kubeconfig=path, socket=door).get("/version")
        kubeconfig.write(path, "https://kubernetes.default.svc:6443", cluster.ca, admin)
        assert connect(kubeconfig=path, socket=door).get("/version")["major"] == "1"
        assert len(seen) == 2


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(
    cluster: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://joe:hidden@127.0.0.1:1")
    assert cluster.connect().get("/version")["major"] == "1"
    path = tmp_path / "kubeconfig"
    kubeconfig.write(path, "https://192.0.2.1:6443", cluster.ca, {"token": "t"})
    with pytest.raises(ClusterError, match=r"by proxy http://127\.0\.0\.1:1\)") as raised:
        Cluster(None, path, patience=0.3).get("/version")
    assert "hidden" not in str(raised.value) + raised.value.hint


def test_many_threads_share_one(cluster: ControlPlane, home: str) -> None:
    client, wrong = cluster.connect(), []

    def work(number: int) -> None:
        path = f"/api/v1/namespaces/{home}/configmaps/thread-{number}"
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"thread-{number}"}}
        for turn in range(5):
            if client.apply(path, {**body, "data": {"a": str(turn)}}, manager="m")["data"] != {"a": str(turn)}:
                wrong.append(number)
        client.delete(path)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    left = client.list(f"/api/v1/namespaces/{home}/configmaps")
    assert not [o for o in left if o["metadata"]["name"].startswith("thread-")]
    client.close()
    assert client.get("/version")["major"] == "1"


def test_key_data_is_on_no_disk(cluster: ControlPlane, way: Between, tmp_path: Path) -> None:
    code = (
        "import sys, tempfile, os\n"
        "def told(event, args):\n"
        "    path, mode, flags = args if event == 'open' else ('', '', 0)\n"
        "    if isinstance(path, str) and ('w' in str(mode) or (flags or 0) & os.O_CREAT):\n"
        "        print('wrote', path)\n"
        "sys.dont_write_bytecode = True\n"
        "from pathlib import Path\n"
        "from meshwright.io.cluster import connect\n"
        "sys.addaudithook(told)\n"
        f"print(connect(kubeconfig=Path({str(cluster.kubeconfig)!r})).get('/version')['major'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, env={"PYTHONPATH": "src"})
    assert done.stdout == b"1\n", done.stderr.decode()


def test_importing_it_costs_nothing() -> None:
    dear = ["lightkube", "httpx2", "httpcore2", "ssl", "yaml"]
    code = f"import sys, meshwright.io.cluster; print([m for m in {dear} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, env={"PYTHONPATH": "src"})
    assert done.stdout == b"[]\n", done.stderr.decode()

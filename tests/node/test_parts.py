"""What a node is made from, without one: images, settings, cgroups, and the reasons why there can be none."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace

import pytest

from meshwright.errors import LabError
from meshwright.lab.cluster import images, node, settings
from meshwright.lab.cluster.images import Image
from meshwright.lab.inside import cgroups
from meshwright.lab.inside.cgroups import Hierarchy, Unfit

GROUND = settings.Ground(
    name="k3s-server-1",
    address=ip_address("192.168.20.20"),
    server="https://192.168.20.20:6443",
    pki=Path("/pki"),
    bridge=ip_network("10.42.0.0/24"),
    first=ip_address("10.42.0.100"),
    last=ip_address("10.42.0.254"),
    pods=ip_network("10.42.0.0/16"),
    dns="10.43.0.10",
    plugins="/usr/lib/cni",
    everywhere="::",
    loopback=(10256, 10257),
)


def blobs(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}


def test_an_image_is_what_its_manifest_says(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    image = Image("here/it:1", ["/bin/it"], {"bin/it": program, "etc/passwd": b"root"}, {"bin/sh": "it"})
    images.write(tmp_path / "a.tar", [image])
    parts = blobs(tmp_path / "a.tar")
    entry = json.loads(parts["index.json"])["manifests"][0]
    assert entry["annotations"] == {"io.containerd.image.name": "here/it:1"}
    manifest = json.loads(parts[f"blobs/sha256/{entry['digest'][7:]}"])
    config = json.loads(parts[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    assert (config["config"]["Cmd"], config["config"]["User"]) == (["/bin/it"], "65534")
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    (tmp_path / "layer.tar").write_bytes(parts[f"blobs/sha256/{manifest['layers'][0]['digest'][7:]}"])
    with tarfile.open(tmp_path / "layer.tar") as layer:
        modes = {m.name: m.mode for m in layer.getmembers()}
        assert layer.getmember("bin/sh").linkname == "it"
    assert modes["bin/it"] == 0o755
    assert modes["tmp"] == 0o1777
    assert list(modes).index("bin") < list(modes).index("bin/it")


def test_the_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        images.write(tmp_path / name, [Image("here/it:1", ["/x"], {"x": b"x", "a/b/c": b"y"})])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_program_brings_its_libraries_along() -> None:
    found = images.libraries("/bin/sh")
    assert any("libc.so" in path for path in found)
    assert all(path.is_file() and not name.startswith("/") for name, path in found.items())


def test_pods_get_what_the_lab_does_not_use() -> None:
    network, used = ip_network("10.42.0.0/24"), ip_address("10.42.0.53")
    assert node._range(network, used) == (ip_address("10.42.0.100"), ip_address("10.42.0.254"))
    assert node._range(network, ip_address("10.42.0.200"))[0] == ip_address("10.42.0.201")
    small = ip_network("10.0.0.0/27")
    assert node._range(small, ip_address("10.0.0.11")) == (ip_address("10.0.0.12"), ip_address("10.0.0.30"))
    with pytest.raises(LabError, match="no room for pods"):
        node._range(ip_network("10.42.0.0/24"), ip_address("10.42.0.250"))
    with pytest.raises(LabError, match="no room for pods"):
        node._range(ip_network("10.0.0.0/29"), ip_address("10.0.0.5"))


def test_settings_never_touch_what_is_the_machines() -> None:
    files = settings.files(GROUND)
    assert json.loads(files["kubelet.yaml"])["protectKernelDefaults"] is True
    assert json.loads(files["kube-proxy.yaml"])["conntrack"]["maxPerCore"] == 0
    scope = json.loads(files["cni/10-lab.conflist"])["plugins"][0]["ipam"]["ranges"][0][0]
    assert scope == {"subnet": "10.42.0.0/24", "rangeStart": "10.42.0.100", "rangeEnd": "10.42.0.254"}
    six = replace(GROUND, address=ip_address("fd00::20"), dns="")
    assert json.loads(settings.files(six)["kubelet.yaml"])["clusterDNS"] == []
    assert six.family == "ip6"


def lab_of(user: bool) -> SimpleNamespace:
    return SimpleNamespace(state=SimpleNamespace(userns=user))


def test_a_user_is_told_that_it_takes_root() -> None:
    assert node.obstacle(lab_of(user=True)) == "only root can run containers. Next: run the same command as root"


@pytest.mark.skipif(os.geteuid() != 0, reason="a user is told to be root first")
def test_missing_programs_are_named_with_their_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "PACKAGES", {"no-such-runc": "runc", "no-such-ctr": "containerd"})
    monkeypatch.setattr(node, "PLUGIN_FOLDERS", (str(tmp_path),))
    said = node.obstacle(lab_of(user=False))
    assert said == (
        "not installed: no-such-runc, no-such-ctr, the CNI plugins. "
        "Next: sudo apt install containerd containernetworking-plugins runc"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/user.slice\n", [Hierarchy("", "cgroup2")]),
        ("1:name=systemd:/\n0::/\n", [Hierarchy("", "cgroup2")]),
        (
            "9:name=systemd:/\n4:memory:/x:y\n1:cpu,cpuacct:/\n0::/\n",
            [
                Hierarchy("systemd", "cgroup", "none,name=systemd"),
                Hierarchy("memory", "cgroup", "memory", ("memory",)),
                Hierarchy("cpu,cpuacct", "cgroup", "cpu,cpuacct", ("cpu", "cpuacct")),
            ],
        ),
    ],
)
def test_cgroups_of_both_versions_are_told_apart(
    text: str, expected: list[Hierarchy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert cgroups.hierarchies() == expected


def test_every_fault_of_the_cgroups_has_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu io")
    with pytest.raises(Unfit, match=cgroups.MISSING):
        cgroups.enter([Hierarchy("", "cgroup2")], str(tmp_path), "part")
    words = set()
    for code in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY):

        def refuse(*_: object, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(cgroups, "_make", refuse)
        with pytest.raises(Unfit) as caught:
            cgroups.enter([Hierarchy("", "cgroup2")], str(tmp_path), "part")
        words.add(str(caught.value))
    assert words | {cgroups.MISSING} == set(node.FAULTS)

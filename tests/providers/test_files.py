"""The operator's files: keys survive, are private, and a .conf says what was wanted and nothing else."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from meshwright import keys
from meshwright.desired.resource import Resource, Unknown, collect
from meshwright.errors import SecretsError
from meshwright.events import silent
from meshwright.io import process
from meshwright.plan.plan import Change, make
from meshwright.providers.files import Files, rename

HUB = keys.public(keys.generate())


@pytest.fixture
def provider(tmp_path: Path) -> Files:
    return Files(tmp_path / "secrets", tmp_path / "out" / "clients", "northern")


def wanted_key(label: str) -> Resource:
    id = f"files/key/{label}"
    return Resource(id, {"public_key": Unknown(id, "public_key")})


def client(label: str, public_key: str, **more: object) -> Resource:
    attrs = {
        "address": ["10.77.1.1/32", "fd77::1/128"],
        "public_key": public_key,
        "mtu": 1380,
        "dns": [],
        "split_dns": [],
        "hub_key": HUB,
        "preshared_key": "",
        "endpoint": "vpn.example.net:443",
        "allowed_ips": ["192.0.2.0/24", "fd77::/64"],
        "keepalive": 25,
        **more,
    }
    return Resource(f"files/client/{label}", attrs, frozenset({("preshared_key",)}))


def create(provider: Files, resource: Resource) -> Resource:
    (result,) = provider.apply([Change(resource.id, None, resource.attrs, resource.secret)], silent)
    assert result.ok, result.why
    return Resource(resource.id, result.attrs)


def test_a_key_is_made_once_and_stays(provider: Files) -> None:
    first = create(provider, wanted_key("ada"))
    again = create(provider, wanted_key("ada"))
    assert first.attrs == again.attrs == provider.read({})["files/key/ada"].attrs
    path = provider.secrets / "keys/ada.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(provider.secrets.stat().st_mode) == 0o700
    assert (provider.secrets / ".gitignore").read_text().endswith("*\n")
    assert path.read_text().strip() not in repr(first)


def test_two_at_once_agree_on_one_key(provider: Files) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create(provider, wanted_key("ada")).attrs["public_key"], range(16)))
    assert set(made) == {provider.read({})["files/key/ada"].attrs["public_key"]}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"dns": ["10.96.0.10", "cluster.local"]},
        {"split_dns": ["10.96.0.10", "cluster.local"]},
        {"preshared_key": keys.preshared().reveal()},
        {"keepalive": 0},
    ],
)
def test_a_conf_reads_back_as_it_was_wanted(provider: Files, more: dict[str, object]) -> None:
    key = create(provider, wanted_key("ada")).attrs["public_key"]
    resource = client("ada", key, **more)
    create(provider, resource)
    assert not make({resource.id: resource}, {resource.id: provider.read({})[resource.id]})
    assert stat.S_IMODE((provider.clients / "ada.conf").stat().st_mode) == 0o600


def test_a_conf_for_a_key_of_his_own_holds_no_private_key(provider: Files) -> None:
    create(provider, wanted_key("ada"))
    resource = client("ada", keys.public(keys.generate()))
    create(provider, resource)
    assert "PrivateKey = \n" in (provider.clients / "ada.conf").read_text()
    assert provider.read({})[resource.id].attrs == resource.attrs


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("192.0.2.0/24", "0.0.0.0/0", "allowed_ips"),
        ("MTU = 1380\n", "MTU = 1380\nPostUp = touch x\n", "strange"),
        ("vpn.example.net:443", "elsewhere.example:443", "endpoint"),
    ],
)
def test_an_edited_conf_is_seen(provider: Files, old: str, new: str, field: str) -> None:
    key = create(provider, wanted_key("ada")).attrs["public_key"]
    resource = client("ada", key)
    create(provider, resource)
    path = provider.clients / "ada.conf"
    path.write_text(path.read_text().replace(old, new))
    (change,) = make({resource.id: resource}, {resource.id: provider.read({})[resource.id]}).changes
    assert [f.path[0] for f in change.fields] == [field]


def test_a_strangers_conf_is_neither_read_nor_written(provider: Files) -> None:
    create(provider, wanted_key("ada"))
    provider.clients.mkdir(parents=True)
    provider.clients.chmod(0o700)
    (provider.clients / "ada.conf").write_text("[Interface]\n# his own\n")
    (provider.clients / "ada.conf").chmod(0o600)
    assert "files/client/ada" not in provider.read({})
    resource = client("ada", HUB)
    (result,) = provider.apply([Change(resource.id, None, resource.attrs)], silent)
    assert not result.ok
    assert "not ours" in result.why
    assert "his own" in (provider.clients / "ada.conf").read_text()


def test_removal_takes_key_and_conf(provider: Files) -> None:
    key = create(provider, wanted_key("ada"))
    conf = create(provider, client("ada", key.attrs["public_key"]))
    todo = make({}, collect([*provider.read({}).values()]))
    assert [c.id for c in todo.changes] == [conf.id, key.id]
    assert all(result.ok for result in provider.apply(todo.changes, silent))
    assert provider.read({}) == {}


def test_a_renamed_friend_keeps_his_key(provider: Files) -> None:
    key = create(provider, wanted_key("ada-phone")).attrs
    assert rename(provider.secrets, {"ada-phone": "eve-phone", "ada-laptop": "eve-laptop"}) == ["keys/eve-phone.key"]
    assert provider.read({})["files/key/eve-phone"].attrs == key


def test_a_rename_replaces_nobodys_key(provider: Files) -> None:
    create(provider, wanted_key("ada"))
    eve = create(provider, wanted_key("eve")).attrs
    assert rename(provider.secrets, {"ada": "eve"}) == []
    assert provider.read({})["files/key/eve"].attrs == eve


def open_key(provider: Files) -> None:
    (provider.secrets / "keys/ada.key").chmod(0o644)


def open_folder(provider: Files) -> None:
    provider.secrets.chmod(0o755)


def linked_key(provider: Files) -> None:
    path = provider.secrets / "keys/ada.key"
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


def broken_key(provider: Files) -> None:
    (provider.secrets / "keys/ada.key").write_text("not a key")


def tracked(provider: Files) -> None:
    (provider.secrets / ".gitignore").unlink()
    for words in (["init", "-q"], ["add", "-f", "keys/ada.key"]):
        assert process.run(["git", "-C", str(provider.secrets), *words]).code == 0


@pytest.mark.parametrize("fault", [open_key, open_folder, linked_key, broken_key, tracked])
def test_secrets_in_danger_are_refused(provider: Files, fault: object) -> None:
    create(provider, wanted_key("ada"))
    text = (provider.secrets / "keys/ada.key").read_text().strip()
    fault(provider)  # type: ignore[operator]
    with pytest.raises(SecretsError) as error:
        provider.read({})
    assert error.value.hint
    assert text not in str(error.value) + error.value.hint

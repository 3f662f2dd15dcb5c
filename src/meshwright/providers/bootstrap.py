"""The hub before it can be managed: what is installed there, and installing what is missing. Needs only a POSIX shell.

Debian and Ubuntu by apt-get; Fedora and its relatives by dnf, as their documentation says, not tried on one. Anything
else is told which packages to install.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from meshwright.desired.resource import Blocked, Resource, Resources
from meshwright.errors import HostError
from meshwright.io.host import Host, Namespace, public
from meshwright.plan.plan import Change
from meshwright.providers.base import Result

PATIENCE = 900.0

_LOOK = """
look() {
  for it; do
    case $it in
      /*) test -e "$it" && echo "$it" ;;
      *) command -v "$it" >/dev/null && echo "$it" ;;
    esac
  done
  echo end
}
look "$@" </dev/null
"""


def packages(wanted: Resources) -> dict[str, Mapping[str, Any]]:
    """What is wanted to be installed, by the resource's id."""
    return {id: resource.attrs for id, resource in wanted.items() if id.startswith("hub/packages/")}


def shared(host: Host) -> bool:
    """Whether the programs there are those of this machine: nothing is installed for a lab but by its user."""
    return isinstance(host, Namespace)


def handles(change: Change) -> bool:
    return change.id.startswith("hub/packages/")


def look(host: Host, asked: Mapping[str, Mapping[str, Any]], traces: Sequence[str]) -> dict[str, Any]:
    """What `read` would answer of a hub that has no Python. traces: paths that show that a mesh was set up there."""
    programs = {program for attrs in asked.values() for names in attrs.values() for program in names}
    done = host.run(["sh", "-s", *sorted(programs), *traces], stdin=_LOOK.encode())
    found = done.out.decode(errors="replace").split()
    if done.code or "end" not in found:
        raise HostError(f"{host.name}: there is no python3, and not even a shell answers", "install python3 there")
    there = {id: _complete(attrs, found) for id, attrs in asked.items()}
    return {
        "resources": {id: attrs for id, attrs in there.items() if attrs},
        "peers": {},
        "lacking": ["python3"],
        "used": any(path in found for path in traces),
    }


def _complete(attrs: Mapping[str, list[str]], found: list[str]) -> dict[str, Any]:
    return {name: programs for name, programs in attrs.items() if all(program in found for program in programs)}


def blind(answer: Mapping[str, Any], wanted: Resources) -> dict[str, Resource]:
    """What is on a hub that cannot be read yet: nothing, or, where a mesh was set up, what is left alone till then."""
    installed = {id: Resource(id, attrs) for id, attrs in answer["resources"].items()}
    if not answer["used"]:
        return installed
    why = f"the hub cannot be read without {', '.join(answer['lacking'])}"
    blocked = Blocked("waits", why, "apply installs what is missing; then apply once more")
    rest = (id for id in wanted if id.startswith("hub/") and not id.startswith("hub/packages/"))
    return {**installed, **{id: Resource(id, {}, blocked=blocked) for id in rest}}


# All of it is read before anything runs, so that a connection that breaks leaves nothing half done.
_INSTALL = """
LC_ALL=C; DEBIAN_FRONTEND=noninteractive; NEEDRESTART_SUSPEND=1; APT_LISTCHANGES_FRONTEND=none
export LC_ALL DEBIAN_FRONTEND NEEDRESTART_SUSPEND APT_LISTCHANGES_FRONTEND
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH
apt() {
  waited=0
  until said=$(apt-get -q -y -o DPkg::Lock::Timeout=300 update 2>&1); do
    case $said in *"Could not get lock"*) ;; *) break ;; esac
    waited=$((waited + 3)); test $waited -gt 300 && break
    sleep 3
  done
  echo "$said" >&2 # also where a mirror was not reached it ends well
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold \\
    --no-install-recommends install "$@" >&2
}
dnf() {
  names=
  for it; do
    case $it in conntrack) it=conntrack-tools ;; iproute2) it=iproute ;; esac
    names="$names $it"
  done
  command dnf -q -y install $names >&2
}
install() {
  ID=; ID_LIKE=; PRETTY_NAME=
  test -r /etc/os-release && . /etc/os-release
  case " $ID $ID_LIKE " in
    *" debian "*|*" ubuntu "*) apt "$@" ;;
    *" fedora "*|*" rhel "*|*" centos "*) dnf "$@" ;;
    *) echo "meshwright: other: ${PRETTY_NAME:-${ID:-this system}}"; return 1 ;;
  esac || { echo "meshwright: failed"; return 1; }
  echo "meshwright: installed"
}
install "$@" </dev/null
"""


def install(host: Host, change: Change) -> Result:
    """Install what the change adds. Whatever the system's package manager says comes home as one sentence."""
    missing = sorted(set(change.wanted or {}) - set(change.before or {}))
    try:
        done = host.run(["sh", "-s", *missing], stdin=_INSTALL.encode(), timeout=PATIENCE)
    except HostError as error:
        return Result(change.id, False, why=error.message, hint=error.hint)
    said = done.out.decode(errors="replace")
    if "meshwright: installed" in said:
        return _installed(host, change, missing)
    names = " ".join(missing)
    if other := re.search(r"meshwright: other: (.*)", said):
        return Result(
            change.id,
            False,
            why=f"{host.name}: nothing can be installed by meshwright on {other[1]}",
            hint=f"install there by hand what Debian calls {names}; then plan again",
        )
    why, hint = failure(done.err, names)
    return Result(change.id, False, why=f"{host.name}: {names} could not be installed: {why}", hint=hint)


def _installed(host: Host, change: Change, names: Sequence[str]) -> Result:
    """Whether the programs are really there now: a package may be installed and its program gone."""
    wanted = change.wanted or {}
    programs = sorted(program for name in names for program in wanted[name])
    try:
        found = host.run(["sh", "-s", *programs], stdin=_LOOK.encode()).out.decode(errors="replace").split()
    except HostError as error:
        return Result(change.id, False, why=error.message, hint=error.hint)
    there = _complete({name: wanted[name] for name in names}, found)
    if gone := [name for name in names if name not in there]:
        why = f"{host.name}: {' '.join(gone)} is installed, but not all of its programs are there"
        return Result(change.id, False, why=why, hint=f"on the hub: apt-get install --reinstall {' '.join(gone)}")
    return Result(change.id, True, wanted)


_SAID = (
    (
        r"(?:Could not resolve|Temporary failure (?:in name resolution|resolving)|(?:Could not|Unable to) connect"
        r"|Network is unreachable|Failed to fetch|Curl error|Cannot download|Failed to download)",
        "its package mirror cannot be reached",
        "give the host a way to its mirror, or install them there by hand; then apply again",
    ),
    (
        r"Could not get lock|Waiting for process with pid",
        "another program has been installing packages there for minutes",
        "wait for it to end, then apply again",
    ),
    (r"No space left on device|not have enough free space", "its disk is full", "make room there, then apply again"),
    (
        r"Unable to locate package|has no installation candidate|Unable to find a match|No match for argument",
        "its package sources do not have all of them",
        "enable the distribution's main sources (on Enterprise Linux 8 EPEL too), then apply again",
    ),
    (r"[Uu]nmet dependencies", "its packages have unmet dependencies", "run `apt-get --fix-broken install` there"),
    (r"dpkg was interrupted", "an earlier installation was interrupted", "run `dpkg --configure -a` there"),
)


def failure(err: str, names: str) -> tuple[str, str]:
    """Why the packages could not be installed and what to do, after what apt-get or dnf said."""
    for words, why, hint in _SAID:
        if re.search(words, err):
            return why, hint
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "Error"))]
    last = (errors or lines or ["its package manager said nothing"])[-1]
    return public(last)[:300], f"install there by hand: {names}"

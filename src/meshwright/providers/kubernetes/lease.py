"""One apply at a time: a Lease in the cluster says who is writing, and until when that is believed.

Format: coordination.k8s.io/v1. Taken and renewed by compare-and-set on its resourceVersion; every time in it is the
server's, so the clocks of two operators need not agree.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from meshwright.desired.names import MANAGER, PREFIX
from meshwright.errors import ClusterError, ConflictError
from meshwright.events import Started, Tell
from meshwright.io.cluster import Cluster, Object

DURATION = 60
"""Seconds for which a holder is believed after it last renewed."""
ATTEMPTS = 8
"""Looks at a Lease that others change at the same moment, before we give in."""


class NoNamespace(ClusterError):
    """The Lease's namespace is not there: before the very first apply."""


class Held:
    """The lock while it is held. A writer looks at `lost` before each write, and stops when it is true."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._taken = threading.Event()
        self._renewed = _uptime()

    def renewed(self, moment: float) -> None:
        """It is ours as of `moment` (of `_uptime`)."""
        self._renewed = moment

    def taken(self) -> None:
        """It is somebody else's."""
        self._taken.set()

    @property
    def gone(self) -> bool:
        """Somebody else was seen to hold it."""
        return self._taken.is_set()

    @property
    def lost(self) -> bool:
        """Somebody else holds it now, or may: it could not be renewed in time."""
        return self.gone or _uptime() - self._renewed >= self._seconds

    def require(self) -> None:
        """ConflictError once it is lost."""
        if self.lost:
            raise ConflictError(
                "the lock of this mesh on the cluster was lost while writing: it could not be renewed in time, or was "
                "taken over",
                "see that nobody else is applying, then run `meshwright plan` and apply again",
            )


def lease_name(mesh: str) -> str:
    """What the Lease of a mesh is called."""
    return f"{PREFIX}{mesh}"


def me() -> str:
    """This process, for others to read: user@host (process 4711)."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"


@contextmanager
def held(cluster: Cluster, namespace: str, name: str, who: str, tell: Tell, duration: int = DURATION) -> Iterator[Held]:
    """Hold the Lease while the block runs. ConflictError when somebody else does, NoNamespace before the first apply.

    duration: seconds for which others believe that we are there without a sign of us; one comes four times as often.
    """
    lease = _Lease(cluster, namespace, name, who, duration)
    lease.take(tell)
    end = threading.Event()
    renewal = threading.Thread(target=lease.renew, args=(end, duration / 4), name="lease", daemon=True)
    renewal.start()
    try:
        yield lease.held
    finally:
        end.set()
        renewal.join(timeout=5)
        if not renewal.is_alive():
            lease.release()


class _Lease:
    """The Lease as we last saw it. Only one thread at a time uses it."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, who: str, duration: int) -> None:
        self._cluster = cluster
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._folder}/{name}"
        self._where = {"name": name, "namespace": namespace}
        self._who = who
        # the end makes two processes with the same number on two hosts of the same name different
        self._mark = f"{who} {secrets.token_hex(4)}"
        self._duration = duration
        self._seen: Object = {}
        self.held = Held(duration)

    def take(self, tell: Tell) -> None:
        """Make the Lease ours. Whoever loses a race looks again, and then sees the winner."""
        for attempt in range(ATTEMPTS):
            found = self._look()
            if found and _holder(found) == self._mark:
                self._seen = found
                return
            if found:
                self._judge(found, tell)
            if self._write(found, self._mark):
                return
            time.sleep(0.05 * attempt)
        raise ConflictError(
            "several others are taking the lock of this mesh on the cluster at this moment", "try again in a minute"
        )

    def _look(self) -> Object | None:
        try:
            return self._cluster.get(self._path)
        except ClusterError as error:
            if error.status != 404:
                raise
        return None

    def _judge(self, found: Object, tell: Tell) -> None:
        """ConflictError when somebody else's hold is good; a word when it has ended without being given back."""
        holder = _holder(found)
        if not holder:
            return
        spec, now = found["spec"], self._cluster.now()
        renewed = _time(spec.get("renewTime")) or _time(spec.get("acquireTime")) or datetime.min.replace(tzinfo=UTC)
        left = (renewed - now).total_seconds() + float(spec.get("leaseDurationSeconds") or 0)
        shown = holder.rpartition(" ")[0] or holder
        if left <= 0:
            tell(Started(f"Taking over the lock of this mesh on the cluster: {shown} ended without giving it back"))
            return
        since = _time(spec.get("acquireTime"))
        raise ConflictError(
            f"{shown} is applying this mesh to the cluster"
            + (f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""),
            f"wait until it ends; if it is not running any more, its lock ends by itself in {left:.0f} s",
        )

    def _write(self, found: Object | None, holder: str) -> bool:
        """Compare-and-set. False: somebody else was faster, or nobody knows: look again."""
        began, now = _uptime(), _stamp(self._cluster.now())
        old: dict[str, Any] = (found or {}).get("spec") or {}
        kept = _holder(found or {}) == holder
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": self._duration,
            "acquireTime": old["acquireTime"] if kept and "acquireTime" in old else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (1 if found and not kept else 0),
        }
        try:
            if found:
                self._seen = self._cluster.replace(self._path, {**found, "spec": spec}, manager=MANAGER)
            else:
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": self._where, "spec": spec}
                self._seen = self._cluster.create(self._folder, body, manager=MANAGER)
        except ClusterError as error:
            if error.status == 404 and not found:
                raise NoNamespace(
                    f"there is no namespace {self._where['namespace']} for the lock of this mesh yet",
                    "the first apply makes it",
                    404,
                    error.reason,
                ) from None
            if error.status in {0, 404, 409}:
                return False
            raise
        self.held.renewed(began)
        return True

    def renew(self, end: threading.Event, every: float) -> None:
        """Say again and again that we are here, until the end. Trouble is met by trying more often."""
        wait = every
        while not end.wait(wait) and not self.held.gone:
            wait = every if self._again() else min(every, 2)

    def _again(self) -> bool:
        try:
            if self._write(self._seen, self._mark):
                return True
            found = self._look()
        except ClusterError:
            return False
        if found is None or _holder(found) != self._mark:
            self.held.taken()
            return False
        self._seen = found
        return self._again_now()

    def _again_now(self) -> bool:
        """Once more, after somebody changed the Lease without taking it."""
        try:
            return self._write(self._seen, self._mark)
        except ClusterError:
            return False

    def release(self) -> None:
        """Give it back, unless it is not ours any more. What fails here ends by itself soon."""
        if self.held.lost:
            return
        with suppress(ClusterError):
            spec = {**self._seen["spec"], "holderIdentity": "", "renewTime": _stamp(self._cluster.now())}
            self._cluster.replace(self._path, {**self._seen, "spec": spec}, manager=MANAGER)


def _holder(lease: Object) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _stamp(moment: datetime) -> str:
    """Kubernetes' MicroTime: exactly six digits after the point."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(text: Any) -> datetime | None:
    with suppress(ValueError, TypeError):
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None


def _uptime() -> float:
    """Seconds since start; goes on while a laptop sleeps, where the system can say so."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

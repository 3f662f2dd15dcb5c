"""The keys and certificates of a control plane, by the program openssl. Keys are 0600 from their first byte."""

from __future__ import annotations

import os
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from meshwright.errors import LabError
from meshwright.io import process

DAYS = "3650"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make(folder: Path, names: Iterable[str]) -> None:
    """A new authority, certificates of etcd, of the API server (for `names`) and of the admin, and the tokens' key."""
    folder.mkdir(mode=0o700, exist_ok=True)
    constraints = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    _openssl(folder, "req", "-x509", "-subj", "/CN=meshwright-lab", *_files(folder, "ca"), *constraints)
    issue(folder, "etcd", "/CN=etcd", ["127.0.0.1"])
    issue(folder, "apiserver", "/CN=kube-apiserver", names)
    issue(folder, "admin", "/O=system:masters/CN=admin")
    _openssl(folder, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", "sa.key")
    _openssl(folder, "pkey", "-in", "sa.key", "-pubout", "-out", "sa.pub")


def issue(folder: Path, name: str, subject: str, names: Iterable[str] = ()) -> None:
    """NAME.key and NAME.crt, for clients, and for a server of these names and addresses where there are any."""
    alternative = ",".join(_alternative(text) for text in dict.fromkeys(names))
    usage = "clientAuth,serverAuth" if alternative else "clientAuth"
    more = ["-addext", f"extendedKeyUsage={usage}", "-addext", "basicConstraints=critical,CA:FALSE"]
    more += ["-addext", f"subjectAltName={alternative}"] if alternative else []
    signed = ["-CA", "ca.crt", "-CAkey", "ca.key"]
    _openssl(folder, "req", "-x509", "-subj", subject, *signed, *_files(folder, name), *more)


def _files(folder: Path, name: str) -> list[str]:
    return [*_KEY, "-days", DAYS, "-keyout", f"{name}.key", "-out", f"{name}.crt"]


def _alternative(text: str) -> str:
    try:
        return f"IP:{ip_address(text)}"
    except ValueError:
        return f"DNS:{text}"


def _openssl(folder: Path, *arguments: str) -> None:
    # names without a folder: openssl runs where its files belong, and nothing it writes is open to others
    script = 'umask 077; cd "$0" && exec openssl "$@"'
    done = process.run(["sh", "-c", script, str(folder), *arguments], timeout=60, env={"OPENSSL_CONF": os.devnull})
    if done.code:
        raise LabError(
            f"openssl {arguments[0]}: {(done.err.strip().splitlines() or ['failed'])[-1]}", "install openssl 3"
        )

"""What the mesh file's `observability.exporter` only points at: the token and the certificate, read and tried out.

What would make a scraper turn away is found here, before anything is written.
"""

from __future__ import annotations

import re
import ssl
import tempfile
from pathlib import Path
from typing import Final

from meshwright.desired.facts import Exporter
from meshwright.errors import SecretsError
from meshwright.io import secret
from meshwright.spec.model import BuiltinExporter, ExporterTls, Mesh

PLACE: Final = "observability.exporter"
LEAST: Final = 16
"""Characters of a token: whoever can reach the port may try."""
_token = re.compile(r"[A-Za-z0-9._~+/-]+=*").fullmatch
_NEW: Final = "make one with: openssl rand -hex 32"
# what OpenSSL calls it -> what it means
_BAD: Final = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "KEY_TYPE_MISMATCH": "the key does not belong to the certificate",
    "NO_START_LINE": "certificate or key is no PEM",
    "BAD_BASE64_DECODE": "certificate or key is damaged",
    "EE_KEY_TOO_SMALL": "its key is too short to be trusted",
    "CA_MD_TOO_WEAK": "it is signed in a way that nobody trusts any more",
}


def read(mesh: Mesh, folder: Path) -> Exporter | None:
    """The facts; None where the file wants no exporter of ours. folder: the mesh file's. SecretsError says which key of
    the file names something that cannot be used, and never what it holds."""
    section = mesh.observability.exporter if mesh.observability else None
    if not isinstance(section, BuiltinExporter):
        return None
    token = secret.read(section.token, folder, f"{PLACE}.token") if section.token else ""
    if token and (not _token(token) or len(token) < LEAST):
        why = "is too short" if _token(token) else "has other characters than letters, digits and -._~+/"
        raise SecretsError(f"{PLACE}.token: what it names {why}: it cannot be sent as a Bearer token", _NEW)
    address = str(section.address or mesh.hub.address)
    return Exporter(token, *(_tls(section.tls, folder, address) if section.tls else ()))


def _tls(section: ExporterTls, folder: Path, address: str) -> tuple[str, str, str]:
    """(certificate, key, what to check it against), all PEM. address: what scrapers are told that it is for."""
    where = f"{PLACE}.tls"
    certificate = _file(folder / section.certificate, f"{where}.certificate")
    key = secret.lines(section.key, folder, f"{where}.key").strip() + "\n"
    ca = _file(folder / section.ca, f"{where}.ca") if section.ca else certificate
    serving = _serving(certificate, key)
    _try(serving, ca, address, where, "ca" if section.ca else "certificate")
    return certificate, key, ca


def _file(path: Path, where: str) -> str:
    try:
        text = path.read_text(encoding="ascii").replace("\r\n", "\n").strip() + "\n"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a text"
        hint = "paths begin at the mesh file's folder; put a certificate in PEM there"
        raise SecretsError(f"{where}: {path} cannot be read: {why}", hint) from None
    if "PRIVATE KEY-----" in text:
        raise SecretsError(f"{where}: {path} holds a private key too", "put the key alone where tls.key says")
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise SecretsError(f"{where}: {path} holds no certificate in PEM", "it begins with BEGIN CERTIFICATE")
    return text


def _serving(certificate: str, key: str) -> ssl.SSLContext:
    """As the hub will use it."""
    place = f"{PLACE}.tls"
    if "PRIVATE KEY-----" not in key:
        raise SecretsError(f"{place}.key: what it names is no private key in PEM", "it begins with BEGIN PRIVATE KEY")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # a file without a name for anybody else, gone at once
    with tempfile.NamedTemporaryFile() as file:
        file.write((key + certificate).encode())
        file.flush()
        try:
            context.load_cert_chain(file.name, password=_encrypted)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", "") or ""
            why = _BAD.get(reason, f"cannot be used ({reason})" if reason else "certificate or key is damaged")
            if str(error) == _LOCKED:
                why = f"{_LOCKED}, and nobody can type its password on the hub"
            hint = "give the key that the certificate was made for, in PEM, without a password"
            raise SecretsError(f"{place}: {why}", hint) from None
    return context


_LOCKED: Final = "the key is encrypted"


def _encrypted() -> str:
    raise ValueError(_LOCKED)


_NAMES: Final = (62, 64)
"""X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL."""


def _try(serving: ssl.SSLContext, ca: str, address: str, section: str, key: str) -> None:
    """A whole handshake in memory, as the scraper makes it whom the monitor names this address."""
    where = f"{section}.{key}"
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        asking.load_verify_locations(cadata=ca)
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ends = (
            asking.wrap_bio(to_client, to_server, server_hostname=address),
            serving.wrap_bio(to_server, to_client, server_side=True),
        )
        for _ in range(5):
            for end in ends:
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _NAMES:
            text = f"{section}.certificate: it is not for {address}, so every scraper will refuse it"
            hint = f"make one with subjectAltName=IP:{address}; openssl req takes it by -addext"
            raise SecretsError(text, hint) from None
        hint = "renew the certificate, or name in tls.ca what has signed it; then plan again"
        raise SecretsError(f"{where}: scrapers will refuse the certificate: {error.verify_message}", hint) from None
    except (ssl.SSLError, ValueError) as error:
        why = _BAD.get(getattr(error, "reason", "") or "", "is no certificate that can be used")
        raise SecretsError(f"{where}: {why}", "give a certificate in PEM") from None

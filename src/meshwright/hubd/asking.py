"""The exporter asked as a scraper would, from the hub itself: for verify, which cannot stand where Prometheus does."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from .host import system

PATIENCE = 30.0  # seconds for an answer: of very many peers it takes a while


def operate(operation: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """`asking.scrape`: see scrape."""
    if operation != "scrape":
        raise system.HubError(f"unknown operation asking.{operation}", "this is a bug of meshwright; report it")
    return scrape(payload)


def scrape(payload: Mapping[str, Any]) -> dict[str, Any]:
    """{address, port, token: "" for none, ca: PEM, "" for no TLS} -> {"status", "series": number of lines that are no
    comment, "success": the page's own word for it, "", "refused": statuses without and with a wrong token, "why": why
    there was no answer}. The token comes by stdin with all the rest, and goes nowhere but to that address.
    """
    out: dict[str, Any] = {"status": 0, "series": 0, "success": "", "refused": [], "why": ""}
    try:
        out["status"], body = _get(payload, payload["token"])
        lines = [line for line in body.splitlines() if line and not line.startswith("#")]
        success = [re.match(r"wireguard_scrape_success(?:\{[^}]*\})? (\S+)", line) for line in lines]
        out["series"], out["success"] = len(lines), next((found[1] for found in success if found), "")
        if payload["token"]:
            out["refused"] = [_get(payload, shown)[0] for shown in ("", secrets.token_hex(16))]
    except _failures() as error:
        out["why"] = (getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error))[:200]
    return out


def _failures() -> Any:
    from http.client import HTTPException

    return OSError, HTTPException, ValueError


def _get(payload: Mapping[str, Any], token: str) -> tuple[int, str]:
    import http.client  # not small, and wanted by verify alone

    link = http.client.HTTPConnection(payload["address"], payload["port"], timeout=PATIENCE)
    if payload["ca"]:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # how a scraper calls it is the scraper's
        context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)
        context.load_verify_locations(cadata=payload["ca"])
        link = http.client.HTTPSConnection(payload["address"], payload["port"], timeout=PATIENCE, context=context)
    try:
        link.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = link.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        link.close()

"""Quantities in the form in which the API server gives them back: the door to them for what may not see the file."""

from __future__ import annotations

from meshwright.spec.quantity import canonical, nano

__all__ = ["canonical", "nano"]

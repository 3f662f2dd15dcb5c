"""Quantities are written as the API server writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshwright.desired.quantity import canonical
from meshwright.spec.quantity import nano

SUFFIXES = ("", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-2", "e0")
quantities = st.builds(
    lambda whole, behind, suffix: f"{whole}{f'.{behind}' if behind else ''}{suffix}",
    st.integers(0, 10**5).map(str),
    st.text("0123456789", max_size=4),
    st.sampled_from(SUFFIXES),
)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("0.5", "500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000", "1k"),
        ("1000m", "1"),
        ("4", "4"),
        ("0", "0"),
        ("0Gi", "0"),
        ("0.0", "0"),
        ("100Ki", "100Ki"),
        ("0.5Ki", "512"),
        ("0.5Mi", "512Ki"),
        ("1e3", "1e3"),
        ("12e1", "120"),
        ("1E", "1E"),
        ("9999Ei", "9223372036854775807"),
        ("0.1n", "1n"),
        ("-0.5", "-500m"),
        ("007", "7"),
    ],
)
def test_the_form_of_an_amount(said: str, kept: str) -> None:
    assert canonical(said) == kept


@given(quantities)
def test_the_form_keeps_the_amount_and_stays(said: str) -> None:
    once = canonical(said)
    assert nano(once) == nano(said)
    assert canonical(once) == once


@pytest.mark.parametrize("text", ["", "1.2.3", "Gi", "1 Gi", "1K", "١", "1e999999999", "--1", "1gi"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        canonical(text)

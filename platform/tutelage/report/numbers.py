"""Numbers as people read them. A missing number is a dash; a range of sizes keeps its meaning by the unit."""

from __future__ import annotations

import math
from collections.abc import Sequence

DASH = "\u2013"
MINUS = "\u2212"
_THIN = "\u202f"
_TIMES_TEN = "\u2009\u00d7\u200910"
_RAISED = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
_MINUTE = 60
_HOUR = 3600


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as a percentage without its sign: 0.8475 is `84.8`."""
    return DASH if value is None else signless(f"{value * 100:.{digits}f}")


def points(value: float | None) -> str:
    """A difference of two fractions in percentage points with its sign: 0.051 is `+5.1`."""
    return DASH if value is None else signless(f"{value * 100:+.1f}")


def fixed(value: float | None, digits: int = 1) -> str:
    """A number with that many decimals and thousands set apart."""
    return DASH if value is None else signless(f"{value:,.{digits}f}")


def significant(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits; whole digits are never dropped.

    Below 0.001 and from a million on it is a power of ten: 0.00001 is `1 × 10⁻⁵`.
    """
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.{max(digits - 1, 0)}e}".partition("e")
        short = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return signless(short) + _TIMES_TEN + str(int(exponent)).translate(_RAISED)
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return signless(f"{value:,.{decimals}f}")


def column(values: Sequence[float | None], digits: int = 2) -> list[str]:
    """Numbers of one column with common decimals: the smallest one that is not 0 keeps `digits` digits."""
    sizes = [abs(value) for value in values if value]
    decimals = max(digits - 1 - math.floor(math.log10(min(sizes))), 0) if sizes else 0
    return [fixed(value, min(decimals, 6)) for value in values]


def count(value: int | None) -> str:
    """A whole number with thousands set apart."""
    return DASH if value is None else f"{value:,}"


def megabytes(value: float | None) -> str:
    """Bytes in units of 10^6, three significant digits."""
    return DASH if value is None else significant(value / 1e6)


def millions(value: float | None) -> str:
    """A count in units of 10^6, three significant digits."""
    return DASH if value is None else significant(value / 1e6)


def duration(value: float | None) -> str:
    """Seconds as `0.42 s`, `6.2 s`, `5 min 12 s` or `1 h 02 min`."""
    if value is None:
        return DASH
    if value < 0.95:
        return f"{value:.2f}{_THIN}s"
    if round(value, 1) < _MINUTE:
        return f"{value:.1f}{_THIN}s"
    whole = round(value)
    if whole < _HOUR:
        return f"{whole // 60}{_THIN}min {whole % 60:02d}{_THIN}s"
    whole = round(value / 60)
    return f"{whole // 60}{_THIN}h {whole % 60:02d}{_THIN}min"


def capital(text: str) -> str:
    """With its first letter large; the others stay as they are."""
    return text[:1].upper() + text[1:]


def signless(text: str) -> str:
    """Typographic minus; a negative zero loses its sign."""
    if text.startswith(("-", "+")) and not text.strip("-+0.,"):
        return text[1:]
    return text.replace("-", MINUS, 1) if text.startswith("-") else text

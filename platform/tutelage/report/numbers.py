"""Numbers as people read them. A missing number is a dash; a range of sizes keeps its meaning by the unit."""

from __future__ import annotations

DASH = "\u2013"
MINUS = "\u2212"
_THIN = "\u202f"
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
    """A number with that many significant digits, never in powers of ten between 0.001 and a million."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return signless(f"{value:.{max(digits - 1, 0)}e}".replace("e-0", "e-").replace("e+0", "e"))
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    leading = len(f"{abs(value):.6f}".split(".")[1]) - len(f"{abs(value):.6f}".split(".")[1].lstrip("0"))
    decimals = max(digits - whole, 0) if whole else digits + leading
    return signless(f"{value:,.{decimals}f}")


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
    """Seconds as `0.42 s`, `48.2 s`, `5 min 12 s` or `1 h 02 min`."""
    if value is None:
        return DASH
    if value < 10:
        return f"{value:.2f}{_THIN}s"
    if round(value, 1) < _MINUTE:
        return f"{value:.1f}{_THIN}s"
    whole = round(value)
    if whole < _HOUR:
        return f"{whole // 60}{_THIN}min {whole % 60:02d}{_THIN}s"
    whole = round(value / 60)
    return f"{whole // 60}{_THIN}h {whole % 60:02d}{_THIN}min"


def signless(text: str) -> str:
    """Typographic minus; a negative zero loses its sign."""
    if text.startswith(("-", "+")) and not text.strip("-+0.,"):
        return text[1:]
    return text.replace("-", MINUS, 1) if text.startswith("-") else text

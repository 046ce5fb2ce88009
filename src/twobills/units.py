"""Quantities as people write and read them: ``8e9``, ``15T``, ``2m30s``, ``$1.23``, ``3.4 TFLOP/s``.

Inside, every quantity is a plain number in base units; this is the only file that converts. Prefixes are
decimal; binary only with the name GiB. Showing rounds to what a reader can use and never before.
"""

from __future__ import annotations

import math
import re

SECONDS_PER_MINUTE = 60.0
SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0
DAYS_PER_YEAR = 365.25
JOULES_PER_KWH = 3.6e6
MEGA = 1e6
GIGA = 1e9
GIBI = 2.0**30
"""What makers of memory mean by GB: chips of memory hold powers of two."""
TERA = 1e12
PETA = 1e15
BITS_PER_BYTE = 8
LEAST_WRITTEN_OUT, MOST_WRITTEN_OUT = 1e-9, 1e15
"""Between these a figure is written out, outside them as 1.23e+45."""
MOST_OF_A_PREFIX = 1e6
"""A figure of more than so many of its largest prefix is written without one."""

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}
_QUANTITY = re.compile(r"\s*([0-9][0-9_,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]?)\s*")
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def parse_count(text: str) -> float:
    """A count from ``8e9``, ``8B``, ``1.5T``, ``15_000``. Raises ValueError, naming the text."""
    match = _QUANTITY.fullmatch(text)
    prefix = match and _PREFIXES.get(match[2].lower())
    if not match or prefix is None:
        raise ValueError(f"{text!r}: not a quantity; write it like 8e9, 8B or 1.5T")
    count = float(match[1].replace("_", "").replace(",", "")) * prefix
    if not math.isfinite(count):
        raise ValueError(f"{text!r}: too large a quantity")
    return count


def parse_duration(text: str) -> float:
    """Seconds from ``90``, ``90s``, ``2m30s``, ``1.5h``, ``3d``. Raises ValueError, naming the text."""
    try:
        return float(text)
    except ValueError:
        match = _DURATION.fullmatch(text.strip().lower())
        if not match or not any(match.groups()):
            raise ValueError(f"{text!r}: not a duration; write it like 90s, 2m30s or 1.5h") from None
        units = (SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE, 1.0)
        return sum(float(n) * unit for n, unit in zip(match.groups(), units, strict=True) if n)


def per_hour_to_per_s(rate_per_hour: float) -> float:
    """A rate per hour as a rate per second."""
    return rate_per_hour / SECONDS_PER_HOUR


def per_s_to_per_hour(rate_per_s: float) -> float:
    """A rate per second as a rate per hour."""
    return rate_per_s * SECONDS_PER_HOUR


def show_count(n: float) -> str:
    """A count with a decimal prefix: ``3.90M``, ``821k``, ``12``."""
    return _prefixed(n, "", (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)))


def show_flops(n: float) -> str:
    """FLOPs with a decimal prefix: ``20.4 TFLOP``."""
    return _prefixed(n, " ", _SI) + "FLOP" if n else "0 FLOP"


def show_flops_per_s(rate: float) -> str:
    """A rate of work: ``812 GFLOP/s``."""
    return show_flops(rate) + "/s"


def show_bytes(n: float) -> str:
    """Bytes with a decimal prefix: ``7.80 MB``."""
    return _prefixed(n, " ", _SI) + "B" if n else "0 B"


def show_energy(joules: float) -> str:
    """Joules, or kWh, MWh, GWh once they are worth it."""
    if abs(joules) >= JOULES_PER_KWH:
        kwh = joules / JOULES_PER_KWH
        return _prefixed(kwh, " ", (("GWh", 1e6), ("MWh", 1e3), ("kWh", 1.0)))
    return _prefixed(joules, " ", _SI) + "J" if joules else "0 J"


def show_seconds(seconds: float) -> str:
    """A duration a person can place: ``34 ms``, ``12.3 s``, ``2 min 05 s``, ``3.2 days``."""
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    if seconds == 0:
        return "0 s"
    if seconds < 1:
        return f"{sign}{significant(seconds * 1e3)} ms"
    if seconds < SECONDS_PER_MINUTE:
        return f"{sign}{significant(seconds)} s"
    if seconds < 2 * SECONDS_PER_HOUR:
        minutes, rest = divmod(round(seconds), round(SECONDS_PER_MINUTE))
        return f"{sign}{minutes} min {rest:02d} s"
    if seconds < 2 * SECONDS_PER_DAY:
        return f"{sign}{significant(seconds / SECONDS_PER_HOUR)} h"
    return f"{sign}{significant(seconds / SECONDS_PER_DAY)} days"


def show_hours(seconds: float) -> str:
    """Seconds as hours with a decimal prefix: ``27.9M h``."""
    return f"{show_count(seconds / SECONDS_PER_HOUR)} h"


def show_usd(usd: float) -> str:
    """Dollars, three digits, cents shown as such: ``$6.27e-10``, ``$0.00412``, ``$12.30``, ``$4.21M``."""
    sign, usd = ("-" if usd < 0 else ""), abs(usd)
    if 0 < usd < 1e-6:
        return f"{sign}${usd:.2e}"
    if usd >= 1e4:
        return f"{sign}${_prefixed(usd, '', (('T', 1e12), ('B', 1e9), ('M', 1e6), ('k', 1e3)))}"
    return f"{sign}${usd:.2f}" if usd >= 1 or usd == 0 else f"{sign}${significant(usd)}"


def show_frac(frac: float) -> str:
    """A fraction as a percentage: ``83.1 %``."""
    return f"{significant(100 * frac)} %"


def significant(x: float, digits: int = 3) -> str:
    """``x`` to so many significant digits, in exponent form only from 1e15 up and below 1e-9."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    if not LEAST_WRITTEN_OUT <= abs(x) < MOST_WRITTEN_OUT:
        return f"{x:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(x))))
    return f"{round(x, decimals):.{decimals}f}"


_SI = (("Y", 1e24), ("Z", 1e21), ("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def _prefixed(x: float, gap: str, prefixes: tuple[tuple[str, float], ...]) -> str:
    if abs(x) >= MOST_OF_A_PREFIX * prefixes[0][1]:
        unit, size = prefixes[-1]
        return significant(x) + gap + (unit if size == 1 else "")
    for prefix, size in prefixes:
        if abs(x) >= 0.9995 * size:
            return f"{significant(x / size)}{gap}{prefix}"
    return f"{significant(x)}{gap}"

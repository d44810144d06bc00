"""Numbers as a reader wants them. None and NaN show a dash.

`count(1234)` 1,234 · `percent(0.1234)` 12.3 % · `size(1.2e9)` 1.2 GB · `duration(75)` 1 min 15 s ·
`number(0.012345)` 0.0123 · `money(12.5)` $12.50 · `counted(2, "scene")` 2 scenes.
"""

import math

NO_VALUE = "–"


def count(value: float | None) -> str:
    """1234 → '1,234'."""
    return NO_VALUE if value is None or not math.isfinite(value) else f"{value:,.0f}"


def number(value: float | None, digits: int = 3) -> str:
    """At most `digits` significant digits, no exponent where it reads well.

    0.012345 → '0.0123', 12345 → '12,300', 7.0 → '7'.
    """
    if value is None or not math.isfinite(value):
        return NO_VALUE
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4:
        return f"{value:.{digits - 1}e}"
    text = f"{round(value, digits - 1 - exponent):,.{max(0, digits - 1 - exponent)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.1234 → '12.3 %'."""
    return (
        NO_VALUE
        if fraction is None or not math.isfinite(fraction)
        else f"{100 * fraction:.{digits}f} %"
    )


def size(n_bytes: float | None) -> str:
    """Decimal units, as disks are sold: 1.2e9 → '1.2 GB'."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return NO_VALUE
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB", "PB"]
    while abs(value) >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return (
        f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 100 else f"{value:.1f} {units[0]}"
    )


def duration(seconds: float | None) -> str:
    """'45 ms', '12.3 s', '1 min 15 s', '2 h 05 min', '3 d 4 h'."""
    if seconds is None or not math.isfinite(seconds):
        return NO_VALUE
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    if total < 3600:
        return f"{total // 60} min {total % 60:02d} s"
    if total < 86400:
        return f"{total // 3600} h {total % 3600 // 60:02d} min"
    return f"{total // 86400} d {total % 86400 // 3600} h"


def money(amount: float | None) -> str:
    """'$12.50'; below a dollar as many decimals (2 to 4) as it needs."""
    if amount is None or not math.isfinite(amount):
        return NO_VALUE
    cents, rest = f"{amount:,.2f}", f"{amount:.4f}"[-2:].rstrip("0")
    return f"${cents}" if amount >= 1 else f"${amount:.{2 + len(rest)}f}"


def counted(value: float | None, one: str, many: str | None = None) -> str:
    """'1 scene', '2 scenes', '0.5 scenes'; `many` for irregular words."""
    part = value is not None and abs(value) < 10 and value % 1 != 0
    return f"{number(value) if part else count(value)} {one if value == 1 else many or one + 's'}"

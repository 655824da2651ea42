"""How numbers, charges, defects and start structures are written for people."""

from __future__ import annotations

import html
import math
import re

from markupsafe import Markup

from defect_mf_flows.core.notation import MINUS, charge_text
from defect_mf_flows.core.start_labels import VERIFIED
from defect_mf_flows.schemas.search import Fate, FateKind

MISSING = "\u2013"

_VACANCY = re.compile(r"^(?:v|V|Va|vac)_([A-Z][a-z]?)(?:_(.+))?$")
_OTHER = re.compile(r"^([A-Z][a-z]?)_(i|[A-Z][a-z]?)(?:_(.+))?$")
_DISTORTION = re.compile(r"^Bond_Distortion_(-?\d+(?:\.\d+)?)%$")
_PAIR = re.compile(r"^Pair_([A-Z][a-z]?\d+)-([A-Z][a-z]?\d+)_(-?\d+(?:\.\d+)?)%$")
_DIMER = re.compile(r"^Dimer_([A-Z][a-z]?\d+)-([A-Z][a-z]?\d+)$")
_LOW_SEED = re.compile(r"^Low_([+-]\d+)_(\d+)$")
_LABEL = re.compile(r"^(.+)@(\d+)$")
_UNFINISHED = re.compile(r"^Unfinished_([+-]\d+)_(.+)$")


def is_number(value: float | None) -> bool:
    """Tell whether a value is there and finite.

    Parameters
    ----------
    value
        Anything that a document may hold in place of a number.

    Returns
    -------
    bool
        False for None, NaN and infinities.
    """
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Write a number with a real minus sign.

    Parameters
    ----------
    value
        The number; None and NaN are written as a dash.
    digits
        Digits after the point.
    signed
        True to write a plus sign too.

    Returns
    -------
    str
        Plain text without a unit.
    """
    return ascii_number(value, digits, signed=signed, missing=MISSING).replace("-", MINUS)


def ascii_number(
    value: float | None, digits: int = 3, *, signed: bool = False, missing: str = "-"
) -> str:
    """Write a number for a terminal, where a hyphen can be copied into other programs.

    Parameters
    ----------
    value, digits, signed
        As for :func:`number`.
    missing
        What stands for None and NaN.

    Returns
    -------
    str
        Plain text without a unit.
    """
    if value is None or not math.isfinite(value):
        return missing
    rounded = round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def milli(value: float | None, digits: int = 1, *, signed: bool = False) -> str:
    """Write an energy given in eV as meV, see :func:`number`."""
    return number(None if value is None else 1000 * value, digits, signed=signed)


def page_charge(charge: int) -> str:
    """Write a charge with a true minus sign, for pages and figures."""
    return charge_text(charge, minus=MINUS)


def defect_html(name: str, charge: int | None = None) -> Markup:
    """Write a defect in Kröger-Vink fashion, e.g. ``V<sub>Zn</sub><sup>−1</sup>``.

    Parameters
    ----------
    name
        doped's name; other names are shown as they are, escaped.
    charge
        Its charge state, if it is to be shown.

    Returns
    -------
    Markup
        Only ``sub`` and ``sup`` tags, which plotly understands as well.
    """
    text, suffix = html.escape(name), ""
    if found := _VACANCY.match(name):
        text, suffix = f"V<sub>{found[1]}</sub>", found[2] or ""
    elif found := _OTHER.match(name):
        text, suffix = f"{found[1]}<sub>{found[2]}</sub>", found[3] or ""
    if charge is not None:
        text += f"<sup>{page_charge(charge)}</sup>"
    if suffix:
        text += f" ({html.escape(suffix.replace('_', ' '))})"
    return Markup(text)


def state_html(key: str) -> Markup:
    """Write a ``"defect|charge"`` key as :func:`defect_html` does; others escaped."""
    name, _, charge = key.rpartition("|")
    try:
        return defect_html(name, int(charge))
    except ValueError:
        return Markup(html.escape(key))


def level_html(defect: str, from_charge: int, to_charge: int) -> Markup:
    """Write a transition level, e.g. ``V<sub>Zn</sub> ε(0/−1)``."""
    charges = f"{page_charge(from_charge)}/{page_charge(to_charge)}"
    return Markup("{} ε({})").format(defect_html(defect), charges)


def start_text(start: str) -> str:
    """Write the label of a start structure briefly, e.g. ``−30 %`` or ``LF 0 #1``.

    Parameters
    ----------
    start
        The label, as in the documents.

    Returns
    -------
    str
        Plain text, not escaped. ``LF q #n`` is minimum n of the low-fidelity search of
        charge q, ``unfinished`` the end of one of its relaxations that ran out of steps,
        ``verified q #n`` a minimum of charge q that high fidelity gave in an earlier round.
        ``step n``: a label on step n of a relaxation. Labels of another form come back unchanged.
    """
    if found := _DISTORTION.match(start):
        return change_text(float(found[1]))
    if found := _PAIR.match(start):
        return f"{found[1]}\N{EN DASH}{found[2]} {change_text(float(found[3]))}"
    if found := _DIMER.match(start):
        return f"Dimer {found[1]}\N{EN DASH}{found[2]}"
    if found := VERIFIED.match(start):
        return f"verified {page_charge(int(found[1]))} #{found[2]}"
    if found := _LOW_SEED.match(start):
        return f"LF {page_charge(int(found[1]))} #{found[2]}"
    if found := _UNFINISHED.match(start):
        return f"LF {page_charge(int(found[1]))} {start_text(found[2])}, unfinished"
    if found := _LABEL.match(start):
        return f"{start_text(found[1])}, step {found[2]}"
    return start or MISSING


def change_text(percent: float) -> str:
    """Write a distortion in percent, with its sign, zero without."""
    return "0 %" if percent == 0 else f"{percent:+g} %".replace("-", MINUS)


def start_order(start: str) -> tuple[int, float, str]:
    """Sort key: unperturbed first, distortions by size, then the rest by name."""
    if start.startswith("Unperturbed"):
        return (0, 0.0, start)
    if found := _DISTORTION.match(start):
        return (1, float(found[1]), start)
    seed = _LOW_SEED.match(start) or _UNFINISHED.match(start)
    return (3 if seed else 2, 0.0, start)


def percent(share: float | None) -> str:
    """Write a share in percent; what draws cannot tell from none or all is written as a bound."""
    if share is None or not math.isfinite(share):
        return MISSING
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 < share < 1 else f"{100 * share:.0f} %"


def charges_text(pair: tuple[int, int]) -> str:
    """Write the charges of a level, e.g. ``(+2/0)``."""
    return f"({page_charge(pair[0])}/{page_charge(pair[1])})"


def fate_text(fate: Fate | None) -> str:
    """Say in words what a relaxation made of a defect.

    Parameters
    ----------
    fate
        As recorded; None in old documents.

    Returns
    -------
    str
        For example ``migrated by 3.8 Å``, plain text.
    """
    if fate is None:
        return MISSING
    length = f"{number(fate.distance, 1)} Å"
    kind = {True: ", equivalent site", False: ", another kind of site", None: ""}[fate.equivalent]
    return {
        FateKind.AT_SITE: "stayed",
        FateKind.MIGRATED: f"migrated by {length}{kind}",
        FateKind.REARRANGED: f"became {fate.name}",
        FateKind.DISSOCIATED: f"fell apart: {fate.name}, {length}",
    }[fate.kind]


def duration(seconds: float | None) -> str:
    """Write a duration in the two largest units that matter.

    Parameters
    ----------
    seconds
        Seconds, or None.

    Returns
    -------
    str
        E.g. ``38.3 s``, ``4 min 10 s`` or ``3 h 12 min``.
    """
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """Write a count with its noun, e.g. ``1 frame``, ``2 frames``."""
    return f"{count} {noun if count == 1 else many or noun + 's'}"


def tidy(text: str) -> str:
    """Write the ASCII ``A`` of units in machine-made sentences as Å, and minus signs as such."""
    text = re.sub(r"(?<=[\d/ ])A(?=[\s,.;)(]|$)", "\u00c5", text)
    return re.sub(r"(?<![\w|-])-(?=\d)", MINUS, text)

"""Options of levels from a file and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results.levels import LevelOptions
from defect_mf_flows.schemas.levels import CorrectionMethod

_FIELDS = ("dielectric", "vbm", "gap", "correction", "mu", "limits", "fidelity", "defect")


def read_options(path: Path | None, given: dict[str, Any]) -> LevelOptions:
    """Join the options of a YAML file with those that were given.

    Parameters
    ----------
    path
        File, or None.
    given
        ``dielectric`` (text), ``vbm``, ``gap``, ``correction``, ``mu`` (``"Zn=-1.2"``),
        ``limits`` (a file), ``fidelity`` and ``defect``; None or empty where not given.

    Returns
    -------
    LevelOptions

    Raises
    ------
    ResultsError
        If a field is unknown or has no meaning; names it.
    """
    values: dict[str, Any] = {} if path is None else _file(path)
    if isinstance(name := values.get("limits"), str) and path is not None:
        values["limits"] = path.parent / name
    values |= {k: v for k, v in given.items() if v not in (None, ())}
    mu = values.get("mu") or {}
    correction = values.get("correction")
    defects = values.get("defect") or ()
    return LevelOptions(
        dielectric=None if values.get("dielectric") is None else _numbers(values["dielectric"]),
        vbm=_number("vbm", values.get("vbm")),
        gap=_number("gap", values.get("gap")),
        mu=_potentials(mu),
        limits=_limits(values.get("limits")),
        method=None if correction is None else _method(str(correction)),
        fidelity=values.get("fidelity"),
        defects=(defects,) if isinstance(defects, str) else tuple(defects),
    )


def _file(path: Path) -> dict[str, Any]:
    content = _yaml(path) or {}
    if not isinstance(content, dict) or (unknown := set(content) - set(_FIELDS)):
        wrong = ", ".join(sorted(map(str, unknown))) if isinstance(content, dict) else "no mapping"
        raise ResultsError(f"{path}: {wrong}: unknown; choose from {', '.join(_FIELDS)}.")
    return content


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ResultsError(f"{path}: no YAML or JSON can be read: {error}") from None


def _limits(given: Any) -> dict[str, dict[str, float]]:
    """Potentials per limit, of a mapping or of a file; what doped writes has more keys."""
    if given is None:
        return {}
    where = f"{given}: " if isinstance(given, Path) else ""
    content = _yaml(given) if isinstance(given, Path) else given
    if isinstance(content, dict) and "limits_wrt_el_refs" in content:
        content = content.get("limits") or _absolute(content)
    elif isinstance(given, Path) and isinstance(content, dict) and "limits" in content:
        content = content["limits"]
    if not isinstance(content, dict) or not all(
        isinstance(v, dict) and v for v in content.values()
    ):
        raise ResultsError(
            f"{where}limits: write a mapping of names, such as Zn-rich: {{Zn: -1.27, S: -6.1}}, or "
            "give the JSON of doped's CompetingPhasesAnalyzer.chempots."
        )
    return {str(name): _potentials(mu) for name, mu in content.items()}


def _absolute(content: dict[str, Any]) -> Any:
    """Limits of doped's format that count from the elements, on the scale of energies."""
    references = _potentials(content.get("elemental_refs") or {})
    relative = {name: _potentials(mu) for name, mu in content["limits_wrt_el_refs"].items()}
    if any(symbol not in references for mu in relative.values() for symbol in mu):
        return None
    return {
        name: {symbol: value + references[symbol] for symbol, value in mu.items()}
        for name, mu in relative.items()
    }


def _numbers(value: Any) -> list[float]:
    import numpy as np

    words = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        found: list[float] = np.asarray(words, dtype=float).reshape(-1).tolist()
    except (TypeError, ValueError):
        raise ResultsError(f"dielectric: {value!r}: give 1, 3 or 9 numbers.") from None
    return found


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ResultsError(f"{name}: {value!r} is no number; give it in eV.") from None


def _potentials(mu: Any) -> dict[str, float]:
    from pymatgen.core import Element

    pairs = mu.items() if isinstance(mu, dict) else [str(m).partition("=")[::2] for m in mu]
    found = {}
    for symbol, value in pairs:
        energy = _number(f"mu {symbol}", value)
        if not Element.is_valid_symbol(symbol) or energy is None:
            raise ResultsError(f"mu: {symbol!r} is no element; write --mu Zn=-1.27.")
        found[symbol] = energy
    return found


def _method(name: str) -> CorrectionMethod:
    plain = name.replace("-", " ").lower()
    for method in CorrectionMethod:
        if method.value.lower() == plain:
            return method
    raise ResultsError(
        f"correction: {name!r} is unknown; choose from eFNV, FNV, point-charge, none."
    )

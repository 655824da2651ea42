"""Engine settings, checked before a calculator is built with them."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from ase.calculators.calculator import FileIOCalculator
from pymatgen.core import Element

from defect_mf_flows.campaign.cp2k import check_cp2k
from defect_mf_flows.campaign.gpaw import check_gpaw
from defect_mf_flows.campaign.sections import FidelitySettings
from defect_mf_flows.campaign.vasp import check_vasp
from defect_mf_flows.campaign.wording import did_you_mean, nearest
from defect_mf_flows.errors import CampaignError

#: Keywords of tblite's ASE calculator but for charge and multiplicity, which the defect decides.
#: tblite itself takes any keyword and ignores those that it does not know.
XTB_KEYS = {
    "method",
    "accuracy",
    "guess",
    "max_iterations",
    "mixer",
    "mixer_memory",
    "mixer_damping",
    "annealing",
    "electric_field",
    "spin_polarization",
    "solvation",
    "electronic_temperature",
    "cache_api",
    "verbosity",
    "xtb_config",
    *(f"{m}_solvation" for m in ("alpb", "gbsa", "cosmo", "cpcm", "pcm", "gbe", "gb")),
}
ASE_KEYS = {"calculator", "kwargs", "charge_keyword", "charge_info", "spin_keyword"}

#: How alike two names must be for one to be a slip of the other.
TYPO = 0.8


def check_fidelity(where: str, fidelity: FidelitySettings, elements: set[str]) -> None:
    """Refuse engine settings that would fail or be ignored.

    Parameters
    ----------
    where
        File and field, for the message.
    fidelity
        Engine and settings.
    elements
        Symbols of the host's elements and of the dopants.

    Raises
    ------
    CampaignError
        With the field and the remedy.
    """
    where = f"{where}.settings"
    if fidelity.engine == "xtb":
        _check_xtb(where, fidelity.settings, elements)
    elif fidelity.engine == "vasp":
        check_vasp(where, fidelity.settings, elements)
    elif fidelity.engine == "gpaw":
        check_gpaw(where, fidelity.settings, elements)
    elif fidelity.engine == "cp2k":
        check_cp2k(where, fidelity.settings, elements)
    else:
        _check_ase(where, fidelity.settings)


def _check_xtb(where: str, settings: dict[str, Any], elements: set[str]) -> None:
    method = settings.get("method")
    if method not in ("GFN1-xTB", "GFN2-xTB", "IPEA1-xTB"):
        raise CampaignError(f"{where}.method: {method!r}; choose GFN1-xTB, GFN2-xTB or IPEA1-xTB.")
    heavy = [s for s in elements if Element(s).Z > 86]
    if heavy:
        raise CampaignError(f"{where}.method: xTB knows elements up to Rn, not {heavy}.")
    if "charge" in settings:
        raise CampaignError(f"{where}.charge: set per defect, in defects.charges.")
    unknown = sorted(set(settings) - XTB_KEYS)
    if unknown:
        raise CampaignError(
            f"{where}: unknown {unknown}, which tblite would ignore"
            f"{did_you_mean(unknown[0], XTB_KEYS)}; known are {sorted(XTB_KEYS)}."
        )


def _check_ase(where: str, settings: dict[str, Any]) -> None:
    path = settings.get("calculator")
    if not isinstance(path, str) or "." not in path:
        raise CampaignError(f"{where}.calculator: give the dotted path of a class.")
    if ("charge_keyword" in settings) == ("charge_info" in settings):
        raise CampaignError(
            f"{where}: give either charge_keyword (the calculator's argument for the "
            "total charge) or charge_info (its key in atoms.info); without it the calculator "
            "would compute every charge state as neutral."
        )
    unknown = sorted(set(settings) - ASE_KEYS)
    if unknown:
        raise CampaignError(
            f"{where}: unknown {unknown}{did_you_mean(unknown[0], ASE_KEYS)}; "
            f"known are {sorted(ASE_KEYS)}."
        )
    kwargs = settings.get("kwargs", {})
    if not isinstance(kwargs, dict):
        raise CampaignError(f"{where}.kwargs: give a mapping of the calculator's arguments.")
    _check_arguments(where, path, settings)


def _check_arguments(where: str, path: str, settings: dict[str, Any]) -> None:
    named = {f"{where}.kwargs": list(settings.get("kwargs", {}))}
    for role in ("charge_keyword", "spin_keyword"):
        named[f"{where}.{role}"] = [settings[role]] if role in settings else []
    if not any(named.values()):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calculator = find_calculator(path)
    except Exception:
        # The machine that reads the file need not be the one that has the calculator.
        return
    for field, arguments in named.items():
        for argument in arguments:
            hint = wrong_argument(calculator, str(argument))
            if hint is not None:
                raise CampaignError(f"{field}: {path} has no argument {argument!r}{hint}.")


def find_calculator(path: str) -> Callable[..., Any]:
    """Import a calculator.

    Parameters
    ----------
    path
        Dotted path of its class, or of a function that returns one.

    Returns
    -------
    callable
        Not yet called.
    """
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def wrong_argument(calculator: Callable[..., Any], argument: str) -> str | None:
    """Tell whether a calculator certainly does not take an argument.

    A signature without ``**kwargs`` decides. With it, ASE calculators list defaults but not
    always all of them, so only a near miss of a listed name counts; those that write any
    keyword into an input file cannot be decided.

    Parameters
    ----------
    calculator
        Class or function.
    argument
        Name of the argument.

    Returns
    -------
    str or None
        What to write instead, to follow the complaint; None if it may be right.
    """
    own = _arguments(calculator)
    if own is None:
        return None
    if not any(p.kind is p.VAR_KEYWORD for p in own):
        names = [p.name for p in own if p.kind is not p.POSITIONAL_ONLY]
        if argument in names:
            return None
        return did_you_mean(argument, names) or f"; it takes {', '.join(names) or 'none'}"
    names = _listed_arguments(calculator)
    if argument in names or nearest(argument, names, cutoff=TYPO) is None:
        return None
    return did_you_mean(argument, names)


def _listed_arguments(calculator: Callable[..., Any]) -> list[str]:
    """Arguments that an ASE calculator with ``**kwargs`` and its bases name, if it lists any."""
    defaults = getattr(calculator, "default_parameters", None)
    if not inspect.isclass(calculator) or issubclass(calculator, FileIOCalculator) or not defaults:
        return []
    given = [p for base in calculator.__mro__ for p in _arguments(base) or []]
    return [*defaults, *(p.name for p in given if p.kind is not p.VAR_KEYWORD)]


def _arguments(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Parameters of a function or class; None if it does not tell."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None

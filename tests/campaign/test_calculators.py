"""A slip in an argument of a calculator is refused before anything runs, where that is certain."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from ase.calculators.calculator import Calculator, FileIOCalculator

from defect_mf_flows.errors import CampaignError
from tests.campaign.files import Load, changed


class Strict(Calculator):
    """Names all its arguments."""

    def __init__(self, method: str = "", total_charge: int = 0) -> None:
        super().__init__()


class Listing(Calculator):
    """Takes any argument and lists its defaults."""

    default_parameters: ClassVar[dict[str, Any]] = {"method": "", "charge": 0}

    def __init__(self, threads: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Writer(FileIOCalculator):
    """Writes any argument into an input file."""

    default_parameters: ClassVar[dict[str, Any]] = {"method": "", "charge": 0}


class Open(Calculator):
    """Takes any argument and lists none."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def factory(charge: int, method: str = "") -> Calculator:
    return Listing(charge=charge, method=method)


def ase(calculator: str, **settings: Any) -> dict[str, Any]:
    path = calculator if "." in calculator else f"{__name__}.{calculator}"
    keyword = "total_charge" if calculator == "Strict" else "charge"
    settings = {"calculator": path, "charge_keyword": keyword, **settings}
    return changed("fidelities.pbe", {"engine": "ase", "settings": settings})


@pytest.mark.parametrize(
    ("calculator", "settings", "field", "remedy"),
    [
        ("Strict", {"kwargs": {"metod": "x"}}, "kwargs", "did you mean 'method'"),
        ("Strict", {"kwargs": {"zzz": 1}}, "kwargs", "it takes method, total_charge"),
        ("Strict", {"charge_keyword": "charge"}, "charge_keyword", "did you mean 'total_charge'"),
        ("Strict", {"spin_keyword": "spin"}, "spin_keyword", "it takes method, total_charge"),
        ("Listing", {"kwargs": {"metod": "x"}}, "kwargs", "did you mean 'method'"),
        ("Listing", {"kwargs": {"thread": 2}}, "kwargs", "did you mean 'threads'"),
        ("Listing", {"kwargs": {"directry": "x"}}, "kwargs", "did you mean 'directory'"),
        ("factory", {"kwargs": {"metod": "x"}}, "kwargs", "did you mean 'method'"),
        ("tblite.ase.TBLite", {"kwargs": {"acuracy": 1}}, "kwargs", "did you mean 'accuracy'"),
        ("Listing", {"kwargs": ["method"]}, "kwargs", "give a mapping"),
        ("Listing", {"kwargs": None}, "kwargs", "give a mapping"),
    ],
)
def test_an_argument_that_the_calculator_cannot_have_is_refused(
    load: Load, calculator: str, settings: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(
        CampaignError, match=rf"campaign\.yaml: fidelities\.pbe\.settings\.{field}: .*{remedy}"
    ):
        load(ase(calculator, **settings))


@pytest.mark.parametrize(
    ("calculator", "kwargs"),
    [
        ("Strict", {"method": "x"}),
        ("Listing", {"method": "x", "threads": 2, "label": "y"}),
        ("Listing", {"elements": ["Zn"]}),
        ("Writer", {"metod": "x"}),
        ("Open", {"metod": "x"}),
        ("factory", {"method": "x"}),
        ("not_installed.here.Calculator", {"metod": "x"}),
        (f"{__name__}.NoSuchClass", {"metod": "x"}),
    ],
)
def test_an_argument_that_may_be_right_is_left_to_the_calculator(
    load: Load, calculator: str, kwargs: dict[str, Any]
) -> None:
    """Lists of defaults need not be complete, and the package may be on another machine."""
    campaign, _ = load(ase(calculator, kwargs=kwargs))
    assert campaign.fidelities["pbe"].settings["kwargs"] == kwargs

"""Foundation models by name, through the loaders of atomate2 and matcalc."""

from __future__ import annotations

import contextlib
import io
import logging
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defect_mf_flows.errors import TrainingError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundationModel:
    """How to load one foundation model.

    Attributes
    ----------
    name
        As asked for.
    package
        Distribution to install.
    module
        What it is imported as.
    loader
        ``"atomate2"`` (``MLFF`` member or import path) or ``"matcalc"`` (name in its registry).
    key
        The loader's name for it.
    options
        For the loader.
    path_option
        Which option takes a local file; None if the loader takes none.
    bundled
        True if the weights come inside the package.
    """

    name: str
    package: str
    module: str
    loader: str
    key: str
    options: dict[str, Any] = field(default_factory=dict)
    path_option: str | None = None
    bundled: bool = False

    @property
    def version(self) -> str:
        """Package and version, for the table."""
        try:
            return f"{self.package} {version(self.package)}"
        except PackageNotFoundError:
            return self.package


def _mace(name: str, model: str, **options: Any) -> FoundationModel:
    options = {"model": model, "device": "cpu", "default_dtype": "float64", **options}
    return FoundationModel(name, "mace-torch", "mace", "atomate2", "MACE_MPA_0", options, "model")


MODELS = {
    model.name: model
    for model in (
        FoundationModel(
            "chgnet",
            "chgnet",
            "chgnet",
            "atomate2",
            # Not MLFF.CHGNet: where chgnet fails to load it falls back to matgl's weights.
            "chgnet.model.dynamics.CHGNetCalculator",
            {"use_device": "cpu"},
            bundled=True,
        ),
        FoundationModel(
            "sevennet-0",
            "sevenn",
            "sevenn",
            "atomate2",
            "SevenNet",
            {"model": "7net-0", "device": "cpu"},
            "model",
            bundled=True,
        ),
        FoundationModel(
            "mattersim",
            "mattersim",
            "mattersim",
            "atomate2",
            "MatterSim",
            {"device": "cpu"},
            "load_path",
        ),
        _mace("mace-mpa-0", "medium-mpa-0"),
        _mace("mace-mh-1", "mh-1", head="omat_pbe"),
        FoundationModel(
            "uma-s",
            "fairchem-core",
            "fairchem",
            "atomate2",
            "FAIRChem",
            {"predict_unit": {"model_name": "uma-s-1p1", "device": "cpu"}, "task_name": "omat"},
        ),
        FoundationModel(
            "grace-2l-oam",
            "tensorpotential",
            "tensorpotential",
            "matcalc",
            "GRACE-OMat24-ft-MPA-2L-small",
        ),
        FoundationModel(
            "orb-v3", "orb-models", "orb_models", "matcalc", "ORB-OMat24-v3-conservative-inf"
        ),
    )
}


def find_model(text: str) -> tuple[FoundationModel, Path | None]:
    """Find a model by ``NAME`` or ``NAME=PATH``.

    Parameters
    ----------
    text
        From the command line.

    Returns
    -------
    model, path
        The local file to load instead of the published weights, or None.

    Raises
    ------
    TrainingError
        If the name or the file is unknown, or this kind takes no file.
    """
    name, _, file = text.partition("=")
    if name not in MODELS:
        raise TrainingError(f"no foundation model {name!r} is known; choose from {list(MODELS)}.")
    model = MODELS[name]
    if not file:
        return model, None
    path = Path(file).expanduser()
    if model.path_option is None:
        raise TrainingError(f"{name} cannot be loaded from a file; give {name} alone.")
    if not path.is_file():
        raise TrainingError(f"{text}: {path} does not exist; give the path of a model file.")
    return model, path


def load_model(model: FoundationModel, path: Path | None) -> Calculator:
    """Load a model.

    Parameters
    ----------
    model, path
        From :func:`find_model`.

    Raises
    ------
    TrainingError
        If it is not installed, or its weights cannot be had.
    """
    needed = [model.module, model.loader]
    lacking = [name for name in needed if find_spec(name) is None]
    if lacking:
        names = {model.module: model.package}
        packages = " ".join(names.get(name, name) for name in lacking)
        raise TrainingError(f"not installed: pip install {packages}")
    options = dict(model.options)
    if path is not None and model.path_option is not None:
        options[model.path_option] = str(path)
        options.pop("head", None)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # loaders print
            return _load(model, options)
    except Exception as error:  # as many kinds of failure as packages
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        text = f"{type(cause).__name__}: {cause}".splitlines()[0][:160]
        raise TrainingError(f"{model.name} cannot be loaded: {text}") from None


def _load(model: FoundationModel, options: dict[str, Any]) -> Calculator:
    if model.loader == "matcalc":
        from matcalc.utils import PESCalculator

        found: Calculator = PESCalculator.load_universal(model.key, **options)
        return found
    if model.module == "mace":
        import mace  # noqa: F401  (before e3nn)
    from atomate2.forcefields.utils import MLFF, ase_calculator, revert_default_dtype

    with revert_default_dtype():
        key = model.key if "." in model.key else MLFF[model.key]
        made = ase_calculator(key, **options)
    assert made is not None
    return made


def is_charge_blind(calculator: Calculator, atoms: Atoms) -> bool:
    """Whether a calculator gives one energy for every charge, by trying.

    Parameters
    ----------
    calculator
        Any.
    atoms
        Some cell that it can compute.
    """
    energies = []
    for charge in (0, 1):
        probe = atoms.copy()
        probe.info |= {"charge": charge, "total_charge": charge}
        calculator.reset()
        energies.append(float(calculator.get_potential_energy(probe)))
    return abs(energies[0] - energies[1]) < 1e-6

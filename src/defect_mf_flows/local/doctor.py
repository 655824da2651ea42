"""What this machine can do."""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from defect_mf_flows.campaign.cp2k import data_folder
from defect_mf_flows.engines.cp2k.makers import runs, version
from defect_mf_flows.errors import DefectMFError
from defect_mf_flows.settings import available_cores, get_settings


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What it is.
    state
        ``missing`` parts are optional; ``broken`` ones stop a run.
    message
        What was found, and the remedy.
    """

    name: str
    state: Literal["ok", "missing", "broken"]
    message: str


def examine() -> list[Check]:
    """Check engines, POTCARs, learning, mongod, cores and disk.

    Returns
    -------
    list of Check
        In the order in which a campaign needs them.
    """
    return [
        _charge(),
        _package("tblite", "engine xtb", "pip install 'defect-mf-flows[embedded]'"),
        gpaw_check(),
        cp2k_check(),
        *vasp_checks(),
        _learning(),
        _mongod(),
        Check("cores", "ok", f"{available_cores()} workers, {get_settings().threads} for training"),
        _disk(),
    ]


def _package(package: str, name: str, remedy: str) -> Check:
    try:
        return Check(name, "ok", f"{package} {importlib.metadata.version(package)}")
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "missing", f"{package} is not installed: {remedy}.")


def gpaw_check() -> Check:
    """Check that GPAW can be imported and has setups.

    Returns
    -------
    Check
        Missing, unless both are there.
    """
    name = "engine gpaw"
    try:
        import gpaw
    except ImportError as error:
        return Check(
            name, "missing", f"{error}: pip install 'defect-mf-flows[gpaw]'; see docs/gpaw.md."
        )
    libxc = gpaw.get_libraries()["libxc"]
    for folder in gpaw.setup_paths:
        count = len(list(Path(folder).glob("*.PBE*")))
        if count:
            message = f"gpaw {gpaw.__version__}, libxc {libxc}, {count} PBE setups in {folder}"
            return Check(name, "ok", message)
    return Check(name, "missing", f"gpaw {gpaw.__version__} without setups: pip install gpaw-data.")


def cp2k_check() -> Check:
    """Check that CP2K starts and that its basis sets and potentials are found.

    Returns
    -------
    Check
        Missing, unless both are there.
    """
    name, command = "engine cp2k", get_settings().cp2k_cmd
    if not runs(command):
        return Check(
            name, "missing", f"no {command!r}: install CP2K or set DEFECT_MF_CP2K_CMD; see "
            "docs/cp2k.md.",
        )  # fmt: skip
    folder = data_folder()
    if folder is None:
        return Check(
            name, "missing", f"cp2k {version(command)} without basis sets and potentials: set "
            "CP2K_DATA_DIR to the folder that has GTH_POTENTIALS.",
        )  # fmt: skip
    return Check(name, "ok", f"cp2k {version(command)}, basis sets and potentials in {folder}")


def vasp_checks() -> list[Check]:
    """Check what VASP needs: packages, executables and POTCARs.

    Returns
    -------
    list of Check
        Each may be missing; a campaign can be built and validated without.
    """
    settings = get_settings()
    packages = _package("atomate2", "engine vasp", "pip install 'defect-mf-flows[vasp]'")
    commands = {
        name: getattr(settings, name) for name in ("vasp_cmd", "vasp_gamma_cmd", "vasp_ncl_cmd")
    }
    absent = []
    for name, command in commands.items():
        words = shlex.split(os.path.expandvars(command))
        # The executable is the last word of "srun vasp_std"; of "python -m x" it is the first.
        if not words or not all(map(shutil.which, {words[0], words[0 if "-m" in words else -1]})):
            absent.append(f"{command} (set DEFECT_MF_{name.upper()})")
    if len(absent) == len(commands):
        state: Literal["ok", "missing"] = "missing"
    else:
        state = "ok"
    shown = "not found: " + ", ".join(absent) if absent else ", ".join(commands.values())
    return [packages, Check("VASP", state, shown), _potcars()]


def _potcars() -> Check:
    """Read a valence, as every charged cell will need it."""
    from pymatgen.core import SETTINGS, Lattice, Structure

    from defect_mf_flows.campaign.vasp import VaspSettings
    from defect_mf_flows.core.charge import with_charge
    from defect_mf_flows.engines.vasp.sets import ChargedCellSet

    cell = Structure(Lattice.cubic(4), ["Zn", "S"], [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    inputs = ChargedCellSet(settings=VaspSettings(functional="PBE", encut=400, gamma_only=True))
    inputs.structure = with_charge(cell, 1)
    try:
        count = inputs.nelect
    except DefectMFError as error:
        return Check("POTCARs", "missing", f"{error} Campaigns can be validated without.")
    where = SETTINGS.get("PMG_VASP_PSP_DIR")
    return Check("POTCARs", "ok", f"{where}; NELECT of ZnS with charge +1: {count:g}")


def _charge() -> Check:
    """Compute one small cell with two charges: the energy must differ."""
    name = "charge reaches the engine"
    try:
        from ase.build import bulk

        from defect_mf_flows.campaign import FidelitySettings
        from defect_mf_flows.core.charge import with_charge
        from defect_mf_flows.engines import reference_maker
        from defect_mf_flows.schemas.calculation import CalculationKind
        from defect_mf_flows.schemas.defect import StartStructure

        settings = FidelitySettings(engine="xtb", settings={"method": "GFN1-xTB"})
        maker = reference_maker("probe", settings, CalculationKind.STATIC)
        from pymatgen.io.ase import AseAtomsAdaptor

        cell = AseAtomsAdaptor.get_structure(bulk("ZnS", "zincblende", a=5.41, cubic=True))
        energies = [
            maker.compute(
                StartStructure(
                    defect=None, charge=q, label="probe", structure=with_charge(cell, q)
                ),
                uuid="probe",
            ).final_energy
            for q in (0, 2)
        ]
    except DefectMFError as error:
        return Check(name, "missing", str(error))
    if None in energies or energies[0] == energies[1]:
        return Check(name, "broken", f"energies for charge 0 and +2 are {energies}.")
    return Check(name, "ok", f"E(+2) - E(0) = {energies[1] - energies[0]:+.2f} eV (8 atoms of ZnS)")  # type: ignore[operator]


def _learning() -> Check:
    try:
        versions = [f"{p} {importlib.metadata.version(p)}" for p in ("torch", "mace-torch")]
    except importlib.metadata.PackageNotFoundError as error:
        return Check(
            "learning",
            "missing",
            f"{error.name} is not installed: pip install 'defect-mf-flows[learn]'. "
            "Workers that only compute references do without.",
        )
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("learning", "ok", f"{', '.join(versions)}; GPUs: {', '.join(devices) or 'none'}")


def _mongod() -> Check:
    from defect_mf_flows.local.mongod import find_mongod

    try:
        return Check("mongod", "ok", str(find_mongod(get_settings().mongod)))
    except DefectMFError as error:
        return Check("mongod", "missing", str(error))


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    state: Literal["ok", "broken"] = "ok" if free > 1 else "broken"
    return Check("disk", state, f"{free:.0f} GB free here")

"""VASP campaigns without VASP: a machine that has the stand-in, and settings for tiny cells."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Put over ``TINY``: the same campaign with VASP as the engine.
VASP_CHANGES: dict[str, Any] = {
    "fidelities": {
        "pbe": {
            "engine": "vasp",
            "settings": {"functional": "PBE", "encut": 300, "gamma_only": True},
            "fmax": 0.3,
            "steps": 15,
        },
        "hse06": {
            "engine": "vasp",
            "settings": {"functional": "HSE06", "encut": 300, "gamma_only": True},
            "fmax": 0.1,
            "steps": 40,
        },
    },
    "roles": {"low": "pbe", "high": "hse06"},
}


def stand_in_environment(folder: Path) -> dict[str, str]:
    """Environment of a machine whose VASP is the stand-in.

    Parameters
    ----------
    folder
        For the POTCAR library and the calculations.

    Returns
    -------
    dict of str
        Variables to set for this process and its workers.
    """
    from defect_mf_flows.testing.potcars import write_potcars

    command = f"{sys.executable} -m defect_mf_flows.testing.vasp_standin"
    return {
        "PMG_VASP_PSP_DIR": str(write_potcars(folder / "potcars")),
        "DEFECT_MF_VASP_CMD": command,
        "DEFECT_MF_VASP_GAMMA_CMD": command,
        "DEFECT_MF_VASP_POLL": "0.1",
        "DEFECT_MF_SCRATCH": str(folder / "scratch"),
    }


@contextmanager
def vasp_stand_in(folder: Path, **more: str) -> Iterator[dict[str, str]]:
    """Let this process and its children find the stand-in for a while.

    Parameters
    ----------
    folder
        For the POTCAR library and the calculations.
    **more
        Further environment variables, for example ``DEFECT_MF_STANDIN="scf"``.

    Yields
    ------
    dict of str
        The variables that are set.
    """
    from pymatgen.core import SETTINGS

    from defect_mf_flows.settings import get_settings

    environment = {**stand_in_environment(folder), **more}
    before = {name: os.environ.get(name) for name in (*environment, "CUSTODIAN_WALLTIME_START")}
    library = SETTINGS.get("PMG_VASP_PSP_DIR")
    os.environ.update(environment)
    # pymatgen reads its environment once, when it is imported.
    SETTINGS["PMG_VASP_PSP_DIR"] = environment["PMG_VASP_PSP_DIR"]
    get_settings.cache_clear()
    try:
        yield environment
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        SETTINGS.pop("PMG_VASP_PSP_DIR", None)
        if library is not None:
            SETTINGS["PMG_VASP_PSP_DIR"] = library
        get_settings.cache_clear()

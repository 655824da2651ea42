"""Real inputs that the tests share: V_Zn in a cubic ZnS cell, tblite labels, a tiny MACE.

The 8-atom cell is far too small for physics (images 5.4 A apart) and just large enough for
everything to run as it does in a campaign. Nothing here is a stand-in for a real part.
"""

from __future__ import annotations

import os

# Before numpy, torch and tblite: two cores are shared with other work.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Structure

from defect_mf_flows.campaign import (
    DefectSettings,
    FidelitySettings,
    HostSettings,
    SplitSettings,
    TrainingSettings,
    campaign_hash,
    load_campaign,
)
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.splits import split_relaxations
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import ServiceError
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.local.mongod import find_mongod
from defect_mf_flows.results import CampaignResults
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.dataset import Dataset, DatasetEntry, FrameReference
from defect_mf_flows.schemas.defect import Defect, DefectSet, StartStructure
from defect_mf_flows.schemas.frame import Frame, Lineage, content_hash
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.settings import get_settings
from defect_mf_flows.testing import write_campaign

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile(
    "shared-machine",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("shared-machine")


# -- structures ------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a mongod on this machine say so for every test that needs a real one."""
    try:
        find_mongod()
    except ServiceError as error:
        skip = pytest.mark.skip(reason=f"NO MONGOD, so no real database is tested: {error}")
        for item in items:
            if item.get_closest_marker("mongod"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def zns_file() -> Path:
    return ROOT / "examples" / "hosts" / "ZnS.cif"


@pytest.fixture(scope="session")
def zns(zns_file: Path) -> Structure:
    structure = Structure.from_file(zns_file)
    structure.remove_oxidation_states()
    return structure


@pytest.fixture(scope="session")
def defect_set(zns: Structure) -> DefectSet:
    """V_Zn in the cubic cell: 7 atoms, charges 0 and -1."""
    return generate_defects(
        zns,
        host=HostSettings(structure="ZnS.cif", supercell=[1, 1, 1]),
        defects=DefectSettings(include=["v_Zn"], charges={"v_Zn": [0, -1]}),
    )


@pytest.fixture(scope="session")
def vacancy(defect_set: DefectSet) -> Defect:
    return defect_set.get("v_Zn")


@pytest.fixture(scope="session")
def make_start(vacancy: Defect) -> Callable[..., StartStructure]:
    """A start structure: the vacancy, rattled unless seed is None."""

    def make(charge: int = 0, seed: int | None = 1, **changes: Any) -> StartStructure:
        structure = vacancy.supercell.copy()
        if seed is not None:
            rng = np.random.default_rng(seed)
            shifts = rng.normal(scale=0.08, size=(len(structure), 3))
            structure = Structure(
                structure.lattice,
                [site.specie.symbol for site in structure],
                structure.cart_coords + shifts,
                coords_are_cartesian=True,
            )
        values = {
            "defect": "v_Zn",
            "charge": charge,
            "label": f"rattle {seed}",
            "structure": with_charge(structure, charge),
            "seed": seed,
        }
        return StartStructure(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def make_frame(vacancy: Defect) -> Callable[..., Frame]:
    """A frame of the vacancy with invented labels, for tests of bookkeeping."""

    def make(
        energy: float = -10.0,
        charge: int = 0,
        *,
        structure: Structure | None = None,
        fidelity: str = "low",
        start: str = "s",
        step: int = 0,
        defect: str | None = "v_Zn",
        **changes: Any,
    ) -> Frame:
        geometry = with_charge(structure or vacancy.supercell, charge)
        values = {
            "structure": geometry,
            "charge": charge,
            "fidelity": fidelity,
            "energy": energy,
            "forces": np.zeros((len(geometry), 3)),
            "lineage": Lineage(
                defect=defect, charge=charge, start=start, calculation=f"u-{start}", step=step
            ),
        }
        return Frame(**{**values, **changes})

    return make


# -- reference calculations ------------------------------------------------------------


@pytest.fixture(scope="session")
def compute() -> Callable[..., Calculation]:
    """Compute a start structure with tblite."""

    def run(
        start: StartStructure,
        *,
        method: str = "GFN1-xTB",
        kind: CalculationKind = CalculationKind.STATIC,
        fidelity: str = "low",
        uuid: str = "uuid",
        fmax: float = 0.05,
        steps: int = 100,
        **options: Any,
    ) -> Calculation:
        maker = reference_maker(
            fidelity,
            FidelitySettings(
                engine="xtb", settings={"method": method, **options}, fmax=fmax, steps=steps
            ),
            kind,
        )
        return maker.compute(start, uuid=uuid)

    return run


# -- learning --------------------------------------------------------------------------


@dataclass(frozen=True)
class Labelled:
    """Real labels and the dataset made of them."""

    frames: list[Frame]
    dataset: Dataset


@pytest.fixture(scope="session")
def labelled(
    make_start: Callable[..., StartStructure], compute: Callable[..., Calculation]
) -> Labelled:
    """Three short GFN1 relaxations per charge; GFN2 on three frames of each."""
    groups: list[tuple[str, str, list[Frame]]] = []
    for charge in (0, -1):
        for seed in (1, 2, 3):
            key = f"v_Zn|{charge:+d}|{seed}"
            relaxation = compute(
                make_start(charge, seed), kind=CalculationKind.RELAX, fmax=1e-3, steps=4, uuid=key
            )
            high = []
            for frame in relaxation.frames[::2]:
                start = make_start(
                    charge, seed, structure=frame.structure, label=f"{key}@{frame.lineage.step}"
                )
                high += compute(
                    start, method="GFN2-xTB", fidelity="high", uuid=f"{start.label}|high"
                ).frames
            groups.append((key, f"v_Zn|{charge:+d}", [*relaxation.frames, *high]))
    sides = split_relaxations(
        {key: stratum for key, stratum, _ in groups}, settings=SplitSettings(), seed=1
    )
    frames, entries = [], []
    for key, _, members in groups:
        for frame in members:
            frames.append(frame)
            entries.append(
                DatasetEntry(
                    frame=FrameReference(
                        calculation=frame.lineage.calculation,
                        step=frame.lineage.step,
                        content_hash=frame.content_hash,
                    ),
                    fidelity=frame.fidelity,
                    charge=frame.charge,
                    defect="v_Zn",
                    relaxation=key,
                    split=sides[key],
                )
            )
    dataset = Dataset(
        dataset_hash=content_hash([entry.model_dump(mode="json") for entry in entries]),
        heads=["low", "high"],
        entries=entries,
        counts={},
    )
    return Labelled(frames, dataset)


@pytest.fixture(scope="session")
def tiny() -> TrainingSettings:
    """The smallest MACE that has everything: two heads, vectors, charge embedding."""
    return TrainingSettings(
        r_max=3.5,
        hidden_irreps="8x0e + 8x1o",
        num_interactions=1,
        charge_embedding_width=4,
        dtype="float64",
        max_epochs=8,
        validate_every=1,
        checkpoint_every=1,
    )


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="session")
def model(labelled: Labelled, tiny: TrainingSettings, scratch: Path) -> Model:
    """Trained once, on real labels, in float64."""
    from defect_mf_flows.learning.training import train

    return train(
        labelled.frames, labelled.dataset, settings=tiny, seed=7, scratch=scratch, threads=1
    )


@pytest.fixture(scope="session")
def committee(
    labelled: Labelled,
    tiny: TrainingSettings,
    scratch: Path,
    model: Model,
    tmp_path_factory: pytest.TempPathFactory,
) -> Model:
    """Three members, of which ``model`` is the first and is not trained again."""
    from defect_mf_flows.learning.committee import train_committee

    # A folder of its own: that of ``model`` holds one training, whichever tests ran before.
    own = tmp_path_factory.mktemp("committee")
    shutil.copytree(scratch, own, dirs_exist_ok=True)
    return train_committee(
        labelled.frames,
        labelled.dataset,
        settings=tiny.model_copy(update={"committee": 3}),
        seed=7,
        scratch=own,
        threads=1,
    )


# -- a whole campaign ------------------------------------------------------------------


@dataclass(frozen=True)
class FinishedRun:
    """A campaign that ran to its end in this process."""

    store: JobStore
    api: CampaignResults
    results: Results


@pytest.fixture(scope="session")
def run_campaign_here() -> Callable[..., FinishedRun]:
    """Run a tiny campaign under ``run_locally``, with real engines and a real model."""

    def run(folder: Path, changes: dict[str, Any], store: JobStore | None = None) -> FinishedRun:
        campaign, structure = load_campaign(write_campaign(folder, changes))
        store = store or JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DEFECT_MF_SCRATCH", str(folder / "scratch"))
            patch.setenv("DEFECT_MF_TRAINING_THREADS", "1")
            get_settings.cache_clear()
            flow = CampaignMaker.from_campaign(campaign).make(structure)
            run_locally(flow, store=store, ensure_success=True, raise_immediately=True, log=False)
        get_settings.cache_clear()
        api = CampaignResults(store, campaign_hash=campaign_hash(campaign, structure))
        return FinishedRun(store, api, api.results())

    return run


@pytest.fixture(scope="session")
def finished(
    run_campaign_here: Callable[..., FinishedRun],
    tmp_path_factory: pytest.TempPathFactory,
) -> FinishedRun:
    """The tiny campaign, finished; computed once."""
    return run_campaign_here(tmp_path_factory.mktemp("campaign"), {})


@pytest.fixture
def tiny_campaign(tmp_path: Path) -> Path:
    """A tiny campaign file that nobody has run."""
    return write_campaign(tmp_path)

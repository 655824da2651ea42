"""Start structures, calculations, datasets, models: what every other document promises."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable

import pytest
from monty.json import MontyDecoder, MontyEncoder
from pydantic import ValidationError

import defect_mf_flows.schemas as package
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.base import Document
from defect_mf_flows.schemas.calculation import (
    Calculation,
    CalculationKind,
    EngineRecord,
    Failure,
    FailureReason,
)
from defect_mf_flows.schemas.dataset import ReferenceEnergy
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import Model


def documents() -> list[type[Document]]:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    found = list(Document.__subclasses__())
    for kind in found:
        found += kind.__subclasses__()
    return sorted(set(found), key=lambda kind: kind.__name__)


def through_json(document: Document) -> Document:
    return json.loads(json.dumps(document, cls=MontyEncoder), cls=MontyDecoder)


@pytest.mark.parametrize("kind", documents(), ids=lambda kind: kind.__name__)
def test_every_document_is_frozen_versioned_and_documented(kind: type[Document]) -> None:
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"
    assert "schema_version" in kind.model_fields
    undocumented = [name for name in kind.__annotations__ if name not in (kind.__doc__ or "")]
    assert not undocumented


@pytest.mark.parametrize("charge", [-1, 0, 2])
def test_a_start_structure_survives_json_with_its_charge(
    make_start: Callable[..., StartStructure], charge: int
) -> None:
    start = make_start(charge)
    back = through_json(start)
    assert isinstance(back, StartStructure)
    assert back == start
    assert charge_of(back.structure) == charge


def test_a_start_structure_of_another_charge_is_refused(
    make_start: Callable[..., StartStructure],
) -> None:
    neutral = make_start(0)
    with pytest.raises(ChargeError, match="with_charge"):
        make_start(-1, structure=neutral.structure)


def test_a_calculation_survives_json_with_frames_failure_and_charge(
    make_frame: Callable[..., Frame],
) -> None:
    frame = make_frame(charge=-1)
    calculation = Calculation(
        job_uuid="u",
        kind=CalculationKind.RELAX,
        fidelity="low",
        defect="v_Zn",
        charge=-1,
        start="s",
        n_atoms=7,
        converged=False,
        failure=Failure(stage="relax", reason=FailureReason.SCF, message="m", charge=-1, start="s"),
        n_calls=1,
        seconds=0.5,
        engine=EngineRecord(name="tblite", version="1", settings={"charge": -1}),
        final_energy=frame.energy,
        final_structure=frame.structure,
        n_frames=1,
        frames=[frame],
    )
    back = through_json(calculation)
    assert back == calculation
    assert charge_of(back.final_structure) == charge_of(back.frames[0].structure) == -1


def test_a_defect_set_survives_json_and_its_doped_entry_stays_text(
    defect_set: DefectSet,
) -> None:
    back = through_json(defect_set)
    assert back == defect_set
    assert isinstance(back.get("v_Zn").entry, str)


def test_a_defect_needs_at_least_one_charge(defect_set: DefectSet) -> None:
    content = {**dict(defect_set.get("v_Zn")), "charges": []}
    with pytest.raises(ValidationError, match="charges"):
        type(defect_set.get("v_Zn"))(**content)


@pytest.fixture
def bare_model() -> Model:
    """A model document without its file: enough to refuse things."""
    reference = ReferenceEnergy(head="low", charge=-1, composition="S4 Zn3", energy=5.0, n_labels=1)
    return Model(
        model_hash="0",
        dataset_hash="0",
        heads=["low", "high"],
        charges={"low": [-1, 0], "high": [0]},
        references=[reference],
        settings={},
        seed=1,
        best_epoch=0,
        seconds=0.0,
        versions={},
    )


def test_a_model_knows_the_charges_of_each_head_apart(bare_model: Model) -> None:
    bare_model.check(head="low", charge=-1)
    with pytest.raises(ChargeError, match=r"'high' was not trained on charge -1, only on \[0\]"):
        bare_model.check(head="high", charge=-1)


@pytest.mark.parametrize("head", ["LOW", "hse", ""])
def test_a_model_refuses_heads_it_does_not_have(bare_model: Model, head: str) -> None:
    with pytest.raises(FidelityError, match="choose one of"):
        bare_model.check(head=head, charge=0)


@pytest.mark.parametrize(
    "group",
    [("high", -1, "S4 Zn3"), ("low", 0, "S4 Zn3"), ("low", -1, "S16 Zn15")],
)
def test_a_reference_energy_belongs_to_one_head_charge_and_composition(
    bare_model: Model, group: tuple[str, int, str]
) -> None:
    assert bare_model.reference(head="low", charge=-1, composition="S4 Zn3") == 5.0
    head, charge, composition = group
    with pytest.raises(ChargeError, match="not trained on this group"):
        bare_model.reference(head=head, charge=charge, composition=composition)


def test_with_charge_is_how_a_structure_enters_a_document(defect_set: DefectSet) -> None:
    assert charge_of(defect_set.host.supercell) == 0
    assert charge_of(with_charge(defect_set.get("v_Zn").supercell, -1)) == -1

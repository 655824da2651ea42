from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from jobflow.utils import find_key
from monty.json import MontyDecoder, MontyEncoder, jsanitize
from pydantic import ValidationError

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ChargeError, DatasetError
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.frame import Frame, Lineage, content_hash, structure_key

MakeFrame = Callable[..., Frame]


def tampered(frame: Frame, **changes: object) -> dict[str, object]:
    return {**json.loads(json.dumps(frame, cls=MontyEncoder)), **changes}


def test_frames_of_equal_content_have_equal_hashes_wherever_they_come_from(
    make_frame: MakeFrame,
) -> None:
    one = make_frame(start="a", step=0)
    assert one.content_hash == make_frame(start="b", step=7).content_hash


@pytest.mark.parametrize(
    "changes",
    [
        {"energy": -10.0 + 1e-9},
        {"charge": -1},
        {"charge": +1},
        {"fidelity": "high"},
        {"spin": 0},
        {"spin": 2},
        {"forces": np.full((7, 3), 1e-9)},
        {"stress": np.zeros((3, 3))},
    ],
    ids=str,
)
def test_the_hash_changes_with_every_label(make_frame: MakeFrame, changes: dict) -> None:
    assert make_frame(**changes).content_hash != make_frame().content_hash


def test_the_hash_changes_with_positions_and_with_species(
    make_frame: MakeFrame, vacancy: Defect
) -> None:
    moved, mutated = vacancy.supercell.copy(), vacancy.supercell.copy()
    moved.translate_sites([2], [1e-6, 0, 0])
    mutated.replace(0, "Cd")
    hashes = {make_frame(structure=s).content_hash for s in (None, moved, mutated)}
    assert len(hashes) == 3


def test_a_negative_zero_is_a_zero_to_the_hash(vacancy: Defect) -> None:
    signed = vacancy.supercell.copy()
    signed.lattice = signed.lattice.matrix - 1e-15 * np.ones((3, 3))
    key = structure_key(signed)
    assert content_hash(key) == content_hash(structure_key(vacancy.supercell))


@pytest.mark.parametrize(
    "field", ["energy", "charge", "fidelity", "spin", "structure", "forces", "content_hash"]
)
def test_an_altered_frame_is_refused_when_it_is_read(make_frame: MakeFrame, field: str) -> None:
    frame = make_frame(spin=0)
    structure = frame.structure.copy()
    structure.translate_sites([0], [0.01, 0, 0])
    forces = np.array(frame.forces)
    forces[0, 0] += 1e-6
    changes = {
        "energy": frame.energy - 1e-6,
        "charge": 1,
        "fidelity": "other",
        "spin": 2,
        "structure": structure.as_dict(),
        "forces": forces.tolist(),
        "content_hash": "0" * 64,
    }
    with pytest.raises((DatasetError, ChargeError)):
        Frame.model_validate(
            {k: v for k, v in tampered(frame, **{field: changes[field]}).items() if k[0] != "@"}
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["energy", "forces", "stress"])
def test_labels_that_are_not_finite_are_refused(
    make_frame: MakeFrame, field: str, value: float
) -> None:
    shape = {"energy": (), "forces": (7, 3), "stress": (3, 3)}[field]
    label = np.zeros(shape)
    label[(-1,) * len(shape)] = value
    with pytest.raises(DatasetError, match="not finite"):
        make_frame(**{field: label if shape else value})


@pytest.mark.parametrize("shape", [(6, 3), (8, 3), (7, 2), (3, 7)])
def test_forces_of_another_shape_are_refused(make_frame: MakeFrame, shape: tuple) -> None:
    with pytest.raises(DatasetError, match=r"shape \(7, 3\)"):
        make_frame(forces=np.zeros(shape))


def test_a_stress_in_voigt_order_is_refused(make_frame: MakeFrame) -> None:
    with pytest.raises(DatasetError, match=r"shape \(3, 3\)"):
        make_frame(stress=np.zeros((2, 3)))


@pytest.mark.parametrize("missing", ["charge", "fidelity", "lineage", "energy", "forces"])
def test_a_frame_without_an_essential_field_does_not_exist(
    make_frame: MakeFrame, missing: str
) -> None:
    content = {k: v for k, v in make_frame().model_dump().items() if k != missing}
    with pytest.raises(ValidationError, match=missing):
        Frame(**{**content, "content_hash": "0" * 64})


def test_an_empty_fidelity_is_none(make_frame: MakeFrame) -> None:
    with pytest.raises(ValidationError, match="fidelity"):
        make_frame(fidelity="")


@pytest.mark.parametrize("charge", [0.5, "0", True, None, 1.0])
def test_a_frame_takes_only_a_whole_number_for_its_charge(
    make_frame: MakeFrame, charge: object
) -> None:
    content = make_frame().model_dump()
    with pytest.raises(ValidationError, match="charge"):
        Frame(**{**content, "charge": charge})


def test_structure_lineage_and_frame_must_agree_on_the_charge(make_frame: MakeFrame) -> None:
    frame = make_frame(charge=-1)
    other_lineage = Lineage(**{**frame.lineage.model_dump(), "charge": 0})
    for changes in (
        {"structure": with_charge(frame.structure, 0)},
        {"lineage": other_lineage},
        {"charge": 0},
    ):
        content = {name: getattr(frame, name) for name in Frame.model_fields}
        with pytest.raises(ChargeError, match="differ"):
            Frame(**{**content, "content_hash": "", **changes})


@pytest.mark.parametrize("charge", [-2, -1, 0, 1])
def test_a_frame_survives_json_with_its_charge(make_frame: MakeFrame, charge: int) -> None:
    frame = make_frame(charge=charge, spin=1, stress=np.eye(3))
    back = json.loads(json.dumps(frame, cls=MontyEncoder), cls=MontyDecoder)
    assert isinstance(back, Frame)
    assert charge_of(back.structure) == back.charge == charge
    assert back == frame


def test_a_frame_survives_what_jobflow_does_to_outputs(make_frame: MakeFrame) -> None:
    frame = make_frame(charge=-1)
    stored = json.loads(json.dumps(jsanitize(frame, strict=True, enum_values=True)))
    assert find_key(stored, "content_hash"), "the hash is stored"
    assert MontyDecoder().process_decoded(stored) == frame


def test_an_unknown_field_is_refused(make_frame: MakeFrame) -> None:
    with pytest.raises(ValidationError, match="chrage"):
        make_frame(chrage=1)

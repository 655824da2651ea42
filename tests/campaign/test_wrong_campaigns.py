"""What is wrong with a campaign, the field that is named, the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from defect_mf_flows.errors import CampaignError
from tests.campaign.files import ASE, REMOVED, XTB, Load, changed

WRONG: dict[str, tuple[str, Any, str, str]] = {
    "reserves that nothing calls on": (
        "verification.low_minima",
        5,
        "verification",
        "set low_check, or leave low_minima out",
    ),
    "two ways to begin a relaxation": (
        "verification",
        {"guided": True, "curvature": True},
        "verification",
        "set one of them",
    ),
    "rounds of a low fidelity that is not asked": (
        "loop.low_rounds",
        1,
        "loop.low_rounds",
        "only with verification.low_check",
    ),
    "no round left to the high fidelity": (
        "loop.low_rounds",
        2,
        "loop",
        "set max_rounds higher",
    ),
    "a limit on relaxations that single points do not choose": (
        "verification.relaxations",
        1,
        "verification",
        "set relax_within, or leave relaxations out",
    ),
    "unknown section": ("trainig", {}, "trainig", "did you mean 'training'"),
    "unknown key": ("training.max_epoch", 3, "training.max_epoch", "did you mean 'max_epochs'"),
    "unknown nested key": (
        "fidelities.pbe.setings",
        {},
        "fidelities.pbe.setings",
        "did you mean 'settings'",
    ),
    "unknown key unlike any": ("roles.zzz", 1, "roles.zzz", "valid keys: low, high, extra"),
    "missing section": ("roles", REMOVED, "roles", "required"),
    "missing key": ("roles.high", REMOVED, "roles.high", "required"),
    "name with a slash": ("name", "a/b", "name", "pattern"),
    "one fidelity": ("fidelities", {"pbe": XTB}, "fidelities", "at least 2"),
    "missing host": ("host.structure", "no.cif", "host.structure", "relative to the file"),
    "host with an impossible name": ("host.structure", "x" * 5000, "host.structure", "exist"),
    "host that is a folder": ("host.structure", ".", "host.structure", "does not exist"),
    "host that is no structure": (
        "host.structure",
        "campaign.yaml",
        "host.structure",
        "not a structure file",
    ),
    "unknown element": ("defects.include", ["v_Xx"], "defects.include", "no element"),
    "element not in the host": ("defects.include", ["Mg_Zn"], "defects.include", "extrinsic"),
    "no defect name": ("defects.include", ["vacancy"], "defects.include", "write v_Zn"),
    "defect name with a tail": ("defects.include", ["v_Znn"], "defects.include", "write v_Zn"),
    "dopant that is no element": ("defects.extrinsic", ["Foo"], "defects.extrinsic", "symbols"),
    "charges of another defect": (
        "defects.charges",
        {"v_S": [0]},
        "defects.charges",
        "add it there",
    ),
    "no charge": ("defects.charges", {"v_Zn": []}, "defects.charges.v_Zn", "at least 1"),
    "repeated charge": ("defects.charges", {"v_Zn": [0, 0]}, "charges.v_Zn", "list each once"),
    "fractional charge": ("defects.charges", {"v_Zn": [0.5]}, "charges.v_Zn.0", "integer"),
    "charge as text": ("defects.charges", {"v_Zn": ["0"]}, "charges.v_Zn.0", "integer"),
    "charge as truth": ("defects.charges", {"v_Zn": [True]}, "charges.v_Zn.0", "integer"),
    "no electrons left": (
        "defects.charges",
        {"v_Zn": [2000]},
        "charges.v_Zn",
        "leaves no electrons",
    ),
    "absurd charge": ("defects.charges", {"v_Zn": [-13]}, "charges.v_Zn", "beyond +-12"),
    "cell smaller than the cutoff": ("training.r_max", 6.0, "host.supercell", "enlarge"),
    "auto cell smaller than the cutoff": (
        "host",
        {"structure": "ZnS.cif", "min_image_distance": 3.5},
        "host.supercell",
        "enlarge",
    ),
    "flat cell": ("host.supercell", [2, 0, 1], "host.supercell", "no volume"),
    "flat matrix": ("host.supercell", [[1, 0, 0]] * 3, "host.supercell", "no volume"),
    "ragged matrix": ("host.supercell", [[1, 0], [0, 1], [1]], "host.supercell", "3 items"),
    "cell that fills the memory": (
        "host.supercell",
        [10**9] * 3,
        "host.supercell",
        "less than or equal to 100",
    ),
    "two like fidelities": ("fidelities.pbe", XTB, "roles", "change the method"),
    "unknown role": ("roles.low", "pbee", "roles: 'pbee'", "did you mean 'pbe'"),
    "one fidelity in two roles": ("roles.low", "hse", "roles", "one part"),
    "fidelity without a role": ("fidelities.scan", XTB, "['scan']", "list them in roles"),
    "negative fraction": ("picks.fraction", -0.1, "picks.fraction", "greater than 0"),
    "large fraction": ("picks.fraction", 1.1, "picks.fraction", "less than 1"),
    "fraction that is no number": ("picks.fraction", float("nan"), "picks.fraction", "finite"),
    "infinite rate": ("training.learning_rate", float("inf"), "learning_rate", "finite"),
    "nothing left to train on": ("split", {"valid": 0.5, "test": 0.45}, "split", "at least 10 %"),
    "unknown engine": (
        "fidelities.pbe.engine",
        "vsap",
        "fidelities.pbe.engine",
        "'gpaw' or 'cp2k'",
    ),
    "unknown xtb method": (
        "fidelities.pbe.settings",
        {"method": "GFN7"},
        "fidelities.pbe.settings.method",
        "choose GFN1-xTB",
    ),
    "no xtb method": ("fidelities.pbe.settings", {}, "pbe.settings.method", "choose GFN1-xTB"),
    "xtb keyword that tblite ignores": (
        "fidelities.pbe.settings",
        {"method": "GFN1-xTB", "max_iteration": 10},
        "fidelities.pbe.settings",
        "max_iterations",
    ),
    "charge among the settings": (
        "fidelities.pbe.settings",
        {"method": "GFN1-xTB", "charge": 1},
        "fidelities.pbe.settings.charge",
        "defects.charges",
    ),
    "ase without a calculator": (
        "fidelities.pbe",
        {"engine": "ase"},
        "pbe.settings.calculator",
        "dotted path",
    ),
    "ase without a way for the charge": (
        "fidelities.pbe",
        {"engine": "ase", "settings": {"calculator": "tblite.ase.TBLite"}},
        "fidelities.pbe.settings",
        "charge_keyword",
    ),
    "ase with two ways for the charge": (
        "fidelities.pbe",
        {"engine": "ase", "settings": {**ASE, "charge_info": "charge"}},
        "fidelities.pbe.settings",
        "either",
    ),
    "ase with an unknown setting": (
        "fidelities.pbe",
        {"engine": "ase", "settings": {**ASE, "charge_keywrod": "charge"}},
        "fidelities.pbe.settings",
        "known are",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_campaign_gives_one_error_with_file_field_and_remedy(load: Load, case: str) -> None:
    path, value, field, remedy = WRONG[case]
    with pytest.raises(CampaignError) as caught:
        load(changed(path, value))
    message = str(caught.value)
    assert "campaign.yaml" in message
    assert field in message
    assert remedy in message


@pytest.mark.parametrize("strategy", ["high_only", "transfer", "transfer_frozen"])
def test_the_low_fidelity_cannot_look_over_a_model_without_a_low_head(
    load: Load, strategy: str
) -> None:
    content = changed("verification", {"low_check": 0.3})
    load(content)
    content["training"] = {**content.get("training", {}), "strategy": strategy}
    with pytest.raises(CampaignError, match=f"'{strategy}' keeps none; choose another strategy"):
        load(content)


def test_vasp_guides_only_vasp(load: Load) -> None:
    content = changed("verification", {"guided": True})
    load(content)
    settings = {"functional": "PBE", "encut": 300, "gamma_only": True}
    vasp = {"engine": "vasp", "settings": settings}
    content["fidelities"]["pbe"] = vasp
    with pytest.raises(CampaignError, match="VASP guides only VASP; leave guided out"):
        load(content)
    content["fidelities"]["hse"] = {**vasp, "settings": {**settings, "functional": "HSE06"}}
    load(content)

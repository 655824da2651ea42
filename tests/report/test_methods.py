import re

from defect_mf_flows.report.citations import WORKS
from defect_mf_flows.report.methods import methods


def told(results, **options):
    return methods(results, **options)


def test_every_citation_has_its_reference_in_order_of_use(uncertain):
    found = told(uncertain, fireworks=True)
    marks = [
        int(n) for group in re.findall(r"\[([\d,]+)\]", found.paragraph) for n in group.split(",")
    ]
    first_use = list(dict.fromkeys(marks))
    assert first_use == list(range(1, len(found.references) + 1))
    assert [r.split("]")[0] for r in found.references] == [f"[{n}" for n in first_use]
    assert found.text().startswith(found.paragraph)


def test_identifiers_are_well_formed():
    for work in WORKS.values():
        assert re.fullmatch(r"https://doi\.org/10\.\d{4,}/\S+|arXiv:\d{4}\.\d{5}", work.identifier)


def test_only_what_was_used_is_cited(make_results, uncertain):
    text = told(uncertain).text()
    for used in ("acs.jctc.7b00118", "acs.jctc.8b01176", "joss.06433", "joss.04817", "2206.07697"):
        assert used in text
    for unused in ("10.1103/PhysRevB.54.11169", "10.1063/5.0182685", "cpe.3505", "D5DD00019J"):
        assert unused not in text
    dft = make_results(
        fidelities={"low": "pbe", "high": "hse06"},
        engines={
            "pbe": {"engine": "gpaw", "settings": {"functional": "PBE", "encut": 400.0}},
            "hse06": {
                "engine": "vasp", "fmax": 0.01,
                "settings": {"functional": "HSE06", "encut": 350.0, "kpoints": [2, 2, 2]},
            },
        },
    )  # fmt: skip
    text = told(dft, fireworks=True).text()
    assert "HSE06" in text
    assert "2x2x2 Gamma-centred k-points" in text
    for used in ("PhysRevB.54.11169", "PhysRevLett.77.3865", "1.1564060", "5.0182685", "cpe.3505",
                 "D5DD00019J"):  # fmt: skip
        assert used in text
    assert "tblite" not in text


def test_the_numbers_are_those_of_the_campaign(uncertain, results):
    text = told(uncertain).paragraph
    for shown in (
        "v_Zn (+1, 0, -1)", "supercell of 32 atoms", "42 start structures", "80 were chosen by "
        "stratified sampling", "committee of 3 MACE potentials", "128 relaxations (9168 force",
        "12 relaxations, 57 evaluations", "1 confirmed, 1 lower and 1 wrong", "loop ended budget",
        "1 geometry on which the committee disagreed was labelled", "10000 draws", "seed 1",
    ):  # fmt: skip
        assert shown in text
    alone = told(results).paragraph
    assert "A MACE potential" in alone
    assert "committee" not in alone


def test_a_stand_in_is_named_as_such(results):
    assert results.disclaimer in told(results).paragraph


def test_old_documents_without_settings_have_a_paragraph_too(make_results):
    empty = make_results(
        ground_states=[], transition_levels=[], cost=[], counts={}, metrics=[], engines={}, host={}
    )
    assert "A MACE potential" in told(empty).paragraph

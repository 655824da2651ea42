import re

import pytest
from mace.calculators.foundations_models import mace_mp_urls

from defect_mf_flows.report.citations import WORKS
from defect_mf_flows.report.methods import methods, write_references
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod


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


@pytest.mark.parametrize(
    ("method", "cited", "others"),
    [
        ("eFNV", ["PhysRevB.89.195205", "PhysRevMaterials.5.123803"], ["PhysRevLett.102.016402"]),
        ("FNV", ["PhysRevLett.102.016402"], ["PhysRevB.89.195205"]),
        ("point charge", ["PhysRevB.87.094111"], ["PhysRevB.89.195205"]),
    ],
)
def test_the_correction_that_was_used_is_cited(make_results, method, cited, others):
    used = Correction(method=CorrectionMethod(method), defect="v_Zn", charge=-1, energy=0.2)
    text = told(make_results(correction=method, corrections=[used])).text()
    assert all(name in text for name in cited)
    assert not any(name in text for name in others)
    plain = told(make_results()).text()
    assert not any(name in plain for name in [*cited, *others])


def test_what_was_added_to_the_functional_is_told_and_cited(make_results):
    settings = {"functional": "PBE", "encut": 400.0, "kpoints": [2, 2, 2]}
    added = {"dispersion": "D3-BJ", "soc": True, "hubbard": {"Fe": {"l": 2, "u": 4.0}}}

    def text(extra):
        engine = {"engine": "vasp", "settings": {**settings, **extra}}
        return told(make_results(engines={"gfn1": engine, "gfn2": engine})).text()

    found = text(added)
    for shown in ("Becke-Johnson damping", "4 eV on Fe d", "spin-orbit coupling", "1.3382344",
                  "jcc.21759", "PhysRevB.57.1505"):  # fmt: skip
        assert shown in found
    zero = text({"dispersion": "D3"})
    assert "zero damping" in zero
    assert "jcc.21759" not in zero
    plain = text({"dispersion": None, "soc": False, "hubbard": {}})
    for absent in ("D3", "Dudarev", "spin-orbit"):
        assert absent not in plain


def trained(make_results, **training):
    return told(make_results(settings={"training": {"strategy": "joint", **training}})).text()


def test_the_foundation_model_of_a_training_is_named_and_cited(make_results):
    text = trained(make_results, foundation="/data/mace-mpa-0-medium.model")
    assert "from the weights of the foundation model mace-mpa-0-medium.model [" in text
    assert "2401.00096" in text
    assert "/data" not in text
    text = trained(make_results, foundation="mh-1", foundation_head="omat_pbe")
    assert "mh-1 (head omat_pbe) [" in text
    assert "2510.25380" in text
    assert "whose publication is to be cited here" in trained(make_results, foundation="own.model")
    assert "foundation" not in trained(make_results, foundation=None)


@pytest.mark.parametrize(
    "name", [*mace_mp_urls, *(u.rsplit("/")[-1] for u in mace_mp_urls.values())]
)
def test_every_model_that_mace_names_is_placed(make_results, name):
    assert "whose publication" not in trained(make_results, foundation=name)


def test_replay_is_told(make_results):
    text = trained(make_results, foundation="mpa-0", replay="/data/mp.xyz")
    assert "Frames of mp.xyz were replayed" in text
    assert "replayed" not in trained(make_results, foundation="mpa-0", replay=None)


def test_it_says_which_candidates_were_relaxed(make_results):
    plain = told(make_results()).paragraph
    assert "lowest minima of every charge state were relaxed at the high fidelity" in plain
    within = told(make_results(settings={"verification": {"relax_within": 0.3}})).paragraph
    assert "got single points at the high fidelity, and those within 0.3 eV" in within
    assert "per charge state and round" not in within
    settings = {"verification": {"relax_within": 0.3, "relaxations": 1}}
    few = told(make_results(settings=settings)).paragraph
    assert "of the lowest were relaxed, 1 per charge state and round first" in few


def test_it_says_which_predictions_took_over_a_verified_minimum(make_results):
    settings = {"relax_within": 0.3, "relaxations": 1, "trace_verified": True}
    traced = told(make_results(settings={"verification": settings})).paragraph
    assert "verified at the same charge was taken for that minimum unless its" in traced
    settings["trace_verified"] = False
    plain = told(make_results(settings={"verification": settings})).paragraph
    assert "taken for that minimum" not in plain


def test_it_says_what_guided_the_relaxations(make_results):
    assert "guided by" not in told(make_results()).paragraph
    guided = told(make_results(settings={"verification": {"guided": True}}))
    assert "were guided by the low fidelity" in guided.paragraph
    assert "gpmin" in guided.cited


def test_it_says_what_the_high_fidelity_relaxed_before_the_first_model(make_results):
    assert "Before the first model" not in told(make_results()).paragraph
    settings = {"picks": {"relaxations": 1, "rattle": 0.05}}
    one = told(make_results(settings=settings)).paragraph
    assert "Before the first model, 1 start of every charge state" in one
    assert "(standard deviation 0.05 of the shortest bond), was relaxed with" in one
    settings["picks"]["relaxations"] = 2
    assert "2 starts of every charge state" in told(make_results(settings=settings)).paragraph


def test_it_says_what_the_low_fidelity_looked_over(make_results):
    assert "head was off" not in told(make_results()).paragraph
    settings = {"verification": {"low_check": 0.3}}
    checked = told(make_results(settings=settings)).paragraph
    assert "low-fidelity head was off by more than 0.3 eV per cell" in checked
    assert "low fidelity alone" not in checked
    alone = told(make_results(settings={**settings, "loop": {"low_rounds": 1}})).paragraph
    assert "the first round asked the low fidelity alone" in alone


def test_it_says_that_lower_labels_taught_the_highest_head(make_results):
    assert "instead of their own" not in told(make_results()).paragraph
    found = told(make_results(settings={"training": {"high_prior": 0.1}})).paragraph
    assert "taught the head of the highest instead of their own, with 0.1 of their weight" in found


def test_it_says_where_the_model_was_believed(make_results):
    assert "were refused" not in told(make_results()).paragraph
    found = told(make_results(settings={"search": {"trust": 0.25}}))
    assert "off by more than 0.25 eV per cell" in found.paragraph
    assert "trust" in found.cited


def test_references_are_written_for_bibtex(uncertain, tmp_path):
    found = told(uncertain)
    text = write_references(found, tmp_path).read_text(encoding="utf-8")
    assert re.findall(r"^@article\{(\w+),$", text, flags=re.M) == found.cited
    assert len(found.cited) == len(found.references)
    assert text.count("{") == text.count("}")
    assert "author = {I. Mosquera-Lois and S. R. Kavanagh and A. Walsh and D. O. Scanlon}" in text


def test_every_work_has_a_complete_entry():
    for key, work in WORKS.items():
        entry = work.entry(key)
        assert re.search(r"year = \{20[012]\d\}|year = \{199\d\}", entry), key
        assert "doi = {10." in entry or "archiveprefix = {arXiv}" in entry, key
        if not work.journal.startswith(("arXiv", "Adv.")):
            assert re.search(r"volume = \{\d+\},\n  (number = \{\d+\},\n  )?pages = ", entry), key
    assert "volume = {9},\n  number = {93},\n  pages = {5995}" in WORKS["jobflow"].entry("jobflow")
    assert "author = {I. Batatia and others}" in WORKS["mace"].entry("mace")

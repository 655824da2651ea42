"""One value for every setting, whoever wrote it down."""

from __future__ import annotations

import pytest

from defect_mf_flows.engines.vasp.method import as_text, imposed_moment, method_of


@pytest.mark.parametrize("none", ["--", "F", "None", ""])
def test_versions_that_call_no_meta_gga_by_other_names_agree(none):
    assert method_of({"METAGGA": none}) == method_of({})
    assert method_of({"METAGGA": "Scan"})["METAGGA"] == "SCAN"


def test_an_incar_and_what_vasp_lists_are_the_same_method():
    incar = {"GGA": "Pe", "LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.2, "ENCUT": 400}
    incar |= {"PREC": "Accurate", "LASPH": True}
    listed = {"GGA": "--", "LEXCH": "8", "LHFCALC": "T", "AEXX": "0.2500", "HFSCREEN": "0.2000"}
    listed |= {"ENCUT": "400.0", "PREC": "accura", "LASPH": "T", "METAGGA": "F"}
    assert method_of(as_text(incar)) == method_of(listed)
    assert method_of(as_text({**incar, "AEXX": 0.3})) != method_of(listed)


def test_shares_of_exact_exchange_count_in_hybrids_alone():
    assert method_of({"AEXX": "0.3"}) == method_of({"AEXX": "0.25"})


def test_hubbard_terms_belong_to_elements():
    tags = as_text({"LDAU": True, "LDAUU": [4.0, 0.0], "LDAUL": [2, -1], "LDAUJ": [0.0, 0.0]})
    found = method_of(tags, ["Fe", "O"])
    assert (found["LDAUU Fe"], found["LDAUL O"]) == (4.0, -1.0)
    assert method_of(tags, ["O", "Fe"]) != found


def test_a_moment_is_imposed_in_polarised_runs_alone():
    assert imposed_moment({"NUPDOWN": "1.0000", "ISPIN": "2"}) == 1
    assert imposed_moment({"NUPDOWN": "-1.0000", "ISPIN": "2"}) is None
    assert imposed_moment({"NUPDOWN": "1.0000", "ISPIN": "1"}) is None

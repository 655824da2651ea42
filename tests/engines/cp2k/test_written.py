"""What CP2K is told, and what is read from its output; no CP2K is needed."""

from __future__ import annotations

import pytest
from ase.calculators.cp2k import parse_input

from defect_mf_flows.campaign.cp2k import Cp2kSettings
from defect_mf_flows.engines.cp2k.written import MINIMIZERS, input_text, read_abort, read_evaluation

CONVERGED = """
 Spin 1
 Number of electrons:                                                          9
 Spin 2
 Number of electrons:                                                          8
  Leaving inner SCF loop after reaching    20 steps.
  Total charge density g-space grids:           0.5000000000
  *** SCF run converged in     5 steps ***
  Electronic density on regular grids:        -17.0000006695       -0.0000006695
  Total charge density on r-space grids:        0.9999995057
  Total charge density g-space grids:           0.9999995057
"""


def test_converged_output_tells_the_charge_of_its_last_density_and_the_spin():
    done = read_evaluation(CONVERGED)
    assert done.converged
    assert done.charge == pytest.approx(1.0, abs=1e-5)
    assert done.unpaired == 1


@pytest.mark.parametrize(
    "end", ["", " *** WARNING in qs_scf.F:601 :: SCF run NOT converged ***", "  5 OT DIIS"]
)
def test_only_the_line_that_says_so_makes_an_scf_converged(end):
    text = CONVERGED.replace("  *** SCF run converged in     5 steps ***\n", "") + end
    assert not read_evaluation(text).converged


def test_a_closed_shell_has_no_unpaired_electrons_and_may_be_negative():
    rest = CONVERGED.split("  Leaving", 1)[1]
    only = " Number of electrons:                                        18\n"
    done = read_evaluation(only + rest.replace("0.9999995057", "-2.0000004943"))
    assert done.charge == pytest.approx(-2.0, abs=1e-5)
    assert done.unpaired == 0


@pytest.mark.parametrize("minimizer", MINIMIZERS)
def test_the_input_has_each_element_once_with_its_own_basis_and_potential(minimizer):
    settings = Cp2kSettings(
        functional="PBE", cutoff=350, bases={"S": "TZVP-X"}, potentials={"Zn": "GTH-PBE-q12"}
    )
    text = input_text(settings, ["Zn", "S", "S", "Zn"], minimizer=minimizer)
    written = "\n".join(parse_input(text).write())
    assert written.count("&KIND") == 2
    for line in ("BASIS_SET TZVP-X", "POTENTIAL GTH-PBE-q12", "CUTOFF 350", "&PBE"):
        assert line in text.replace("&XC_FUNCTIONAL PBE", "&PBE")
    assert f"MINIMIZER {minimizer}" in written
    assert "CHARGE" not in written, "ASE writes it, from the calculator's own charge"


def test_the_reason_of_an_abort_is_read_without_its_drawing():
    text = r"""
 *******************************************************************************
 *   ___                                                                       *
 *  /   \                                                                      *
 * [ABORT]                                                                     *
 *  \___/   The requested basis set <X> for element <LI> was not found in the  *
 *    |                     basis set files <BASIS_MOLOPT>                     *
 *  O/|                                                                        *
 * /| |                                                                        *
 * / \                                           aobasis/basis_set_types.F:1509 *
 *******************************************************************************
"""
    assert read_abort(text) == (
        "The requested basis set <X> for element <LI> was not found in the basis set files "
        "<BASIS_MOLOPT> aobasis/basis_set_types.F:1509"
    )
    assert read_abort("SCF run converged in 3 steps") == ""

"""What CP2K reads, and what it wrote about the calculation that it did."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from defect_mf_flows.campaign.cp2k import Cp2kSettings

#: SCF steps between two new preconditioners.
INNER = 20
#: Orbital-transformation minimisers, in the order in which they are tried. The second searches
#: along lines: slow, and hard to stop.
MINIMIZERS = {
    "DIIS": "MINIMIZER DIIS",
    "CG": "MINIMIZER CG\nLINESEARCH 3PNT",
}

#: Columns of the drawing beside the reason of an abort.
_DRAWING = 10
_NUMBER = r"([-+]?\d+\.\d+(?:[Ee][-+]?\d+)?)"


def input_text(settings: Cp2kSettings, symbols: list[str], *, minimizer: str) -> str:
    """Write the part of the input that geometry, charge and spin do not decide.

    Parameters
    ----------
    settings
        Functional, grids, basis sets, potentials and SCF.
    symbols
        Elements of the cell.
    minimizer
        A key of :data:`MINIMIZERS`.

    Returns
    -------
    str
        For ``inp`` of ASE's CP2K, which adds geometry, charge and multiplicity.
    """
    kinds = "".join(
        f"&KIND {symbol}\nBASIS_SET {settings.basis_of(symbol)}\n"
        f"POTENTIAL {settings.potential_of(symbol)}\n&END KIND\n"
        for symbol in sorted(set(symbols))
    )
    inner = min(INNER, settings.max_iterations)
    outer = math.ceil(settings.max_iterations / inner)
    return f"""&FORCE_EVAL
&DFT
&QS
EPS_DEFAULT 1.0E-12
&END QS
&MGRID
CUTOFF {settings.cutoff:g}
REL_CUTOFF {settings.rel_cutoff:g}
&END MGRID
&SCF
SCF_GUESS ATOMIC
EPS_SCF {settings.threshold:g}
MAX_SCF {inner}
&OT
PRECONDITIONER FULL_ALL
{MINIMIZERS[minimizer]}
&END OT
&OUTER_SCF
EPS_SCF {settings.threshold:g}
MAX_SCF {outer}
&END OUTER_SCF
&PRINT
&RESTART OFF
&END RESTART
&END PRINT
&END SCF
&XC
&XC_FUNCTIONAL {settings.functional}
&END XC_FUNCTIONAL
&END XC
&END DFT
&SUBSYS
{kinds}&END SUBSYS
&END FORCE_EVAL
"""


@dataclass(frozen=True)
class Evaluation:
    """What the output says of one evaluation.

    Attributes
    ----------
    converged
        Whether the SCF reached its threshold.
    charge
        Of the cell: core density less electron density, integrated; None if it is not told.
    unpaired
        Electrons of one spin less those of the other; 0 for a closed shell.
    """

    converged: bool
    charge: float | None
    unpaired: int


def read_evaluation(text: str) -> Evaluation:
    """Read what CP2K wrote while it evaluated one geometry.

    Parameters
    ----------
    text
        The output since the last evaluation.

    Notes
    -----
    CP2K 2023.1 goes on after an SCF that did not converge and hands out its energy and forces;
    only the output tells. It writes the end of an evaluation late, so that success needs the line
    that says so: the absence of the other line proves nothing.
    """
    charges = re.findall(rf"Total charge density g-space grids:\s+{_NUMBER}", text)
    electrons = [int(n) for n in re.findall(r"Number of electrons:\s+(\d+)", text)][:2]
    return Evaluation(
        converged="SCF run converged in" in text,
        charge=float(charges[-1]) if charges else None,
        unpaired=electrons[0] - electrons[1] if len(electrons) == 2 else 0,
    )


def read_abort(text: str) -> str:
    """Why CP2K gave up, in one line; empty if it does not say.

    Parameters
    ----------
    text
        Its output, which ends with a box: a drawing on the left, the reason right of it.
    """
    box = text.rpartition("[ABORT]")[2] if "[ABORT]" in text else ""
    lines = (line.strip().strip("*") for line in box.partition("****")[0].splitlines()[1:])
    return " ".join(" ".join(line[_DRAWING:] for line in lines).split())[:400]

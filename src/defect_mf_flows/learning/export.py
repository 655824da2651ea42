"""A trained model for people who use plain ``MACECalculator``."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from defect_mf_flows.core.charge import CHARGE, SPIN
from defect_mf_flows.learning.files import write_bytes
from defect_mf_flows.learning.potential import load_network
from defect_mf_flows.schemas.model import Model

SNIPPET = """\
from ase.io import read
from charged_mace import ChargedMACE

atoms = read("structure.xyz")
atoms.info["charge"] = {charge}
atoms.calc = ChargedMACE(head="{head}")
print(atoms.get_potential_energy(), "eV per cell")
"""

README = """\
# {heads} of charged cells, as a MACE model

Trained by defect-mf-flows on dataset {dataset}; model {model}.

    {snippet}

`charged_mace.py` is a subclass of `MACECalculator` that keeps the rules below. With
`MACECalculator` alone you must keep them yourself; it says nothing when you do not.

## Rules

1. **Charge.** The network reads the whole charge of the cell from `atoms.info["charge"]`, passed
   on by `info_keys={info_keys}`. A missing key counts as 0. Charges that were trained:
{charges}
   Any other charge gives numbers without meaning.
{spin}2. **Head.** Pass `head=` one of {names}, the highest fidelity last, in exactly this spelling:
   an unknown name becomes the last head with no more than a line in the log.
3. **Reference energy.** The network gives eV per cell minus a constant per head, charge and
   composition of the cell. Add `rules.json`: `references[head][charge][composition]`. Energies of
   two charges, or of two heads, compare only after that.
4. **Other cells.** {cells}
5. **Energies** are eV per cell, forces eV/A, precision {dtype}. There is no stress head.
6. **Needs** {requires}.
"""


def export_model(model: Model, folder: Path) -> Path:
    """Write what users of plain ``MACECalculator`` need.

    Parameters
    ----------
    model
        With its blob.
    folder
        Made if missing.

    Returns
    -------
    Path
        The README. Beside it are ``model.pt``, ``rules.json``, ``charged_mace.py`` and
        ``example.py``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rules = rules_of(model)
    write_bytes(folder / "model.pt", base64.b64decode(model.blob))
    write_bytes(folder / "rules.json", (json.dumps(rules, indent=1) + "\n").encode())
    write_bytes(
        folder / "charged_mace.py", Path(__file__).with_name("charged_mace.py").read_bytes()
    )
    head = model.heads[-1]
    snippet = SNIPPET.format(charge=min(model.charges[head], key=abs), head=head)
    write_bytes(folder / "example.py", snippet.encode())
    intensive = model.settings.get("charge_term") == "intensive"
    spin = '   The spin, `atoms.info["spin"]` (unpaired electrons), is read as well; see `spins`.\n'
    text = README.format(
        heads=" and ".join(model.heads),
        dataset=model.dataset_hash[:12],
        model=model.model_hash[:12],
        snippet=snippet.strip().replace("\n", "\n    "),
        info_keys=rules["info_keys"],
        charges="\n".join(f"   - {name}: {model.charges[name]}" for name in model.heads),
        spin=spin if model.learns_spin else "",
        names=model.heads,
        cells=(
            "The charge term is intensive: a larger cell of the same host needs the host's energy "
            "per formula unit (`host` in `rules.json`) for each added unit."
            if intensive
            else "The charge energy grows with the cell: use cells of the compositions in "
            "`rules.json` only."
        ),
        dtype=rules["dtype"],
        requires=rules["requires"],
    )
    write_bytes(folder / "README.md", text.encode())
    return folder / "README.md"


def rules_of(model: Model) -> dict[str, Any]:
    """What a model must be told, and what it must be refused, as plain JSON."""
    network = load_network(model.blob, model.model_hash, "cpu")
    own = any(type(m).__module__.startswith("defect_mf_flows") for m in network.modules())
    references: dict[str, dict[str, dict[str, float]]] = {}
    for item in model.references:
        charges = references.setdefault(item.head, {})
        charges.setdefault(f"{item.charge:+d}", {})[item.composition] = item.energy
    return {
        "model_hash": model.model_hash,
        "dataset_hash": model.dataset_hash,
        "heads": model.heads,
        "charges": model.charges,
        "references": {head: references.get(head, {}) for head in model.heads},
        "spins": model.spins,
        "host": None if model.host is None else model.host.energies,
        # The keys on the right are the defaults of a plain MACECalculator.
        "info_keys": {"total_charge": CHARGE, "total_spin": SPIN},
        "dtype": str(next(network.parameters()).dtype).removeprefix("torch."),
        "requires": "defect-mf-flows[learn], ase" if own else "mace-torch, ase",
        "versions": model.versions,
    }

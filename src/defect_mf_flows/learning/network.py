"""The network: mace's ScaleShiftMACE with one readout per head and a charge embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from defect_mf_flows.core.charge import TOTAL_CHARGE
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.learning.foundation import graft

if TYPE_CHECKING:
    import torch


def charge_embedding(charges: list[int], *, width: int) -> dict[str, Any]:
    """Describe the total-charge embedding for mace.

    Parameters
    ----------
    charges
        Every charge of the training set, of any head.
    width
        Length of the learnable vector.

    Returns
    -------
    dict
        mace's ``embedding_specs``. The offset maps the lowest charge to class 0; without
        it a negative charge is an index error.

    Notes
    -----
    arXiv:2603.05238: the total charge becomes a learnable vector that is added to the
    species embedding and is also read out directly.
    """
    low, high = min(charges), max(charges)
    spec = {
        "type": "categorical",
        "per": "graph",
        "in_dim": 1,
        "num_classes": high - low + 1,
        "offset": -low,
        "emb_dim": width,
    }
    return {TOTAL_CHARGE: spec}


def embedding_specs(
    charge_term: str, charges: list[int], spins: list[int], *, width: int
) -> dict[str, Any] | None:
    """Describe what the network is told beside the geometry.

    Parameters
    ----------
    charge_term
        As in the campaign file.
    charges, spins
        Of the training set; no spins for a network that does not learn them.
    width
        Length of each learnable vector.

    Returns
    -------
    dict or None
        mace's ``embedding_specs``; None for nothing.
    """
    specs: dict[str, Any] = {}
    if charge_term in ("categorical", "intensive"):
        specs = charge_embedding(charges, width=width)
    elif charge_term == "continuous":
        specs = {
            TOTAL_CHARGE: {"type": "continuous", "per": "graph", "in_dim": 1, "emb_dim": width}
        }
    if spins:
        specs["total_spin"] = {
            "type": "categorical",
            "per": "graph",
            "in_dim": 1,
            "num_classes": max(spins) - min(spins) + 1,
            "offset": -min(spins),
            "emb_dim": width,
        }
    return specs or None


def build_network(
    settings: dict[str, Any],
    *,
    heads: list[str],
    charges: list[int],
    atomic_numbers: list[int],
    neighbours: float,
    scale: list[float],
    spins: list[int] | None = None,
    host: dict[str, torch.Tensor] | None = None,
    foundation: torch.nn.Module | None = None,
) -> torch.nn.Module:
    """Build an untrained multi-head, charge-aware network.

    Parameters
    ----------
    settings
        ``campaign.TrainingSettings`` as a dictionary.
    heads
        Head names, highest fidelity last.
    charges
        Charges of the training set.
    atomic_numbers
        Elements, ascending.
    neighbours
        Mean number of neighbours within the cutoff.
    scale
        Per head: factor of the interaction energy (root mean square force, eV/Angstrom).
    spins
        Unpaired electrons of the training set, for a network that learns them.
    host
        mace's tensors of a small cell of the pristine host, for the term ``intensive``.
    foundation
        Take architecture and weights of this network; None: those of the settings, at random.

    Returns
    -------
    torch.nn.Module
        mace's network, a subclass of it, or one network per charge.
    """
    from defect_mf_flows.learning.charge_terms import HostAnchoredMACE, PerCharge

    term = settings["charge_term"]
    specs = embedding_specs(term, charges, spins or [], width=settings["charge_embedding_width"])
    options: dict[str, Any] = {
        "heads": heads,
        "atomic_numbers": atomic_numbers,
        "neighbours": neighbours,
        "scale": scale,
        "specs": specs,
        "foundation": foundation,
    }
    if term == "per_charge":
        return PerCharge({charge: build_mace(settings, **options) for charge in charges})
    if term == "intensive":
        if host is None:
            raise TrainingError("charge_term 'intensive' needs the graph of the pristine host.")
        network: Any = build_mace(settings, kind=HostAnchoredMACE, readout=False, **options)
        network.set_host(host)
        built: torch.nn.Module = network
        return built
    return build_mace(settings, **options)


def build_mace(
    settings: dict[str, Any],
    *,
    heads: list[str],
    atomic_numbers: list[int],
    neighbours: float,
    scale: list[float],
    specs: dict[str, Any] | None,
    kind: Any = None,
    readout: bool = True,
    foundation: Any = None,
) -> torch.nn.Module:
    """Build one untrained MACE.

    Parameters
    ----------
    settings, heads, atomic_numbers, neighbours, scale
        As for ``build_network``.
    specs
        From ``embedding_specs``.
    kind
        Class; None for mace's own ``ScaleShiftMACE``. Class ``MACE`` would ignore the head in
        the embedding readout.
    readout
        Also read the embedding out directly. That energy is the same for every atom of an
        element, so an anchored network cannot have one.
    foundation
        As for ``build_network``; neighbours and scale are then the foundation's.

    Returns
    -------
    torch.nn.Module
        Energies per atom start from 0, because reference energies were taken out of the
        labels.
    """
    import mace  # noqa: F401  (before e3nn: the other order crashes on torch 2.13)
    import numpy as np
    import torch
    from e3nn import o3
    from mace import modules

    if foundation is not None:
        grafted: torch.nn.Module = graft(
            foundation,
            heads=heads,
            atomic_numbers=atomic_numbers,
            specs=specs,
            kind=kind,
            readout=readout,
        )
        return grafted
    mace_class: Any = kind or modules.ScaleShiftMACE  # its hints know only a single head
    return mace_class(
        atomic_inter_scale=scale,
        atomic_inter_shift=[0.0] * len(heads),
        r_max=settings["r_max"],
        num_bessel=settings["num_radial_basis"],
        num_polynomial_cutoff=5,
        max_ell=settings["max_ell"],
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        interaction_cls_first=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=settings["num_interactions"],
        num_elements=len(atomic_numbers),
        hidden_irreps=o3.Irreps(settings["hidden_irreps"]),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.zeros((len(heads), len(atomic_numbers))),
        avg_num_neighbors=neighbours,
        atomic_numbers=atomic_numbers,
        correlation=settings["correlation"],
        radial_MLP=[64, 64, 64],
        radial_type="bessel",
        pair_repulsion=settings["pair_repulsion"],
        heads=heads,
        embedding_specs=specs,
        use_embedding_readout=readout and specs is not None,
    )

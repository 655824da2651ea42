"""Small MACE models of the kinds that foundation models are, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ELEMENTS = [8, 16, 30, 48]

KINDS: dict[str, dict[str, Any]] = {
    "mp-0": {
        "interaction_cls": "RealAgnosticResidualInteractionBlock",
        "interaction_cls_first": "RealAgnosticInteractionBlock",
    },
    "mpa-0": {
        "interaction_cls": "RealAgnosticDensityResidualInteractionBlock",
        "interaction_cls_first": "RealAgnosticDensityInteractionBlock",
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
    },
    "mh-1": {
        "interaction_cls": "RealAgnosticResidualNonLinearInteractionBlock",
        "interaction_cls_first": "RealAgnosticResidualNonLinearInteractionBlock",
        "distance_transform": "Agnesi",
        "pair_repulsion": True,
        "use_agnostic_product": True,
        "use_last_readout_only": True,
        "apply_cutoff": False,
    },
}


def build_foundation(
    kind: str, *, heads: tuple[str, ...] = ("default",), r_max: float = 3.5, seed: int = 3
) -> Any:
    """A network as mace builds it for that foundation model, and no weight at its start."""
    import mace  # noqa: F401  (before e3nn)
    import numpy as np
    import torch
    from e3nn import o3
    from mace import modules
    from mace.modules.blocks import NonLinearBiasReadoutBlock

    torch.manual_seed(seed)
    options = dict(KINDS[kind])
    for name in ("interaction_cls", "interaction_cls_first"):
        options[name] = modules.interaction_classes[options[name]]
    if kind == "mh-1":
        options["readout_cls"] = NonLinearBiasReadoutBlock
    atoms = np.random.default_rng(seed).normal(size=(len(heads), len(ELEMENTS))) * 3 - 5
    network = modules.ScaleShiftMACE(
        atomic_inter_scale=[0.8 + 0.1 * k for k in range(len(heads))],
        atomic_inter_shift=[-3.0 + k for k in range(len(heads))],
        r_max=r_max,
        num_bessel=6,
        num_polynomial_cutoff=5,
        max_ell=1,
        num_interactions=2,
        num_elements=len(ELEMENTS),
        hidden_irreps=o3.Irreps("8x0e + 8x1o"),
        MLP_irreps=o3.Irreps("4x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=atoms,
        avg_num_neighbors=11.3,
        atomic_numbers=ELEMENTS,
        correlation=2,
        radial_MLP=[16, 16],
        heads=list(heads),
        **options,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def write_foundation(path: Path, kind: str = "mpa-0", **options: Any) -> Path:
    """The same as a file."""
    import torch

    torch.save(build_foundation(kind, **options), path)
    return path

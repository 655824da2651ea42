"""Foundation models: found by name or path, and grafted under our heads and charge terms.

Imports torch and mace inside functions: a name is resolved where no network is built.
"""

from __future__ import annotations

import hashlib
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from defect_mf_flows.campaign.foundations import is_path
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.schemas.model import FoundationRecord

if TYPE_CHECKING:
    import torch

#: Name of the head of replayed frames, which keep the foundation's energies.
REPLAY = "replay"

#: Short names beside those of mace.
ALIASES = {"mpa-0": "medium-mpa-0"}

#: What of the training settings the foundation decides, by mace's name for it.
FIXED = {
    "r_max": "r_max",
    "max_ell": "max_ell",
    "correlation": "correlation",
    "num_interactions": "num_interactions",
    "num_radial_basis": "num_bessel",
    "pair_repulsion": "pair_repulsion",
}

#: Largest difference between the grafted network and its foundation before the first step:
#: relative to the energy, and eV/A of the forces.
TOLERANCE = {"float32": (1e-5, 1e-3), "float64": (1e-9, 1e-7)}

#: Training structures per composition from which the energies of isolated atoms are taken.
SAMPLE = 8


def foundation_file(name: str) -> Path:
    """File of a foundation model.

    Parameters
    ----------
    name
        Path of a file, or a name that mace knows (``mh-1``, ``mpa-0``, ``small-omat-0``, ...):
        then mace's own loader takes it from its cache or downloads it.

    Returns
    -------
    Path
        An existing file.

    Raises
    ------
    TrainingError
        If there is no such file or name, or the download fails.
    """
    if is_path(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise TrainingError(
                f"training.foundation: {path} does not exist on this machine; give the path of "
                "a MACE model file that every training worker can read."
            )
        return path
    import mace  # noqa: F401  (before e3nn)
    from mace.calculators.foundations_models import download_mace_mp_checkpoint, mace_mp_urls

    known = ALIASES.get(name, name)
    if known not in mace_mp_urls:
        names = ", ".join([*ALIASES, *mace_mp_urls])
        raise TrainingError(
            f"training.foundation: mace knows no {name!r}; give the path of a model file, or "
            f"one of {names}."
        )
    try:
        return Path(download_mace_mp_checkpoint(known))
    except (OSError, RuntimeError, urllib.error.URLError) as error:
        raise TrainingError(
            f"training.foundation: {name!r} is not in mace's cache and cannot be downloaded "
            f"({error}). Fetch {mace_mp_urls[known]} on a machine with internet and give the "
            "file's path instead of the name."
        ) from None


def find_foundation(settings: dict[str, Any]) -> tuple[FoundationRecord, dict[str, Any]]:
    """Locate the foundation of a training and read what it fixes.

    Parameters
    ----------
    settings
        ``campaign.TrainingSettings`` as a dictionary, with a foundation.

    Returns
    -------
    record
        For the model document.
    settings
        With the foundation's architecture.

    Raises
    ------
    TrainingError
        If the file is missing, is no MACE, or not the one that the settings name.
    """
    path = foundation_file(settings["foundation"])
    digest = file_hash(path)
    wanted = settings["foundation_hash"]
    if wanted is not None and digest != wanted:
        raise TrainingError(
            f"training.foundation: {path} has SHA-256 {digest}, not {wanted}; restore the file, "
            "or correct training.foundation_hash."
        )
    network = read_foundation(path, settings["foundation_head"])
    config = _config(network)
    fixed = {ours: config[theirs] for ours, theirs in FIXED.items()}
    fixed["r_max"] = round(fixed["r_max"], 6)  # single precision lets it end in other digits
    fixed["hidden_irreps"] = str(config["hidden_irreps"])
    fixed["foundation_hash"] = digest
    record = FoundationRecord(
        name=settings["foundation"],
        file=str(path.resolve()),
        sha256=digest,
        head=settings["foundation_head"],
    )
    return record, {**settings, **fixed}


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_foundation(path: Path, head: str | None) -> Any:
    """Read a foundation model with one head, in torch's default precision.

    Parameters
    ----------
    path
        MACE model file; it is unpickled, so it must come from someone you trust.
    head
        Which head of several.

    Raises
    ------
    TrainingError
        If it is no ``ScaleShiftMACE``, already has a charge embedding, or the head is missing.
    """
    import mace  # noqa: F401  (before e3nn)
    import torch
    from mace.tools.scripts_utils import remove_pt_head

    try:
        network = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever a pickle of unknown content raises
        raise TrainingError(
            f"training.foundation: {path} cannot be read as a model file: {str(error)[:200]}; "
            "give a file that mace saved."
        ) from None
    if type(network).__name__ != "ScaleShiftMACE" or hasattr(network, "joint_embedding"):
        raise TrainingError(
            f"training.foundation: {path} holds a {type(network).__name__}, with an embedding of "
            "its own or of another kind; give a ScaleShiftMACE without embeddings."
        )
    network = network.to(torch.get_default_dtype())
    heads = list(getattr(network, "heads", ["Default"]))
    if head is None and len(heads) > 1:
        raise TrainingError(
            f"training.foundation: {path} has heads {heads}; name one in training.foundation_head."
        )
    if head is not None and head not in heads:
        raise TrainingError(
            f"training.foundation_head: {path} has no head {head!r}; choose one of {heads}."
        )
    return remove_pt_head(network, head) if len(heads) > 1 else network


def _config(network: Any) -> dict[str, Any]:
    from mace.tools.scripts_utils import extract_config_mace_model

    config: dict[str, Any] = extract_config_mace_model(network)
    config["embedding_specs"] = None
    config["use_embedding_readout"] = False
    config["cueq_config"] = None
    return config


def graft(
    foundation: Any,
    *,
    heads: list[str],
    atomic_numbers: list[int],
    specs: dict[str, Any] | None,
    kind: Any = None,
    readout: bool = True,
) -> Any:
    """Build a network of the foundation's architecture and weights under our heads.

    Parameters
    ----------
    foundation
        From ``read_foundation``.
    heads, atomic_numbers, specs, kind, readout
        As for ``network.build_mace``.

    Returns
    -------
    torch.nn.Module
        Every head starts with the foundation's readout. What embeddings add starts at zero,
        so for every charge interaction energies and forces are the foundation's. Energies of
        isolated atoms are zero; see :func:`centre`.

    Raises
    ------
    TrainingError
        If the foundation lacks an element.
    """
    import torch
    from mace.modules import ScaleShiftMACE
    from mace.tools import AtomicNumberTable
    from mace.tools.finetuning_utils import load_foundations_elements

    lacking = sorted(set(atomic_numbers) - {int(z) for z in foundation.atomic_numbers})
    if lacking:
        raise TrainingError(
            f"training.foundation: does not know the elements {lacking} (atomic numbers) of the "
            "dataset; take another foundation model."
        )
    config = {
        **_config(foundation),
        "heads": heads,
        "atomic_numbers": atomic_numbers,
        "num_elements": len(atomic_numbers),
        "atomic_energies": np.zeros((len(heads), len(atomic_numbers))),
        "atomic_inter_scale": [1.0] * len(heads),
        "atomic_inter_shift": [0.0] * len(heads),
    }
    # mace's function fails on a network that has an embedding where the foundation has none.
    plain: Any = ScaleShiftMACE(**config)
    load_foundations_elements(
        plain,
        foundation,
        AtomicNumberTable(atomic_numbers),
        load_readout=True,
        max_L=config["hidden_irreps"].lmax,
    )
    state = plain.state_dict()
    # With all elements and one head it also copies the energies of isolated atoms.
    state["atomic_energies_fn.atomic_energies"].zero_()
    config |= {
        "embedding_specs": specs,
        "use_embedding_readout": readout and specs is not None,
    }
    network: Any = (kind or ScaleShiftMACE)(**config)
    new, lost = network.load_state_dict(state, strict=False)
    stray = [name for name in new if "embedding" not in name]
    if lost or stray:
        raise TrainingError(
            f"training.foundation: weights {[*lost, *stray]} have no counterpart; this mace "
            "version cannot rebuild the model from its file."
        )
    for target, source in zip(network.interactions, plain.interactions, strict=True):
        target.avg_num_neighbors = source.avg_num_neighbors  # not in the state
    with torch.no_grad():
        if specs is not None:
            network.joint_embedding.project[0].weight.zero_()
        if hasattr(network, "embedding_readout"):
            network.embedding_readout.linear.weight.zero_()
    return network


def begin(network: Any, foundation: Any, train: list[Any], host: Any, charge_term: str) -> None:
    """Check a grafted network against its foundation, then move it to where the labels are.

    Parameters
    ----------
    network, foundation
        As from :func:`graft` and :func:`read_foundation`; the network may be one per charge.
    train
        mace's graphs of the training side.
    host
        Batch of the pristine host, or None.
    charge_term
        Energies of ``intensive`` count from the host and need no constant per element.

    Raises
    ------
    TrainingError
        If the network does not give the foundation's energies and forces.
    """
    from mace.tools.torch_geometric import Batch

    groups: dict[tuple[int, ...], list[Any]] = {}
    own = [item for item in train if list(network.heads)[int(item.head)] != REPLAY]
    for item in own:
        groups.setdefault(tuple(item.node_attrs.sum(dim=0).int().tolist()), []).append(item)
    few = {key: items[:: max(1, len(items) // SAMPLE)] for key, items in groups.items()}
    parts = list(getattr(network, "networks", [network]))
    samples = {k: [Batch.from_data_list([item]) for item in v] for k, v in sorted(few.items())}
    for part in parts:
        check_graft(part, foundation, [items[0] for items in samples.values()], charge_term)
        if charge_term != "intensive":
            centre(part, foundation, list(samples.values()), host)


def check_graft(network: Any, foundation: Any, batches: list[Any], charge_term: str) -> None:
    """Compare a grafted network with its foundation before the first step.

    Parameters
    ----------
    network, foundation
        As from :func:`graft` and :func:`read_foundation`.
    batches
        mace's batches of single structures, for the network.
    charge_term
        Energies of ``intensive`` are not compared: they count from the host.

    Raises
    ------
    TrainingError
        If they differ. The transfer of weights is mace's, and not proven for every
        architecture to come.
    """
    relative, limit = TOLERANCE[str(next(network.parameters()).dtype).removeprefix("torch.")]
    for batch in batches:
        found = network(batch.clone().to_dict(), compute_force=True)
        wanted = foundation(_for_foundation(batch, network, foundation), compute_force=True)
        energies = [float(item["interaction_energy"].detach()) for item in (found, wanted)]
        force = float((found["forces"] - wanted["forces"]).detach().abs().max())
        wrong = abs(energies[0] - energies[1]) > relative * max(1.0, abs(energies[1]))
        if (wrong and charge_term != "intensive") or force > limit:
            raise TrainingError(
                "training.foundation: the grafted network does not give the foundation's energy "
                f"({energies[0]:.6f} against {energies[1]:.6f} eV) or forces (off by "
                f"{force:.1e} eV/A); mace does not transfer this architecture rightly."
            )


def _for_foundation(batch: Any, network: Any, foundation: Any) -> dict[str, torch.Tensor]:
    """The same structure in the foundation's elements, under its only head."""
    import torch

    data: dict[str, torch.Tensor] = batch.clone().to_dict()
    order = [int(z) for z in foundation.atomic_numbers]
    where = [order.index(int(z)) for z in network.atomic_numbers]
    wide = torch.zeros((len(data["node_attrs"]), len(order)), dtype=data["node_attrs"].dtype)
    wide[:, where] = data["node_attrs"]
    return {**data, "node_attrs": wide, "head": torch.zeros_like(data["head"])}


def centre(network: Any, foundation: Any, groups: list[list[Any]], host: Any) -> None:
    """Set energies of isolated atoms so that energies start where the labels are.

    Labels are counted from a mean per cell, the foundation's energies from isolated atoms:
    some hundred electronvolts apart. A constant per element, the same for all heads, bridges
    it. The host's row weighs most, so that what an added formula unit costs starts at zero.

    Parameters
    ----------
    network, foundation
        As from :func:`graft` and :func:`read_foundation`. The replay head keeps the
        foundation's own constants: its labels are total energies.
    groups
        Per composition, batches of single training structures.
    host
        Batch of the pristine host, or None.
    """
    import torch

    rows = [(items, 1.0) for items in groups] + ([([host], 100.0)] if host is not None else [])
    counts, energies = [], []
    for items, weight in rows:
        found = [
            float(network(i.clone().to_dict(), compute_force=False)["interaction_energy"].detach())
            for i in items
        ]
        counts.append(weight * items[0].node_attrs.sum(dim=0).numpy())
        energies.append(-weight * float(np.mean(found)))
    atoms = np.linalg.lstsq(np.array(counts), np.array(energies), rcond=None)[0]
    table = network.atomic_energies_fn.atomic_energies
    with torch.no_grad():
        table[:] = torch.as_tensor(atoms, dtype=table.dtype)
        if REPLAY in network.heads:
            order = [int(z) for z in foundation.atomic_numbers]
            where = [order.index(int(z)) for z in network.atomic_numbers]
            own = torch.atleast_2d(foundation.atomic_energies_fn.atomic_energies)
            table[network.heads.index(REPLAY)] = own[0, where]

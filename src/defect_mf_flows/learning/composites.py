"""Several networks behind the interface of one: ``MACECalculator`` and ``Potential`` take it."""

from __future__ import annotations

from typing import Any

import mace  # noqa: F401  (before e3nn)
import torch

#: Per-graph and per-atom results that a composite passes on.
GRAPH_RESULTS = ("energy", "interaction_energy", "stress", "virials")
NODE_RESULTS = ("node_energy", "forces")


class Composite(torch.nn.Module):
    """Base of networks made of others.

    Parameters
    ----------
    first
        One of the networks, for elements and cutoff.
    heads
        Heads that the composite offers.
    """

    def __init__(self, first: Any, *, heads: list[str]) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("atomic_numbers", first.atomic_numbers.clone())
        self.register_buffer("r_max", first.r_max.clone())
        self.register_buffer("num_interactions", first.num_interactions.clone())

    def atomic_energies_fn(self, node_attrs: torch.Tensor) -> torch.Tensor:
        """Isolated-atom energies per atom and head: none, reference energies are per cell."""
        return torch.zeros(
            (len(node_attrs), len(self.heads)), dtype=node_attrs.dtype, device=node_attrs.device
        )

    def joined(
        self,
        data: dict[str, torch.Tensor],
        parts: list[tuple[torch.Tensor, torch.Tensor, dict[str, Any]]],
    ) -> dict[str, Any]:
        """Put the results of graphs that were computed apart back into their places.

        Parameters
        ----------
        data
            The whole batch.
        parts
            Mask of graphs, mask of nodes, results.

        Returns
        -------
        dict
            As from a single network; what a part does not have is None.
        """
        sizes = {
            **dict.fromkeys(GRAPH_RESULTS, int(data["ptr"].numel() - 1)),
            **dict.fromkeys(NODE_RESULTS, len(data["batch"])),
        }
        output: dict[str, Any] = {}
        for key, size in sizes.items():
            if any(result.get(key) is None for _, _, result in parts):
                output[key] = None
                continue
            whole = None
            for graphs, nodes, result in parts:
                value = result[key]
                where = torch.nonzero(graphs if key in GRAPH_RESULTS else nodes).squeeze(-1)
                if whole is None:
                    shape = (size, *value.shape[1:])
                    whole = torch.zeros(shape, dtype=value.dtype, device=value.device)
                whole = whole.index_add(0, where, value)
            output[key] = whole
        return output


class Delta(Composite):
    """Low fidelity plus a network for the differences of the higher ones.

    Parameters
    ----------
    low
        Network with the lowest head alone.
    difference
        Network with a head per higher fidelity.
    heads
        All heads, lowest first.
    """

    def __init__(self, low: torch.nn.Module, difference: torch.nn.Module, heads: list[str]) -> None:
        super().__init__(low, heads=heads)
        self.low, self.difference = low, difference

    def forward(
        self, data: dict[str, torch.Tensor], training: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Sum for the higher heads, the low network alone for the lowest."""
        everything = torch.ones_like(data["head"], dtype=torch.bool)
        nodes = torch.ones_like(data["batch"], dtype=torch.bool)
        first, _ = restricted(data, everything)
        first["head"] = torch.zeros_like(data["head"])
        parts = [(everything, nodes, self.low(first, training=training, **options))]
        higher = data["head"] > 0
        if bool(higher.any()):
            second, nodes = restricted(data, higher)
            second["head"] = second["head"] - 1
            parts.append((higher, nodes, self.difference(second, training=training, **options)))
        return self.joined(data, parts)


class LowOnly(Composite):
    """The low network on every head: the fidelities differ by their reference energies alone.

    Parameters
    ----------
    low
        Network with the lowest head alone.
    heads
        All heads, lowest first.
    """

    def __init__(self, low: torch.nn.Module, heads: list[str]) -> None:
        super().__init__(low, heads=heads)
        self.low = low

    def forward(
        self, data: dict[str, torch.Tensor], training: bool = False, **options: Any
    ) -> dict[str, Any]:
        """What the low network says, whatever the head."""
        everything = torch.ones_like(data["head"], dtype=torch.bool)
        part, _ = restricted(data, everything)
        part["head"] = torch.zeros_like(data["head"])
        output: dict[str, Any] = self.low(part, training=training, **options)
        return output


def restricted(
    data: dict[str, torch.Tensor], graphs: torch.Tensor
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Part of a batch.

    Parameters
    ----------
    data
        mace's batch as a dictionary.
    graphs
        Mask of the graphs to keep, shape (n_graphs,).

    Returns
    -------
    part
        A batch of those graphs with positions of its own: mace strains them in place.
    nodes
        Mask of their atoms, shape (n_atoms,).
    """
    nodes = graphs[data["batch"]]
    edges = nodes[data["edge_index"][0]]
    number = torch.cumsum(nodes.long(), dim=0) - 1
    sizes = (data["ptr"][1:] - data["ptr"][:-1])[graphs]
    part = {
        "positions": data["positions"].detach()[nodes],
        "node_attrs": data["node_attrs"][nodes],
        "batch": (torch.cumsum(graphs.long(), dim=0) - 1)[data["batch"][nodes]],
        "ptr": torch.cat([data["ptr"][:1], torch.cumsum(sizes, dim=0)]),
        "edge_index": number[data["edge_index"][:, edges]],
        "shifts": data["shifts"][edges],
        "unit_shifts": data["unit_shifts"][edges],
        "cell": data["cell"].view(-1, 3, 3)[graphs].view(-1, 3),
    }
    for name in ("head", "total_charge", "total_spin"):
        if data.get(name) is not None:
            part[name] = data[name][graphs]
    return part, nodes

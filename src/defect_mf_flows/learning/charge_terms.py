"""Networks that treat the charge in other ways than mace's own embedding.

Imports torch and mace at once: only ``network.py`` and files of trained models lead here.
"""

from __future__ import annotations

from typing import Any

import mace  # noqa: F401  (before e3nn)
import torch
from mace.modules import ScaleShiftMACE
from mace.tools.scatter import scatter_sum

from defect_mf_flows.errors import ChargeError
from defect_mf_flows.learning.composites import Composite, restricted

#: What tells graphs apart for a network, beside their geometry.
LABELS = ("head", "total_charge", "total_spin")

#: What mace needs of a graph.
GRAPH = ("positions", "cell", "edge_index", "shifts", "unit_shifts", "node_attrs")


class HostAnchoredMACE(ScaleShiftMACE):
    """MACE whose node energies count from those of the pristine host.

    An embedded charge reaches every atom, so the plain sum over atoms gives each atom far from
    the defect an energy that depends on the charge, and the cell an offset between charges
    that grows with its size. Here the energy of an atom is what the network says minus what
    it says, for the same charge, spin, head and element, in the pristine host. Atoms in the
    host's own environment then add exactly nothing, whatever the charge: the energy of a
    defect stays the same in a larger cell up to what the cell really changes.

    The anchor follows from the weights and is computed in every call, on a cell of a few
    atoms, so that it takes part in training. Elements that the host lacks keep their energy.
    It does not depend on positions: forces are those of mace.
    """

    host_positions: torch.Tensor
    host_edge_index: torch.Tensor

    def set_host(self, graph: dict[str, torch.Tensor]) -> None:
        """Keep the graph of a small cell of the pristine host with the model.

        Parameters
        ----------
        graph
            mace's tensors of one structure.
        """
        for name in GRAPH:
            self.register_buffer(f"host_{name}", graph[name].detach().clone())

    def forward(  # type: ignore[override]
        self, data: dict[str, torch.Tensor], training: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Energies and forces as mace gives them, counted from the host."""
        # Before mace strains the positions in place for a stress.
        anchors = self._anchors(data, training)
        output: dict[str, Any] = super().forward(data, training=training, **options)
        per_node = (anchors[data["batch"]] * data["node_attrs"]).sum(dim=-1)
        per_graph = scatter_sum(
            per_node, data["batch"], dim=0, dim_size=int(data["ptr"].numel() - 1)
        )
        output["node_energy"] = output["node_energy"] - per_node
        for key in ("energy", "interaction_energy"):
            output[key] = output[key] - per_graph
        return output

    def _anchors(self, data: dict[str, torch.Tensor], training: bool) -> torch.Tensor:
        """Host energy per graph and element, eV, shape (n_graphs, n_elements)."""
        names = [name for name in LABELS if data.get(name) is not None]
        dtype = data["positions"].dtype
        labels = torch.stack([data[name].to(dtype) for name in names], dim=1)
        if training:  # one host per graph: a compiled step has fixed shapes
            kinds, kind_of_graph = labels, torch.arange(len(labels), device=labels.device)
        else:
            kinds, kind_of_graph = torch.unique(labels, dim=0, return_inverse=True)
        graph = self._host_batch(len(kinds))
        for column, name in enumerate(names):
            graph[name] = kinds[:, column].to(data[name].dtype)
        with torch.enable_grad():
            host = super().forward(graph, training=training, compute_force=False)
        nodes, kind = graph["node_attrs"], graph["batch"]
        per_node: Any = host["node_energy"]
        energies = per_node.to(dtype).unsqueeze(-1) * nodes
        total = scatter_sum(energies, kind, dim=0, dim_size=len(kinds))
        count = scatter_sum(nodes, kind, dim=0, dim_size=len(kinds))
        return (total / count.clamp(min=1.0))[kind_of_graph]

    def _host_batch(self, copies: int) -> dict[str, torch.Tensor]:
        """One copy of the host per kind of graph, as one batch."""
        count = self.host_positions.shape[0]
        numbers = torch.arange(copies, device=self.host_positions.device)
        batch: dict[str, torch.Tensor] = {
            name: torch.cat([getattr(self, f"host_{name}")] * copies)
            for name in GRAPH
            if name != "edge_index"
        }
        edges = self.host_edge_index
        batch["edge_index"] = torch.cat([edges + count * k for k in range(copies)], dim=1)
        batch["batch"] = numbers.repeat_interleave(count)
        batch["ptr"] = torch.arange(copies + 1, device=numbers.device) * count
        return batch


class PerCharge(Composite):
    """One network per charge behind the interface of a single one.

    Parameters
    ----------
    networks
        Charge -> network; all have the same heads, elements and cutoff.
    """

    def __init__(self, networks: dict[int, torch.nn.Module]) -> None:
        first: Any = next(iter(networks.values()))
        super().__init__(first, heads=list(first.heads))
        self.charges = list(networks)
        self.networks = torch.nn.ModuleList(networks.values())

    def forward(
        self, data: dict[str, torch.Tensor], training: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Each graph goes to the network of its charge."""
        charges = [round(float(value)) for value in data["total_charge"]]
        unknown = sorted(set(charges) - set(self.charges))
        if unknown:
            raise ChargeError(f"no network for charges {unknown}; trained were {self.charges}.")
        parts = []
        for charge in sorted(set(charges)):
            graphs = torch.tensor([q == charge for q in charges], device=data["batch"].device)
            part, nodes = restricted(data, graphs)
            network = self.networks[self.charges.index(charge)]
            parts.append((graphs, nodes, network(part, training=training, **options)))
        return self.joined(data, parts)

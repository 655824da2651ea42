"""Energies and forces of a single network, compiled for batches of one shape.

A call of a small cell spends its time in thousands of small operations. Energies and forces are
traced once, forces as operations of their own, and PyTorch's inductor fuses what it can, in a
training for the gradients of the loss too. Shapes are fixed, and defects differ in their numbers
of atoms: a batch is filled up with edges longer than the cutoff, which add exactly nothing, and
with atoms of no element in a graph of their own, which is left out of what comes back. Batches
that do not fit are computed as always.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mace  # noqa: F401  (before e3nn)
import torch
from mace.modules import ScaleShiftMACE

from defect_mf_flows.learning.charge_terms import HostAnchoredMACE

logger = logging.getLogger(__name__)

#: Classes whose forward is the same operations for every batch of a shape.
COMPILED = (ScaleShiftMACE, HostAnchoredMACE)
#: Edges and atoms kept room for: the mean of a batch and this many standard deviations.
ROOM = 2.0
#: Smallest share of that room, in atoms, for which the compiled step is the faster one.
WORTH = 2 / 3
#: What the network reads of a batch, beside its edges and ``ptr``: a row per atom, or per graph.
PER_ATOM = ("positions", "node_attrs", "batch")
PER_GRAPH = ("head", "total_charge", "total_spin")
#: Edges that fill up are this many cutoffs long.
FAR = 10.0
#: Batches of which energies, forces and, in a training, gradients are compared before the compiled
#: step is used.
COMPARED = 2
#: Largest difference, relative to the largest entry. Sums in another order alone have differed by
#: 2.2e-4 in single precision; terms that were left out once, by up to 0.1.
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}

#: Energies (n_graphs,) and forces (n_atoms, 3), from parameters, buffers and a batch's tensors.
Step = Callable[[list[Any], list[Any], list[Any]], tuple[torch.Tensor, torch.Tensor]]
NOT_COMPILED = "%s is not compiled: not a single network"
#: Number that mace keeps beside its buffers. Written into what is compiled, it would have each
#: training on other labels compiled anew.
NEIGHBOURS = "avg_num_neighbors"


def compiled_calls(network: torch.nn.Module, batches: Batches) -> Any:
    """Compiled calls of a network for energies and forces, without their gradients.

    Parameters
    ----------
    network
        Of a class in ``COMPILED``, on its device.
    batches
        Shape of the batches to come.

    Returns
    -------
    CompiledForward
        To be called as the network is; of another class, the network itself.
    """
    if type(network) not in COMPILED:
        logger.warning(NOT_COMPILED, type(network).__name__)
        return network
    return CompiledForward(network, batches, training=False)


def compile_step(network: torch.nn.Module, batches: Batches) -> torch.nn.Module:
    """Let a network compute its training batches by a compiled step.

    Parameters
    ----------
    network
        Of a class in ``COMPILED``, on its device; another stays as it is.
    batches
        Shape of the batches to come.

    Returns
    -------
    torch.nn.Module
        The same object: parameters and state are untouched.
    """
    if type(network) not in COMPILED:
        logger.warning(NOT_COMPILED, type(network).__name__)
        return network
    network.__dict__["forward"] = CompiledForward(network, batches)  # before that of the class
    return network


def undo_compile(network: torch.nn.Module) -> torch.nn.Module:
    """Take the compiled step off again; what is saved must not hold it."""
    network.__dict__.pop("forward", None)
    return network


class Batches:
    """Shape that batches are filled up to.

    Parameters
    ----------
    atoms, edges
        Of the graphs to come, or of some of them.
    size
        Graphs per batch.

    Attributes
    ----------
    size
        As given.
    graphs
        Of a filled batch: one more than ``size``, for the atoms that fill up.
    atoms, edges
        Room for them in such a batch.
    """

    def __init__(self, atoms: list[int], edges: list[int], size: int) -> None:
        self.size = size
        self.graphs = size + 1
        # In few sizes, so that trainings on other labels find what was compiled before.
        self.atoms = _room(atoms, size, parts=32)
        self.edges = _room(edges, size, parts=8)

    @classmethod
    def of(cls, items: list[Any], size: int) -> Batches:
        """Shape for mace's graphs of a training set, so many of them per batch."""
        return cls(
            [item.num_nodes for item in items], [item.edge_index.shape[1] for item in items], size
        )

    def fit(self, data: dict[str, Any]) -> bool:
        """Whether a batch can be filled up to this shape, and is worth it."""
        atoms = data["positions"].shape[0]
        return (
            data["ptr"].numel() <= self.graphs
            and WORTH * self.atoms <= atoms <= self.atoms
            and data["edge_index"].shape[1] <= self.edges
        )

    def fill(self, data: dict[str, Any], cutoff: float) -> dict[str, torch.Tensor]:
        """What the network reads of a batch, filled up with what adds nothing."""
        ptr, count = data["ptr"], data["positions"].shape[0]
        graphs, atoms = self.graphs - (ptr.numel() - 1), self.atoms - count
        ends = [*([count] * (graphs - 1)), self.atoms]
        rows = {name: data[name] for name in PER_ATOM}
        rows |= {name: data[name] for name in PER_GRAPH if data.get(name) is not None}
        more = {name: _zeros(data[name], atoms) for name in PER_ATOM}
        more["batch"] = more["batch"] + self.graphs - 1
        more |= {n: rows[n][:1].expand(graphs) for n in PER_GRAPH if n in rows}
        return {
            **{name: torch.cat([rows[name], more[name]]) for name in rows},
            "cell": torch.cat([data["cell"], data["cell"][:3].repeat(graphs, 1)]),
            "ptr": torch.cat([ptr, ptr.new_tensor(ends)]),
            **self._edges(data, cutoff),
        }

    def _edges(self, data: dict[str, Any], cutoff: float) -> dict[str, torch.Tensor]:
        count = self.edges - data["edge_index"].shape[1]
        vectors = _zeros(data["shifts"], count)
        far = vectors.clone()
        far[:, 0] = FAR * cutoff
        none = data["edge_index"].new_zeros(2, count)
        return {
            "edge_index": torch.cat([data["edge_index"], none], dim=1),
            "shifts": torch.cat([data["shifts"], far]),
            "unit_shifts": torch.cat([data["unit_shifts"], vectors]),
        }


def _room(counts: list[int], size: int, *, parts: int) -> int:
    """Room for what most batches hold, in steps of a part of the next lower power of two."""
    values = torch.tensor([float(count) for count in counts])
    spread = float(values.std()) if len(values) > 1 else 0.0
    room = math.ceil(size * float(values.mean()) + ROOM * spread * size**0.5)
    step = max(1, 2 ** (room.bit_length() - 1) // parts)
    return (room // step + 1) * step


def _zeros(like: torch.Tensor, rows: int) -> torch.Tensor:
    return like.new_zeros(rows, *like.shape[1:])


class CompiledForward:
    """What is called instead of a network's own ``forward``.

    The compiled step is used once it gave the energies and forces of the network itself on the
    first batches, and in a training their gradients; if it does not, or cannot be built, the
    network goes on without it and the log says why.

    Parameters
    ----------
    network
        Whose parameters it reads.
    batches
        Shape it is built for.
    training
        Whether gradients of what it gives are wanted. A call of the other kind goes to the
        network itself.
    """

    def __init__(self, network: Any, batches: Batches, *, training: bool = True) -> None:
        self.network, self.batches, self.training = network, batches, training
        self.cutoff = float(network.r_max)
        self.parameters = [value for _, value in network.named_parameters()]
        self.buffers = [value for _, value in network.named_buffers()]
        self.blocks = [block for block in network.modules() if hasattr(block, NEIGHBOURS)]
        like = self.parameters[0].detach()
        self.numbers = [like.new_tensor(float(getattr(b, NEIGHBOURS))) for b in self.blocks]
        self.names: list[str] = []
        self.step: Step | None = None
        self.compared = 0
        self.given_up = False

    def __call__(
        self, data: dict[str, Any], training: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Energies and forces of a batch, as the network's own ``forward`` gives them."""
        # The step has energies and forces: whoever wants more, or less, gets it from the network.
        other = not options.get("compute_force", True) or any(
            wanted for name, wanted in options.items() if name != "compute_force"
        )
        if training is not self.training or other or self.given_up or not self.batches.fit(data):
            return self._own(data, training, options)
        if self.compared < COMPARED:
            self._compare(data)
            return self._own(data, training, options)
        energy, forces = self._compiled(data)
        return {"energy": energy, "forces": forces}

    def _own(self, data: dict[str, Any], training: bool, options: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = type(self.network).forward(
            self.network, data, training=training, **options
        )
        return found

    def _compare(self, data: dict[str, Any]) -> None:
        try:
            if self.step is None:
                self.step = self._build(self.batches.fill(data, self.cutoff))
            found = self._compiled(data)
            # mace asks for the gradient of the positions that it is given, in place.
            copied = {**data, "positions": data["positions"].clone()}
            own = self._own(copied, self.training, {})
            difference = self._difference(found, (own["energy"], own["forces"]))
        except Exception as error:  # of a compiler that is missing, or of inductor
            self._give_up(f"{type(error).__name__}: {str(error).strip()[:300]}")
            return
        allowed = TOLERANCE[data["positions"].dtype]
        if not difference <= allowed:
            self._give_up(f"it differs from the network by {difference:.1e}, more than {allowed}")
            return
        self.compared += 1
        if self.compared == COMPARED:
            shape = (self.batches.graphs - 1, self.batches.atoms, self.batches.edges)
            logger.info("compiled: batches of %d cells with up to %d atoms and %d edges", *shape)

    def _give_up(self, why: str) -> None:
        logger.warning("goes on without compiled calls: %s", why)
        self.given_up, self.step = True, None

    def _difference(self, one: tuple[Any, Any], other: tuple[Any, Any]) -> float:
        """Largest relative difference in energies, forces and gradients of the parameters."""
        found, wanted = (
            [energy, forces, *self._gradients(energy, forces)] for energy, forces in (one, other)
        )
        scale = max((_largest(item) for item in wanted[2:]), default=0.0)
        scales = [_largest(item) for item in wanted[:2]] + [scale] * len(wanted[2:])
        return max(
            _largest(a - b) / max(size, 1e-6)
            for a, b, size in zip(found, wanted, scales, strict=True)
        )

    def _gradients(self, energy: Any, forces: Any) -> list[torch.Tensor]:
        if not self.training:
            return []
        trained = [item for item in self.parameters if item.requires_grad]
        found = torch.autograd.grad(
            energy.square().sum() + forces.square().sum(), trained, allow_unused=True
        )
        return [
            torch.zeros_like(item) if gradient is None else gradient
            for gradient, item in zip(found, trained, strict=True)
        ]

    def _compiled(self, data: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.step is not None
        filled = self.batches.fill(data, self.cutoff)
        constants = [*self.buffers, *self.numbers]
        with torch.set_grad_enabled(self.training):
            energy, forces = self.step(self.parameters, constants, [filled[n] for n in self.names])
        return energy[: data["ptr"].numel() - 1], forces[: data["positions"].shape[0]]

    def _build(self, filled: dict[str, torch.Tensor]) -> Step:
        """Trace the network on a batch and hand the operations to inductor."""
        from torch._functorch import config

        self.names = list(filled)
        parameters = [name for name, _ in self.network.named_parameters()]
        buffers = [name for name, _ in self.network.named_buffers()]
        own = type(self.network).forward
        bare = _Bare(self.network, own)

        def step(values: list[Any], constants: list[Any], tensors: list[Any]) -> Any:
            data = dict(zip(self.names, tensors, strict=True))
            data["positions"] = data["positions"].detach().requires_grad_(True)
            own_buffers = constants[: len(buffers)]
            state = {
                **{f"network.{n}": v for n, v in zip(parameters, values, strict=True)},
                **{f"network.{n}": v for n, v in zip(buffers, own_buffers, strict=True)},
            }
            with _numbers(self.blocks, constants[len(buffers) :]):
                found = torch.func.functional_call(bare, state, (data,))
            return found["energy"], found["forces"]

        config.donated_buffer = False  # the loss is a second derivative of the energy
        constants = [*self.buffers, *self.numbers]
        found = traced(step, self.parameters, constants, [filled[n] for n in self.names])
        compiled: Step = torch.compile(found, dynamic=False)
        return compiled


def _largest(item: torch.Tensor) -> float:
    return float(item.detach().abs().max())


def traced(step: Callable[..., Any], *inputs: Any) -> torch.fx.GraphModule:
    """Trace a step that takes first derivatives so that its own derivatives are right.

    Tracing detaches what an operation keeps of its result for its derivative (``tanh``, and what
    TorchScript makes of e3nn's scripts after a few runs, in this network or one before it): first
    derivatives are right, second ones lose terms. So whatever is detached is joined again.

    Parameters
    ----------
    step
        Detaches nothing but its inputs.
    *inputs
        Lists of tensors, or tensors.

    Returns
    -------
    torch.fx.GraphModule
        To be called as ``step`` is.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.jit.optimized_execution(False):
        found = make_fx(step)(*inputs)
    for node in list(found.graph.nodes):
        if node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            found.graph.erase_node(node)
    found.recompile()
    return found


@contextmanager
def _numbers(blocks: list[Any], numbers: list[Any]) -> Iterator[None]:
    """Numbers of blocks as tensors, while the network is traced."""
    before = [getattr(block, NEIGHBOURS) for block in blocks]
    try:
        for block, number in zip(blocks, numbers, strict=True):
            setattr(block, NEIGHBOURS, number)
        yield
    finally:
        for block, number in zip(blocks, before, strict=True):
            setattr(block, NEIGHBOURS, number)


class _Bare(torch.nn.Module):
    """The network with its class's ``forward``, whatever the object has been given."""

    def __init__(self, network: torch.nn.Module, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network
        self._forward = forward

    def forward(self, data: dict[str, torch.Tensor]) -> dict[str, Any]:
        found: dict[str, Any] = self._forward(self.network, data, training=True)
        return found

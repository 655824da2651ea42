"""The last stage of a training: L-BFGS over all labels at once.

Batches of a few labels, drawn anew each epoch, learn forces soon and the energies of one basin
against another late: what is left is an offset that all frames of a basin share, far below the
noise of a batch. Over all labels there is no noise, and L-BFGS sees the curvature. It suits data
of hundreds to a few thousand labels, each iteration being a pass over all of them.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from mace.tools.train import take_step_lbfgs

from defect_mf_flows.learning.batches import collate
from defect_mf_flows.learning.losses import CellErrorLoss

logger = logging.getLogger(__name__)

#: Iterations between two looks at the validation labels.
ROUND = 10
#: Steps and gradients that L-BFGS remembers.
MEMORY = 50

OUTPUTS = {"forces": True, "virials": False, "stress": False}


class Polisher:
    """L-BFGS with a line search on the parameters of a network that are trained.

    Parameters
    ----------
    network
        mace's, on its device.
    items
        Its graphs of the training side.
    batch_size
        Graphs that are computed together; what is learned does not depend on it.
    device
        Of the network.

    Attributes
    ----------
    iterations
        Done so far.
    ended
        True once no step makes the loss smaller.
    """

    def __init__(
        self, network: torch.nn.Module, items: list[Any], *, batch_size: int, device: torch.device
    ) -> None:
        self.network, self.device = network, device
        self.batches: Any = [  # whose length mace counts, as a loader's
            collate(items[start : start + batch_size]) for start in range(0, len(items), batch_size)
        ]
        self.trained = [item for item in network.parameters() if item.requires_grad]
        self.optimizer = torch.optim.LBFGS(
            self.trained, max_iter=ROUND, history_size=MEMORY, line_search_fn="strong_wolfe"
        )
        self.loss = CellErrorLoss().to(device)
        self.iterations, self.ended = 0, False

    def round(self, iterations: int) -> float:
        """Iterate; returns the loss at the start.

        Parameters
        ----------
        iterations
            At most so many.
        """
        self.optimizer.param_groups[0]["max_iter"] = iterations
        before = [item.detach().clone() for item in self.trained]
        _, report = take_step_lbfgs(
            self.network,
            self.loss,
            self.batches,
            self.optimizer,
            ema=None,
            output_args=OUTPUTS,
            max_grad_norm=None,
            device=self.device,
            distributed=False,
            rank=0,
        )
        self.iterations += iterations
        self.ended = all(map(torch.equal, before, self.trained))
        return float(report["loss"])

    def state(self) -> dict[str, Any]:
        """Everything that going on needs, but for the network's own parameters."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "iterations": self.iterations,
            "ended": self.ended,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a state of ``state``."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.iterations, self.ended = state["iterations"], state["ended"]

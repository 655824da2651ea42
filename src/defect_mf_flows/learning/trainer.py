"""One network, trained in one folder, resumable at any epoch.

Model, losses and optimiser step are mace's; the loop is ours, because mace's own restart
loses the average weights and the best epoch, judges by the last head alone and shuffles
differently after a restart. Here a checkpoint holds everything, so a run that was killed
ends with the same weights as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from mace.modules import compute_avg_num_neighbors
from mace.tools.train import take_step
from pymatgen.core import Structure
from torch_ema import ExponentialMovingAverage

from defect_mf_flows.core.charge import (
    FORCES,
    WEIGHT,
    atoms_fidelity,
    read_extxyz,
    to_atoms,
    with_charge,
)
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.learning.acceleration import accelerated, plain
from defect_mf_flows.learning.batches import collate, epoch_order, to_atomic_data
from defect_mf_flows.learning.compiling import Batches, compile_step, undo_compile
from defect_mf_flows.learning.foundation import begin, file_hash, read_foundation
from defect_mf_flows.learning.losses import LOSSES, cell_errors
from defect_mf_flows.learning.network import build_network
from defect_mf_flows.learning.polishing import OUTPUTS, ROUND, Polisher
from defect_mf_flows.learning.replay import REPLAY, without_replay
from defect_mf_flows.learning.training_files import finished_network, save, write_done

logger = logging.getLogger(__name__)

#: Share of the labels of lower fidelities that an epoch lends to the highest head.
LENT = 0.25


class Trainer:
    """One training run in one folder.

    Parameters
    ----------
    folder
        Holds ``training.json`` and ``frames.xyz``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.task: dict[str, Any] = json.loads((folder / "training.json").read_text())
        self.settings: dict[str, Any] = self.task["settings"]
        self.heads: list[str] = self.task["heads"]
        torch.set_default_dtype(getattr(torch, self.settings["dtype"]))
        self.device = torch.device(self.settings["device"])
        torch.manual_seed(self.task["seed"])
        np.random.seed(self.task["seed"] % 2**32)  # noqa: NPY002 (e3nn draws from it)
        self._read_frames()
        self._build()

    def _read_frames(self) -> None:
        images = read_extxyz(self.folder / "frames.xyz")
        self.spin = bool(self.settings["spin_embedding"])
        sides: dict[str, list[Any]] = {"train": [], "valid": []}
        high = [head for head in self.heads if head != REPLAY][-1]
        prior = self.settings.get("high_prior")  # which earlier versions do not know
        #: Labels of lower fidelities once more, under the highest head, by their place in train.
        self.priors: dict[int, Any] = {}
        forces: dict[str, list[np.ndarray]] = {head: [] for head in self.heads}
        for atoms in images:
            head, side = atoms_fidelity(atoms), atoms.info["split"]
            if side not in sides:
                continue
            weight = self.task["head_weights"][head] * float(atoms.info.get(WEIGHT, 1.0))
            item = self._graph(atoms, head, weight)
            if prior is not None and side == "train" and head not in (high, REPLAY):
                # Its energy counts from the reference of its own head, which is that of the
                # highest less what they differ by on geometries that both have labelled.
                self.priors[len(sides[side])] = self._graph(atoms, high, prior * weight)
            sides[side].append(item)
            if side == "train" and FORCES in atoms.arrays:
                forces[head].append(atoms.arrays[FORCES].ravel())
        self.train, self.valid = sides["train"], sides["valid"]
        self.of_high = [self.heads[int(item.head)] == high for item in self.train]
        self.scale = _scales([forces[head] for head in self.heads])

    def _graph(self, atoms: Atoms, head: str, weight: float) -> Any:
        return to_atomic_data(
            atoms,
            head=head,
            heads=self.heads,
            atomic_numbers=self.task["atomic_numbers"],
            cutoff=self.settings["r_max"],
            weight=weight,
            spin=self.spin,
        )

    def _build(self) -> None:
        self.model = accelerated(self._network().to(self.device), self.settings)
        if self.settings.get("compile", False):
            compile_step(self.model, Batches.of(self.train, self.settings["batch_size"]))
        if self.task["freeze"]:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad = "readout" in name
        trained = [item for item in self.model.parameters() if item.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=self.settings["learning_rate"], amsgrad=True)
        self.ema = ExponentialMovingAverage(trained, decay=self.settings["ema_decay"])
        self.epoch, self.seconds = 0, 0.0
        self.best: dict[str, Any] = {"loss": math.inf, "epoch": -1, "state": None}
        self.history: list[dict[str, Any]] = []
        self.polisher: Polisher | None = None

    def _network(self) -> torch.nn.Module:
        """An untrained network, or that of the stage before under the heads of this one."""
        if self.task["initial"] is not None:
            network = finished_network(self.folder / self.task["initial"])
            network.heads = self.heads
            loaded: torch.nn.Module = network
            return loaded
        loader: Any = [collate([item]) for item in self.train]
        foundation, host = self._foundation(), self._host()
        network = build_network(
            self.settings,
            heads=self.heads,
            charges=self.task["charges"],
            atomic_numbers=self.task["atomic_numbers"],
            neighbours=float(compute_avg_num_neighbors(loader)),
            scale=self.scale,
            spins=self.task["spins"],
            host=None if host is None else host.to_dict(),
            foundation=foundation,
        )
        if foundation is not None:
            begin(network, foundation, self.train, host, self.settings["charge_term"])
        return network

    def _without_replay(self) -> torch.nn.Module:
        """The trained network without the head that only replayed frames had."""
        if self.heads[-1] != REPLAY:
            return self.model
        target = build_network(
            self.settings,
            heads=self.heads[:-1],
            charges=self.task["charges"],
            atomic_numbers=self.task["atomic_numbers"],
            neighbours=1.0,
            scale=self.scale[:-1],
            spins=self.task["spins"],
            host=None if self.task["host"] is None else self._host().to_dict(),
            foundation=self._foundation(),
        )
        sample = [item for item in self.train if int(item.head) != len(self.heads) - 1][:4]
        return without_replay(self.model, target, [collate([item]) for item in sample])

    def _foundation(self) -> torch.nn.Module | None:
        record = self.task["foundation"]
        if record is None:
            return None
        path = Path(record["file"])
        if not path.is_file() or file_hash(path) != record["sha256"]:
            raise TrainingError(
                f"training.foundation: {path} is not the file that the training began with; "
                "put it back, or train anew."
            )
        found: torch.nn.Module = read_foundation(path, record["head"])
        return found

    def _host(self) -> Any:
        if self.task["host"] is None:
            return None
        atoms = to_atoms(with_charge(Structure.from_dict(self.task["host"]), 0), spin=0)
        return collate([self._graph(atoms, self.heads[0], 1.0)])

    # -- one epoch ---------------------------------------------------------------------

    def _rate(self) -> float:
        """Cosine decay to 1 % of the initial rate, after a short warm-up."""
        total, start = self.settings["max_epochs"], self.settings["learning_rate"]
        warm = max(1, total // 50)
        if self.epoch < warm:
            return start * (self.epoch + 1) / (warm + 1)
        progress = (self.epoch - warm) / max(1, total - warm)
        return start * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def _loss(self) -> torch.nn.Module:
        """Forces first, then energies: the weights change over at ``energy_stage``."""
        late = self.epoch >= self.settings["energy_stage"] * self.settings["max_epochs"]
        energy = self.settings["energy_weight_late" if late else "energy_weight"]
        kind = LOSSES[self.settings.get("loss", "squared")]  # the only one of earlier versions
        loss: torch.nn.Module = kind(energy, self.settings["forces_weight"])
        return loss.to(self.device)

    def _train_epoch(self) -> float:
        items, losses = self._epoch_items(), []
        size, loss_function = self.settings["batch_size"], self._loss()
        for start in range(0, len(items), size):
            batch = collate(items[start : start + size])
            _, report = take_step(
                model=self.model,
                loss_fn=loss_function,
                batch=batch,
                optimizer=self.optimizer,
                ema=self.ema,
                output_args=OUTPUTS,
                max_grad_norm=self.settings["max_grad_norm"],
                device=self.device,
            )
            losses.append(float(report["loss"]))
        return float(np.mean(losses))

    def _epoch_items(self) -> list[Any]:
        """Graphs of one epoch in their order, some of them under the highest head instead."""
        # Seeded by epoch, so that a resumed run sees the same batches.
        generator = np.random.default_rng([self.task["seed"], self.epoch])
        order = epoch_order(generator, of_high=self.of_high, share=self.settings.get("high_share"))
        if not self.priors:
            return [self.train[i] for i in order]
        lent = generator.random(len(order)) < LENT
        return [
            self.priors[i] if now and i in self.priors else self.train[i]
            for i, now in zip(order.tolist(), lent.tolist(), strict=True)
        ]

    def _validate(self) -> dict[str, dict[str, float]]:
        """Per head: RMSE of energies (meV/atom) and forces (meV/Angstrom), and cell error."""
        errors: dict[str, list[tuple[np.ndarray, ...]]] = {h: [] for h in self.heads}
        with self._judged():
            for start in range(0, len(self.valid), self.settings["batch_size"]):
                batch = collate(self.valid[start : start + self.settings["batch_size"]])
                batch = batch.to(self.device)
                output = self.model(batch.to_dict(), training=False, compute_force=True)
                sizes = (batch.ptr[1:] - batch.ptr[:-1]).cpu().numpy()
                energy = (output["energy"].detach() - batch.energy).cpu().numpy() / sizes
                force = (output["forces"].detach() - batch.forces).cpu().numpy()
                cell = cell_errors(batch, output).detach().cpu().numpy()
                for k, head in enumerate(batch.head.tolist()):
                    low, high = int(batch.ptr[k]), int(batch.ptr[k + 1])
                    if not float(batch.forces_weight[k]):  # the method has none
                        high = low
                    own = (energy[k : k + 1], force[low:high].ravel(), cell[k : k + 1])
                    errors[self.heads[head]].append(own)
        return {head: _summary(items) for head, items in errors.items() if items}

    def _judged(self) -> AbstractContextManager[Any]:
        """Within it the network has the weights that count: averages, unless it is polished."""
        if self.polisher is not None:
            return nullcontext()
        averages: AbstractContextManager[Any] = self.ema.average_parameters()
        return averages

    def _score(self, valid: dict[str, dict[str, float]]) -> float:
        """Figure by which the best epoch is chosen, over all heads together.

        Heads count by their number of frames and weight in the loss: a handful of
        high-fidelity frames alone would choose an epoch by chance. Replayed frames do not
        count. A training that is polished is judged by what polishing makes small.
        """
        if self.settings.get("polish", 0):
            counts = {head: item["n"] for head, item in valid.items() if head != REPLAY}
            total = sum(counts[head] * valid[head]["cell_error"] for head in counts)
            return total / sum(counts.values())
        weights = {
            head: item["n"] * self.task["head_weights"][head]
            for head, item in valid.items()
            if head != REPLAY
        }
        total = sum(
            weights[head] * (item["energy_rmse"] ** 2 + (item.get("force_rmse", 0.0) / 10.0) ** 2)
            for head, item in valid.items()
            if head in weights
        )
        return math.sqrt(total / sum(weights.values()))

    # -- the run -----------------------------------------------------------------------

    def run(self) -> None:
        """Train to the end, or to early stopping, from wherever the last run got."""
        self._resume()
        if self.polisher is None:
            self._train_epochs()
        self._polish()
        self._finish()

    def _train_epochs(self) -> None:
        last = self.settings["max_epochs"]
        while self.epoch < last and not self._exhausted():
            started = time.monotonic()
            rate = self._rate()
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            train_loss = self._train_epoch()
            self.epoch += 1
            if self.epoch % self.settings["validate_every"] == 0 or self.epoch == last:
                self._record(train_loss, rate)
            self.seconds += time.monotonic() - started
            if self.epoch % self.settings["checkpoint_every"] == 0 or self.epoch == last:
                self._checkpoint()

    def _polish(self) -> None:
        """From the best averages on; an iteration, a pass over all labels, counts as an epoch."""
        wanted = self.settings.get("polish", 0)
        if wanted and self.polisher is None:
            self.model.load_state_dict(self.best["state"])
            self.polisher = self._polisher()
            if not self.valid:  # judged by the training loss, which is another from here on
                self.best["loss"] = math.inf
        while self.polisher and self.polisher.iterations < wanted and not self._exhausted():
            started = time.monotonic()
            number = min(ROUND, wanted - self.polisher.iterations)
            loss = self.polisher.round(number)
            self.epoch += number
            if not all(bool(item.isfinite().all()) for item in self.polisher.trained):
                logger.warning("polishing ends: the line search left the numbers behind")
                break
            self._record(loss, 1.0)
            self.seconds += time.monotonic() - started
            self._checkpoint()

    def _polisher(self) -> Polisher:
        size = self.settings["batch_size"]
        items = [*self.train, *self.priors.values()]
        return Polisher(self.model, items, batch_size=size, device=self.device)

    def _exhausted(self) -> bool:
        patience = self.settings["patience"]
        if self.polisher is not None and self.polisher.ended:
            return True
        # Counted only once energies carry their full weight: the first stage may look flat.
        stage = self.settings["energy_stage"] * self.settings["max_epochs"]
        if self.polisher is not None:
            stage = self.epoch - self.polisher.iterations
        since = self.epoch - max(self.best["epoch"], int(stage))
        return bool(patience) and since > patience

    def _record(self, train_loss: float, rate: float) -> None:
        valid = self._validate()
        record = {
            "epoch": self.epoch - 1,
            "train_loss": train_loss,
            "valid": valid,
            "learning_rate": rate,
            "polished": self.polisher is not None,
        }
        self.history.append(record)
        with (self.folder / "history.jsonl").open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        score = self._score(valid) if set(valid) - {REPLAY} else train_loss
        if not math.isfinite(score):
            raise FloatingPointError(f"loss is not finite in epoch {self.epoch - 1}")
        if score < self.best["loss"]:
            with self._judged():
                state = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
            self.best = {"loss": score, "epoch": self.epoch - 1, "state": state}
        logger.info("epoch %d %s", self.epoch - 1, json.dumps(valid))

    def _checkpoint(self) -> None:
        state = {
            "epoch": self.epoch,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "best": self.best,
            "history": self.history,
            "polish": None if self.polisher is None else self.polisher.state(),
        }
        save(state, self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if path.is_file():
            # Tensors and numbers only: a pickle in a scratch folder could run anything.
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            self.epoch, self.seconds = state["epoch"], state["seconds"]
            self.best, self.history = state["best"], state["history"]
            if state.get("polish") is not None:  # checkpoints of earlier versions have none
                self.polisher = self._polisher()
                self.polisher.resume(state["polish"])
            logger.info("resumed after epoch %d", self.epoch - 1)
        lines = "".join(json.dumps(record) + "\n" for record in self.history)
        (self.folder / "history.jsonl").write_text(lines)

    def _finish(self) -> None:
        self.model.load_state_dict(self.best["state"])
        self.model = plain(undo_compile(self.model), self.settings).to("cpu")
        save(self._without_replay(), self.folder / "model.pt")
        write_done(
            self.folder,
            best_epoch=self.best["epoch"],
            seconds=self.seconds,
            history=self.history,
        )
        if self.polisher is not None:  # L-BFGS remembers many times the network
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)


def _summary(items: list[tuple[np.ndarray, ...]]) -> dict[str, float]:
    energies, forces, cells = (np.concatenate(column) for column in zip(*items, strict=True))
    found = {
        "n": float(len(energies)),
        "energy_rmse": float(1000 * np.sqrt(np.mean(energies**2))),
        "cell_error": float(np.mean(cells)),
    }
    if forces.size:
        found["force_rmse"] = float(1000 * np.sqrt(np.mean(forces**2)))
    return found


def _scales(forces: list[list[np.ndarray]]) -> list[float]:
    """Root mean square force per head; that of all heads for one whose method has no forces."""
    everything = [item for items in forces for item in items]
    rest = float(np.sqrt(np.mean(np.concatenate(everything) ** 2))) if everything else 1.0
    return [
        float(np.sqrt(np.mean(np.concatenate(items) ** 2))) if items else rest for items in forces
    ]

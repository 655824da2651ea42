"""Assemble a dataset from every label the campaign has."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from jobflow import Maker, Response, job

from defect_mf_flows.campaign import FrameSettings, SplitSettings
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.core.groups import Ending, frame_side, geometry_key, split_groups
from defect_mf_flows.core.imported_frames import ImportedFrames
from defect_mf_flows.core.left_out import told_left_out
from defect_mf_flows.core.references import host_labels
from defect_mf_flows.core.splits import check_no_leak
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    calculations,
    job_store,
    own_uuid,
    read_output,
    stream_calculations,
)
from defect_mf_flows.jobs.picks import (
    dataset_frames,
    frame_reference,
    lowest_energies,
    relaxation_key,
)
from defect_mf_flows.schemas.calculation import Calculation, Failure
from defect_mf_flows.schemas.dataset import Dataset, DatasetEntry, HostLabels, Split
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.frame import Frame, content_hash
from defect_mf_flows.schemas.loop import LoopState

#: How keys of imported relaxations begin.
IMPORTED = "import|"


@dataclass
class DatasetMaker(Maker):
    """Collects labels, filters them and splits them by relaxation.

    Parameters
    ----------
    name
        Job name.
    heads
        Fidelities, the highest last.
    frames, split
        Settings.
    verification_frames
        Frames taken from each verification relaxation.
    seed
        Campaign seed.
    """

    name: str = "dataset"
    heads: list[str] = field(default_factory=list)
    frames: FrameSettings = field(default_factory=FrameSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    verification_frames: int = 8
    seed: int = 1

    @job(data=["entries", "excluded"], config=WITH_STORE, output_schema=Dataset)
    def make(self, defects_uuid: str, state: LoopState) -> Response:
        """Assemble the dataset of a round.

        Parameters
        ----------
        defects_uuid
            uuid of the job that made host and defects.
        state
            Names every calculation with labels.

        Returns
        -------
        Dataset
            References to frames, not the frames.
        """
        defects = read_output(job_store(), defects_uuid, DefectSet, load=False)
        low = calculations(state.low, frames=False)
        sides = self._sides(defects, low, Counter(state.origins.values()))
        entries: list[DatasetEntry] = []
        excluded: list[Failure] = [c.failure for c in low if c.failure is not None]
        excluded += state.imports.refused
        imported = ImportedFrames(self._imported(state, defects, excluded))
        floors = lowest_energies(low)
        known: dict[str, str] = {}
        for calculation in stream_calculations(state.low):
            floor = floors[calculation.defect, calculation.charge, calculation.fidelity]
            frames, dropped = dataset_frames(calculation, defects, self.frames, floor)
            key = relaxation_key(calculation)
            sided = [(frame, self._side(frame, sides[key])) for frame in frames]
            entries += _entries(sided, key, imported)
            excluded += dropped
            known |= {geometry_key(frame): key for frame in frames}
        for calculation in stream_calculations(state.labels):
            origin = state.origins.get(calculation.job_uuid)
            frames, dropped = self._labels(calculation, defects, verified=origin is None)
            # A verification goes where nothing was: the model's own blind spot. What it begins
            # from may be a geometry of a low-fidelity relaxation, and stays on the side of that.
            own = f"{relaxation_key(calculation)}|{calculation.job_uuid}"
            for frame in frames:
                there = origin or known.get(geometry_key(frame))
                side = Split.TRAIN if there is None else self._side(frame, sides[there])
                entries += _entries([(frame, side)], there or own, imported)
            excluded += dropped
            if calculation.failure is not None:
                excluded.append(calculation.failure)
        for calculation in stream_calculations(state.checks):
            frames, dropped = filter_frames(
                calculation.frames,
                settings=self.frames,
                lattice_of=defects.host.supercell,
                floor=floors.get((calculation.defect, calculation.charge, calculation.fidelity)),
            )
            key = f"{relaxation_key(calculation)}|{calculation.job_uuid}"
            entries += _entries([(f, Split.TRAIN) for f in frames], key, imported)
            excluded += dropped
            if calculation.failure is not None:
                excluded.append(calculation.failure)
        kept, copies = imported.sided()
        entries += [_entry(frame, IMPORTED + uuid, side) for uuid, frame, side in kept]
        excluded += copies
        entries = _without_duplicates(entries)
        check_no_leak(entries, by=self.split.by)
        hosts = calculations([state.hosts[h] for h in self.heads if h in state.hosts])
        labels = [frame for host in hosts if host.failure is None for frame in host.frames]
        host = host_labels(labels, defects.host.primitive)
        return Response(output=self._document(entries, excluded, host))

    def _sides(
        self, defects: DefectSet, low: list[Calculation], labels: Counter[str]
    ) -> dict[str, Split]:
        sides = {relaxation_key(c): Split.TRAIN for c in low}
        if self.split.by == "frame":
            return sides
        endings = [
            Ending(
                relaxation_key(c),
                c.defect,
                c.charge,
                c.final_structure or defects.get(str(c.defect)).supercell,
                float("inf") if c.final_energy is None else c.final_energy,
            )
            for c in low
            if c.n_frames
        ]
        found = split_groups(endings, settings=self.split, seed=self.seed, labels=labels)
        return {**sides, **found}

    def _side(self, frame: Frame, side: Split) -> Split:
        """Side of a frame of a relaxation on a side."""
        if self.split.by != "frame":
            return side
        return frame_side(frame, settings=self.split, seed=self.seed)

    def _imported(
        self, state: LoopState, defects: DefectSet, excluded: list[Failure]
    ) -> dict[str, list[Frame]]:
        """Usable frames per imported calculation; what is dropped is added to ``excluded``."""
        uuids = state.imports.imported
        floors = lowest_energies(stream_calculations(uuids, frames=False))
        found: dict[str, list[Frame]] = {}
        for calculation in stream_calculations(uuids):
            floor = floors[calculation.defect, calculation.charge, calculation.fidelity]
            found[calculation.job_uuid], dropped = dataset_frames(
                calculation, defects, self.frames, floor
            )
            excluded += dropped
        return found

    def _labels(
        self, calculation: Calculation, defects: DefectSet, *, verified: bool
    ) -> tuple[list[Frame], list[Failure]]:
        kept, dropped = filter_frames(
            calculation.frames, settings=self.frames, lattice_of=defects.host.supercell
        )
        wanted = self.verification_frames if verified else len(kept)
        return [kept[i] for i in evenly_spaced(len(kept), wanted)], dropped

    def _document(
        self, entries: list[DatasetEntry], excluded: list[Failure], host: HostLabels | None
    ) -> Dataset:
        counts = Counter(f"{e.fidelity}|{e.charge:+d}|{e.split.value}" for e in entries)
        missing = [h for h in self.heads if not any(e.fidelity == h for e in entries)]
        if missing:
            raise DatasetError(
                f"no usable label of {missing}: every calculation failed or was filtered out: "
                + " ".join(told_left_out(excluded, head) for head in missing)
                + " See to their method (fidelities.NAME.settings), then start again."
            )
        # Labels are identified by content, so that the same data give the same training.
        key = [
            self.heads,
            [[e.frame.content_hash, e.fidelity, e.split.value] for e in entries],
        ]
        return Dataset(
            job_uuid=own_uuid(),
            dataset_hash=content_hash(key),
            heads=self.heads,
            entries=entries,
            counts=dict(sorted(counts.items())),
            imported=dict(
                Counter(e.fidelity for e in entries if e.relaxation.startswith(IMPORTED))
            ),
            excluded=excluded,
            host=host,
            split_by=self.split.by,
        )


def _entry(frame: Frame, relaxation: str, side: Split) -> DatasetEntry:
    return DatasetEntry(
        frame=frame_reference(frame),
        fidelity=frame.fidelity,
        charge=frame.charge,
        defect=frame.lineage.defect,
        relaxation=relaxation,
        split=side,
    )


def _entries(
    sided: list[tuple[Frame, Split]], relaxation: str, imported: ImportedFrames
) -> list[DatasetEntry]:
    """Entries of one calculation, which imported frames are compared with."""
    for frame, side in sided:
        imported.compare(frame, side)
    return [_entry(frame, relaxation, side) for frame, side in sided]


def _without_duplicates(entries: list[DatasetEntry]) -> list[DatasetEntry]:
    """Keep the first of labels with equal content."""
    unique: dict[str, DatasetEntry] = {}
    for entry in entries:
        unique.setdefault(entry.frame.content_hash, entry)
    return list(unique.values())


def read_frames(dataset: Dataset) -> list[Frame]:
    """Frames of a dataset, from the store of the running job, in the order of its entries.

    Parameters
    ----------
    dataset
        With its entries loaded.

    Returns
    -------
    list of Frame
        One per entry.

    Raises
    ------
    DatasetError
        If a frame's hash, charge or fidelity is not what the entry says.
    """
    wanted = {(e.frame.calculation, e.frame.step) for e in dataset.entries}
    uuids = list(dict.fromkeys(entry.frame.calculation for entry in dataset.entries))
    frames = {
        (c.job_uuid, frame.lineage.step): frame
        for c in stream_calculations(uuids)
        for frame in c.frames
        if (c.job_uuid, frame.lineage.step) in wanted
    }
    chosen = []
    for entry in dataset.entries:
        frame = frames[entry.frame.calculation, entry.frame.step]
        expected = (entry.frame.content_hash, entry.charge, entry.fidelity)
        if (frame.content_hash, frame.charge, frame.fidelity) != expected:
            raise DatasetError(
                f"frame {entry.frame.step} of calculation {entry.frame.calculation} is not the "
                "one the dataset names (hash, charge or fidelity differ); assemble it again."
            )
        chosen.append(frame)
    return chosen

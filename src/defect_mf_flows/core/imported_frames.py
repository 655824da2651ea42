"""Imported frames beside a campaign's own: which of them train, on which side of the split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from defect_mf_flows.core.groups import COPY, copied_relaxations, fingerprint, merged
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.frame import Frame

#: Calculation and number of a frame among those of its calculation.
Place = tuple[str, int]


class ImportedFrames:
    """Finds what imported frames share with a campaign's own, so that no label leaks.

    Show it every frame of the campaign with :meth:`compare`, then ask for :meth:`sided`.

    Parameters
    ----------
    frames
        Imported calculation -> its usable frames.
    """

    def __init__(self, frames: Mapping[str, list[Frame]]) -> None:
        self._frames = frames
        self._sides: dict[Place, set[Split]] = defaultdict(set)
        self._labelled: set[Place] = set()
        places: dict[tuple[int, str], list[Place]] = defaultdict(list)
        for uuid, members in frames.items():
            for number, frame in enumerate(members):
                places[frame.charge, composition_key(frame.structure)].append((uuid, number))
        self._strata = {
            stratum: (
                found,
                np.array([fingerprint(frames[uuid][number].structure) for uuid, number in found]),
            )
            for stratum, found in places.items()
        }

    def compare(self, frame: Frame, side: Split) -> None:
        """Take note of a campaign's own frame.

        Parameters
        ----------
        frame
            Of the campaign's dataset.
        side
            Where it is.
        """
        stratum = frame.charge, composition_key(frame.structure)
        if stratum not in self._strata:
            return
        places, vectors = self._strata[stratum]
        far = np.abs(vectors - fingerprint(frame.structure)).max(axis=1, initial=0.0)
        for i in np.flatnonzero(far <= COPY):
            uuid, number = places[i]
            self._sides[uuid, number].add(side)
            if self._frames[uuid][number].fidelity == frame.fidelity:
                self._labelled.add((uuid, number))

    def sided(self) -> tuple[list[tuple[str, Frame, Split]], list[Failure]]:
        """Side of every imported frame.

        Returns
        -------
        kept
            Calculation, frame and side. A calculation trains, unless it shares geometries with
            relaxations of one other side alone: then it goes there, and its copies with it.
        dropped
            One failure per frame whose geometry lies on another side. Labels that the campaign
            has itself are left out without.
        """
        group = merged(self._frames, copied_relaxations(dict(self._frames)))
        seen: dict[str, set[Split]] = defaultdict(set)
        for (uuid, _), sides in self._sides.items():
            seen[group[uuid]] |= sides
        kept, dropped = [], []
        for uuid, members in self._frames.items():
            sides = seen[group[uuid]]
            home = next(iter(sides)) if len(sides) == 1 else Split.TRAIN
            for number, frame in enumerate(members):
                place = (uuid, number)
                if self._sides[place] - {home}:
                    dropped.append(_leak(frame))
                elif place not in self._labelled:
                    kept.append((uuid, frame, home))
        return kept, dropped


def _leak(frame: Frame) -> Failure:
    return Failure(
        stage="import",
        reason=FailureReason.DUPLICATE,
        message=f"step {frame.lineage.step}: copies a geometry on another side of the split",
        fidelity=frame.fidelity,
        defect=frame.lineage.defect,
        charge=frame.charge,
        start=frame.lineage.start,
    )

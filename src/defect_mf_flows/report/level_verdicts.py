"""How far the model's levels are from the high fidelity's, and which charge state is to blame."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from markupsafe import Markup

from defect_mf_flows.campaign import VerifySettings
from defect_mf_flows.report import numbers
from defect_mf_flows.report.formatting import defect_html, is_number, milli, number, page_charge
from defect_mf_flows.schemas.results import GroundState, Results, TransitionLevel

#: Levels of the model within this of the high fidelity's count as equal, eV.
EQUAL = 0.010


class Cause(StrEnum):
    """Why the model's energy of a charge state is not the verified one."""

    OFFSET = "energy offset of the same minimum"
    OTHER = "another minimum"
    UNKNOWN = "not known whether of the same minimum"


@dataclass(frozen=True)
class Blame:
    """The charge state that contributes most to the error of a level.

    Attributes
    ----------
    ground
        The state.
    error
        Model minus verified energy of its ground state, eV per cell.
    share
        What that adds to the error of the level, eV.
    cause
        Another minimum, or the same one with an offset.
    labels
        High-fidelity labels of its charge in the last dataset, all defects together; None if
        they are not recorded.
    held_out
        Root-mean-square error of the high head on held-out frames of its charge, meV per cell;
        None if none was held out.
    """

    ground: GroundState
    error: float
    share: float
    cause: Cause
    labels: int | None
    held_out: float | None


@dataclass(frozen=True)
class LevelVerdict:
    """The model's error of one level.

    Attributes
    ----------
    error
        Model minus high fidelity, eV; None if one of them has no level.
    blame
        None if an energy is not known.
    """

    error: float | None
    blame: Blame | None

    @property
    def equal(self) -> bool:
        """Whether the model's level is the high fidelity's, within ``EQUAL``."""
        return self.error is not None and abs(self.error) <= EQUAL

    @property
    def cancels(self) -> bool:
        """Whether it is that only because the errors of two energies cancel."""
        return self.equal and self.blame is not None and abs(self.blame.share) > EQUAL


def level_verdict(level: TransitionLevel, results: Results) -> LevelVerdict:
    """Judge the model's value of a level.

    Parameters
    ----------
    level
        The level.
    results
        Of its campaign.

    Returns
    -------
    LevelVerdict

    Notes
    -----
    A level (q/q') is (E(q') - E(q)) / (q - q') above the band edge, which both share, so its error
    is that of E(q') less that of E(q), over q - q'. Corrections cancel.
    """
    error = numbers.difference(level.model, level.hf)
    width = level.from_charge - level.to_charge
    signs = {level.from_charge: -1 / width, level.to_charge: 1 / width}
    mine = [g for g in results.ground_states if g.defect == level.defect and g.charge in signs]
    known = [
        (gap, gap * signs[g.charge], g)
        for g in mine
        if (gap := numbers.difference(g.energy_model, g.energy_hf)) is not None
    ]
    if error is None or len(known) < len(signs):
        return LevelVerdict(error, None)
    gap, share, ground = max(known, key=lambda item: abs(item[1]))
    return LevelVerdict(error, _blame(ground, gap, share, results))


def _blame(ground: GroundState, error: float, share: float, results: Results) -> Blame:
    high = results.fidelities.get("high", "")
    counted = results.counts.get("labels_by_split", {})
    start = f"{high}|{ground.charge:+d}|"
    held = [
        m.energy_rmse_cell
        for m in results.metrics
        if (m.head, m.charge, m.split) == (high, ground.charge, numbers.HELD_OUT)
        and m.n_frames
        and is_number(m.energy_rmse_cell)
    ]
    return Blame(
        ground=ground,
        error=error,
        share=share,
        cause=cause_of(ground, results),
        labels=sum(n for key, n in counted.items() if key.startswith(start)) if counted else None,
        held_out=held[0] if held else None,
    )


def cause_of(ground: GroundState, results: Results) -> Cause:
    """Whether the model's ground state is the verified one, by the campaign's own tolerances.

    Parameters
    ----------
    ground
        The charge state.
    results
        Of its campaign.
    """
    if ground.local_rmsd is None or ground.max_displacement is None:
        return Cause.UNKNOWN
    limits = VerifySettings.model_validate(results.settings.get("verification", {}))
    far = (
        ground.local_rmsd > limits.max_local_rmsd
        or ground.max_displacement > limits.max_displacement
    )
    return Cause.OTHER if far else Cause.OFFSET


def verdict_text(verdict: LevelVerdict) -> Markup:
    """Say it in a sentence; empty where the model or high fidelity has no level.

    Parameters
    ----------
    verdict
        Of a level.
    """
    limit = milli(EQUAL, 0)
    if verdict.error is None:
        return Markup("")
    if verdict.equal:
        text = Markup("within {} meV of the high fidelity").format(limit)
        if verdict.cancels and verdict.blame is not None:
            text += Markup(", because two errors cancel: {}").format(_blame_text(verdict.blame))
        return text
    side = "above" if verdict.error > 0 else "below"
    text = Markup("{} meV {} the high fidelity").format(milli(abs(verdict.error), 0), side)
    if verdict.blame is None:
        return text
    return text + Markup(", most of it from {}").format(_blame_text(verdict.blame))


def _blame_text(blame: Blame) -> Markup:
    ground = blame.ground
    parts = [
        Markup("{} ({} meV of the level; verdict {}: {}").format(
            defect_html(ground.defect, ground.charge),
            milli(blame.share, 0, signed=True),
            ground.verdict.value,
            _cause_text(blame),
        )
    ]
    if blame.labels is not None:
        charge = page_charge(ground.charge)
        labels = "label" if blame.labels == 1 else "labels"
        parts.append(Markup(f"{blame.labels} high-fidelity {labels} of charge {charge}"))
    if blame.held_out is not None:
        parts.append(Markup(f"held-out error {number(blame.held_out, 1)} meV/cell"))
    return Markup("; ").join(parts) + ")"


def _cause_text(blame: Blame) -> str:
    offset = blame.ground.energy_error
    if blame.cause is not Cause.OTHER or offset is None:
        return f"{blame.cause.value}, {milli(blame.error, 0, signed=True)} meV/cell"
    rest = blame.error - offset
    return (
        f"{blame.cause.value}, whose model energy is {milli(offset, 0, signed=True)} meV/cell off "
        f"and which lies {milli(rest, 0)} meV/cell above the verified one at high fidelity"
    )


def borrowed_corrections(results: Results) -> list[Markup]:
    """Charge states whose energies carry a correction computed for another minimum.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    list of Markup
        One sentence per charge state; the verified energy carries its own correction.
    """
    corrected = {(c.defect, c.charge) for c in results.corrections}
    told = []
    for ground in results.ground_states:
        if (ground.defect, ground.charge) not in corrected:
            continue
        whose = []
        if ground.energy_model is not None and cause_of(ground, results) is Cause.OTHER:
            whose.append(Markup("the model's"))
        if ground.low_start and not ground.low_is_ground_state:
            whose.append(Markup("the low-fidelity search's"))
        if whose:
            several = len(whose) > 1
            told.append(
                Markup(
                    "Of {}, {} {} the correction of the verified minimum, although {} another "
                    "minimum."
                ).format(
                    defect_html(ground.defect, ground.charge),
                    Markup(" and ").join(whose) + (" energies" if several else " energy"),
                    "carry" if several else "carries",
                    "each belongs to" if several else "it belongs to",
                )
            )
    return told

"""Formation energies and transition levels of stored calculations, imported or of a campaign."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from defect_mf_flows.core.ewald import dielectric_tensor
from defect_mf_flows.core.formation import crossings, negative_u
from defect_mf_flows.core.frontier import perturbed_host
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results.concentrations import ConcentrationOptions, concentrations_of
from defect_mf_flows.results.correcting import Corrector, HostCell, frontier_levels
from defect_mf_flows.results.limits import exchange_energy, exchanged, limits_of
from defect_mf_flows.results.records import Records
from defect_mf_flows.schemas.calculation import BandEdges, Calculation, CalculationKind
from defect_mf_flows.schemas.levels import (
    ChargeState,
    Correction,
    CorrectionMethod,
    LevelPair,
    LevelReport,
    NegativeU,
)

logger = logging.getLogger(__name__)

#: Potentials that spread more among the atoms far away point to a charge that is not at the site.
WIDE_SPREAD = 0.1
SAME_CELL = 2e-3


@dataclass(frozen=True)
class LevelOptions:
    """What levels need besides energies.

    Attributes
    ----------
    dielectric
        A number, three or nine; None: no correction.
    vbm, gap
        eV; None: from the host's calculation.
    mu
        Chemical potential per element, eV per atom.
    limits
        The same per name of a limit; ``mu`` holds the elements that a limit does not name.
    method
        Correction; None: eFNV where a dielectric tensor is given.
    fidelity
        Name; None: the store's only one.
    defects
        Names; empty: all.
    concentrations
        What they need; None: they are not computed.
    """

    dielectric: list[float] | None = None
    vbm: float | None = None
    gap: float | None = None
    mu: dict[str, float] = field(default_factory=dict)
    limits: dict[str, dict[str, float]] = field(default_factory=dict)
    method: CorrectionMethod | None = None
    fidelity: str | None = None
    defects: tuple[str, ...] = ()
    concentrations: ConcentrationOptions | None = None


def stored_levels(
    records: Records,
    options: LevelOptions,
    *,
    progress: Callable[[Calculation], None] | None = None,
) -> LevelReport:
    """Levels of the calculations of one fidelity.

    Of a campaign's calculations the relaxations that ended count, and its pristine host.

    Parameters
    ----------
    records
        A store; corrections that it lacks are added to it.
    options
        See the class.
    progress
        Called with every calculation.

    Returns
    -------
    LevelReport
        Per charge the lowest minimum counts, corrections included.

    Raises
    ------
    ResultsError
        If host, fidelity or band edges are not known, or a correction cannot be computed.
    """
    known = list(records.documents(Calculation))
    fidelity = _fidelity([c for c in known if _is_minimum(c)], options)
    known = [c for c in known if c.fidelity == fidelity]
    mine = [c for c in known if _is_minimum(c) and c.final_energy is not None]
    _check_one_source(records, mine)
    hosts = [HostCell(c) for c in mine if c.defect is None and c.charge == 0]
    if not hosts:
        raise ResultsError(
            f"no pristine host cell of fidelity {fidelity!r} in the store; import its calculation "
            "too, or choose a --fidelity that a campaign computed its host with."
        )
    edges, edges_from = _edges(hosts[0], options)
    tensor = None if options.dielectric is None else dielectric_tensor(options.dielectric)
    if tensor is None and options.method not in (None, CorrectionMethod.NONE):
        raise ResultsError(f"a correction by {options.method} needs the dielectric tensor.")
    work = _Work(Corrector(records.store, tensor, options.method), hosts, edges, options)
    for calculation in mine:
        if calculation.defect is not None and _wanted(calculation.defect, options):
            work.add(calculation)
        if progress is not None:
            progress(calculation)
    if not work.states:
        raise ResultsError(
            f"no calculation of a defect ({', '.join(options.defects) or 'any'}) of fidelity "
            f"{fidelity!r} in the store; `defect-mf query calculations` lists what it holds."
        )
    states = grounds_marked(work.states)
    levels, skipped = levels_of(states, edges)
    limits = limits_of(states, work.origins, hosts[0], mu=options.mu, limits=options.limits)
    asked, places = options.concentrations, [x.mu for x in limits] or [options.mu]
    found = [] if asked is None else concentrations_of(states, work.origins, edges, places, asked)
    if limits and found:
        limits = [
            limit.model_copy(update={"concentrations": here})
            for limit, here in zip(limits, found, strict=True)
        ]
    return LevelReport(
        fidelity=fidelity,
        host=hosts[0].structure.composition.reduced_formula,
        band_edges=edges,
        edges_from=edges_from,
        dielectric=tensor,
        mu=options.mu,
        states=states,
        levels=levels,
        negative_u=skipped,
        limits=limits,
        concentrations=found[0] if found and not limits else [],
        notes=[*work.notes, *_unended(known, options), *_general_notes(states, tensor, options)],
    )


def _is_minimum(calculation: Calculation) -> bool:
    """Whether its last geometry may be a minimum; a campaign also labels frames on the way."""
    if calculation.imported is not None:
        return True
    if calculation.failure is not None:
        return False
    if calculation.defect is None:
        return True
    return calculation.kind is CalculationKind.RELAX and calculation.converged


def _check_one_source(records: Records, calculations: list[Calculation]) -> None:
    """Refuse energies of several campaigns: one name of a fidelity may stand for two methods."""
    uuids = {c.job_uuid for c in calculations}
    table = records.calculations()
    mine = table[table["uuid"].isin(uuids)]
    sources = sorted({str(name) for name in mine["campaign"].dropna()})
    if mine["campaign_hash"].nunique() + bool(mine["campaign_hash"].isna().any()) > 1:
        imported = " and imported ones" if mine["campaign_hash"].isna().any() else ""
        raise ResultsError(
            f"calculations of several campaigns ({', '.join(sources)}){imported} have this "
            "fidelity, whose method may differ between them; choose one with --campaign NAME, or "
            "its hash."
        )


def _unended(calculations: list[Calculation], options: LevelOptions) -> list[str]:
    """Relaxations of a campaign that say nothing of a minimum, counted per charge state."""
    lost = Counter(
        (c.defect, c.charge)
        for c in calculations
        if c.defect is not None
        and c.kind is CalculationKind.RELAX
        and _wanted(c.defect, options)
        and not _is_minimum(c)
    )
    return [
        f"{defect} {charge_text(charge)}: {n} relaxations failed or did not end and are left out"
        for (defect, charge), n in sorted(lost.items())
    ]


def _label(calculation: Calculation) -> str:
    """Name of a minimum; campaigns give one start structure's name to several relaxations."""
    if calculation.imported is not None:
        return calculation.start
    return f"{calculation.start} [{calculation.job_uuid[:8]}]"


def _wanted(defect: str, options: LevelOptions) -> bool:
    return not options.defects or defect in options.defects


def _fidelity(calculations: list[Calculation], options: LevelOptions) -> str:
    found = sorted({c.fidelity for c in calculations})
    if options.fidelity is not None:
        if options.fidelity not in found:
            raise ResultsError(
                f"fidelity {options.fidelity!r}: no calculation has it; there are "
                f"{', '.join(found) or 'none'}."
            )
        return options.fidelity
    if len(found) != 1:
        raise ResultsError(
            f"calculations of {len(found)} fidelities in the store"
            + (f" ({', '.join(found)}); choose with --fidelity." if found else "; import some.")
        )
    return found[0]


def _edges(host: HostCell, options: LevelOptions) -> tuple[BandEdges, str]:
    own = host.calculation.band_edges
    vbm = options.vbm if options.vbm is not None else (own.vbm if own else None)
    gap = options.gap if options.gap is not None else (own.gap if own else None)
    if vbm is None or gap is None:
        raise ResultsError(
            f"{host.calculation.start}: the host's band edges are not known; give them with "
            "--vbm and --gap."
        )
    given = [name for name in ("vbm", "gap") if getattr(options, name) is not None]
    source = f"{host.calculation.start}" if len(given) < 2 else ""
    return BandEdges(vbm=vbm, cbm=vbm + gap), " and ".join(
        [*([f"given ({', '.join(given)})"] if given else []), *([source] if source else [])]
    )


@dataclass
class _Work:
    """Turns calculations into charge states, and remembers what to tell about them."""

    corrector: Corrector
    hosts: list[HostCell]
    edges: BandEdges
    options: LevelOptions
    states: list[ChargeState] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origins: dict[str, tuple[Calculation, HostCell]] = field(default_factory=dict)

    def add(self, calculation: Calculation) -> None:
        structure, energy = calculation.final_structure, calculation.final_energy
        assert structure is not None
        assert energy is not None
        assert calculation.defect is not None
        where = f"{calculation.start} ({calculation.defect} {calculation.charge:+d})"
        cell = structure.lattice.matrix
        host = next((h for h in self.hosts if _same(h, cell)), None)
        if host is None:
            self.notes.append(f"{where}: left out, no host on its lattice")
            return
        if not calculation.converged:
            self.notes.append(f"{where}: not relaxed to its end; its energy is too high")
        correction = self.corrector.correct(calculation, host)
        if correction is not None and (correction.spread or 0.0) > WIDE_SPREAD:
            self.notes.append(
                f"{where}: potentials far away spread by {correction.spread:.2f} V; the charge is "
                "not localised at the site, or the cell is too small"
            )
        self.origins[_label(calculation)] = (calculation, host)
        self.states.append(
            ChargeState(
                defect=calculation.defect,
                charge=calculation.charge,
                label=_label(calculation),
                energy=energy,
                correction=correction,
                formation=self._formation(calculation, host, correction),
                ground=False,
                above=0.0,
                perturbed_host=_perturbed(calculation, host, correction),
            )
        )

    def _formation(
        self, calculation: Calculation, host: HostCell, correction: Correction | None
    ) -> float:
        assert calculation.final_energy is not None
        taken = exchange_energy(exchanged(calculation, host), self.options.mu)
        corrected = calculation.final_energy + (correction.energy if correction else 0.0)
        return corrected - host.energy - taken + calculation.charge * self.edges.vbm


def _same(host: HostCell, cell: np.ndarray) -> bool:
    return bool(np.allclose(host.structure.lattice.matrix, cell, atol=SAME_CELL))


def _perturbed(
    calculation: Calculation, host: HostCell, correction: Correction | None
) -> str | None:
    """Whether eigenvalues say that the carriers are in the host's bands."""
    cell = frontier_levels(calculation)
    if cell is None or host.frontier is None:
        return None
    far = correction.far_potential if correction is not None else None
    # An electron feels the potential with the other sign.
    return perturbed_host(cell, host.frontier, shift=-(far or 0.0))


def grounds_marked(states: list[ChargeState]) -> list[ChargeState]:
    """Mark the lowest minimum of every charge, and sort.

    Parameters
    ----------
    states
        Minima, in any order.

    Returns
    -------
    list of ChargeState
        By defect, the more positive charges first, the lowest minimum first.
    """
    lowest: dict[tuple[str, int], float] = {}
    for state in states:
        key = (state.defect, state.charge)
        lowest[key] = min(lowest.get(key, state.formation), state.formation)
    ordered = sorted(states, key=lambda s: (s.defect, -s.charge, s.formation, s.label))
    seen: set[tuple[str, int]] = set()
    marked = []
    for state in ordered:
        key = (state.defect, state.charge)
        above = state.formation - lowest[key]
        marked.append(state.model_copy(update={"ground": key not in seen, "above": above}))
        seen.add(key)
    return marked


def levels_of(
    states: list[ChargeState], edges: BandEdges
) -> tuple[list[LevelPair], list[NegativeU]]:
    """Levels between the ground states of every defect.

    Parameters
    ----------
    states
        With the ground states marked.
    edges
        Band edges of the host.

    Returns
    -------
    levels, skipped
        Stable and metastable levels, and the charges that are passed by.
    """
    levels: list[LevelPair] = []
    skipped: list[NegativeU] = []
    for defect in dict.fromkeys(s.defect for s in states):
        energies = {s.charge: s.formation for s in states if s.defect == defect and s.ground}
        shallow = {s.charge for s in states if s.defect == defect and s.ground and s.perturbed_host}
        for found in crossings(energies):
            levels.append(
                LevelPair(
                    defect=defect,
                    from_charge=found.upper,
                    to_charge=found.lower,
                    energy=found.energy,
                    stable=found.stable,
                    in_gap=0.0 <= found.energy <= edges.gap,
                    perturbed_host=[q for q in (found.upper, found.lower) if q in shallow],
                )
            )
        skipped += negative_u(defect, energies)
    return levels, skipped


def _general_notes(
    states: list[ChargeState], tensor: np.ndarray | None, options: LevelOptions
) -> list[str]:
    notes = []
    charged = [s for s in states if s.charge]
    if tensor is None or options.method is CorrectionMethod.NONE:
        if charged:
            notes.append(
                "no finite-size correction: levels of charged cells are off by tenths of an eV "
                "in cells of this size; give --dielectric"
            )
    elif options.method is CorrectionMethod.POINT_CHARGE:
        notes.append(
            "point-charge correction only, without potential alignment: often no better than none"
        )
    if not options.mu and not options.limits:
        notes.append(
            "no chemical potentials: formation energies of one defect compare with each other, "
            "not with those of other defects"
        )
    return notes

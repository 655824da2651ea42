"""Chemical-potential limits: what formation energies and concentrations are at each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results.correcting import HostCell
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.levels import ChargeState, ChemicalLimit, LimitEnergy
from defect_mf_flows.schemas.structures import symbols_of

Origin = tuple[Calculation, HostCell]

#: eV per atom; doped warns from here on, since an antisite's formation energy is off by twice that.
TOLERANCE = 0.025


def exchanged(calculation: Calculation, host: HostCell) -> dict[str, int]:
    """Atoms that a defect adds to its host (positive) or removes (negative).

    Parameters
    ----------
    calculation
        Of the defect; its last geometry counts.
    host
        Pristine cell on the same lattice.
    """
    assert calculation.final_structure is not None
    change = Counter(symbols_of(calculation.final_structure))
    change.subtract(Counter(symbols_of(host.structure)))
    return {symbol: n for symbol, n in change.items() if n}


def exchange_energy(change: Mapping[str, int], mu: Mapping[str, float]) -> float:
    """Energy of the atoms that a defect takes from their reservoirs, eV; those without count 0."""
    return sum(n * mu.get(symbol, 0.0) for symbol, n in change.items())


def limits_of(
    states: list[ChargeState],
    origins: Mapping[str, Origin],
    host: HostCell,
    *,
    mu: Mapping[str, float],
    limits: Mapping[str, Mapping[str, float]],
) -> list[ChemicalLimit]:
    """Formation energies at every limit.

    Parameters
    ----------
    states
        Minima, with formation energies at ``mu``.
    origins
        Calculation and host per label of a state.
    host
        Its energy per formula unit is what the potentials of a limit have to add up to.
    mu
        Chemical potential of elements that a limit does not name, eV per atom.
    limits
        Chemical potential per element and name of the limit, eV per atom, on the scale of the
        calculations' energies.

    Returns
    -------
    list of ChemicalLimit
        In the given order, without concentrations.

    Raises
    ------
    ResultsError
        If an element of host or defects is missing, or a sum differs from the host's energy by
        more than ``TOLERANCE`` per atom; one error for all limits.
    """
    changes = {s.label: exchanged(*origins[s.label]) for s in states}
    every = {name: {**mu, **given} for name, given in limits.items()}
    _check(every, host, {symbol for change in changes.values() for symbol in change})
    return [
        ChemicalLimit(
            name=name,
            mu=here,
            formation=[
                LimitEnergy(
                    defect=s.defect,
                    charge=s.charge,
                    label=s.label,
                    energy=s.formation
                    + exchange_energy(changes[s.label], mu)
                    - exchange_energy(changes[s.label], here),
                    ground=s.ground,
                )
                for s in states
            ],
        )
        for name, here in every.items()
    ]


def _check(limits: Mapping[str, Mapping[str, float]], host: HostCell, moved: set[str]) -> None:
    unit, units = host.structure.composition.get_reduced_composition_and_factor()
    energy, tolerance = host.energy / units, TOLERANCE * unit.num_atoms
    needed = {element.symbol for element in unit.elements} | moved
    wrong = []
    for name, mu in limits.items():
        if missing := sorted(needed - set(mu)):
            wrong.append(f"{name} has no chemical potential of {', '.join(missing)}")
            continue
        total = sum(n * mu[element.symbol] for element, n in unit.items())
        if abs(total - energy) > tolerance:
            wrong.append(
                f"{name} adds up to {total:.3f} eV per {unit.reduced_formula}, and the host "
                f"({host.calculation.start}) has {energy:.3f} eV"
            )
    if wrong:
        raise ResultsError(
            f"limits: {'; '.join(wrong)}. Give every element of host and defects in eV per atom, "
            "on the scale of the calculations' energies; over the host's formula unit they add up "
            f"to its energy within {tolerance:.3f} eV ({1000 * TOLERANCE:.0f} meV per atom)."
        )

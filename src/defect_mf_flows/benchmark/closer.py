"""A pool whose fidelities agree better than they do, to see what their disagreement costs.

On geometries that both fidelities have labelled, ``low + x (high - low)`` is a potential energy
surface as smooth as theirs, with forces that are its gradient. With x from 1 to 0 it goes from
the high fidelity to the low one, and everything else stays what it was.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from defect_mf_flows.benchmark.pool import Pool, PoolPoint
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.frame import Frame


def bring_closer(pool: Pool, disagreement: float) -> Pool:
    """Replace every high label by one that differs from the low label by less.

    Parameters
    ----------
    pool
        Labels of both fidelities.
    disagreement
        Share of the difference between high and low that stays: 1 is the high fidelity itself.

    Returns
    -------
    Pool
        With energies (eV per cell) and forces (eV/A) ``low + disagreement * (high - low)`` as the
        high labels, under a name of their own.

    Raises
    ------
    DatasetError
        If the share is not between 0 and 1, or only one of two labels has forces.
    """
    if not 0 < disagreement < 1:
        raise DatasetError(f"disagreement {disagreement:g} must lie between 0 and 1.")
    low, high = pool.heads
    name = f"{high}_at_{disagreement:g}"
    hosts = {key: frame for key, frame in pool.hosts.items() if key[1] == low}
    for (cell, fidelity), frame in pool.hosts.items():
        if fidelity == high:
            hosts[cell, name] = _between(pool.hosts[cell, low], frame, disagreement, name)
    return replace(
        pool,
        small=[_closer(point, disagreement, name) for point in pool.small],
        large=[_closer(point, disagreement, name) for point in pool.large],
        hosts=hosts,
        heads=(low, name),
        method=f"{low} + {disagreement:g} ({high} - {low})",
        about=f"{pool.about}. {name} is no method: its labels are those of {low} plus "
        f"{disagreement:g} times what {high} adds to them on the same geometry",
    )


def _closer(point: PoolPoint, disagreement: float, name: str) -> PoolPoint:
    return replace(point, high=_between(point.low, point.high, disagreement, name))


def _between(low: Frame, high: Frame, share: float, name: str) -> Frame:
    if (low.forces is None) != (high.forces is None):
        raise DatasetError(
            f"a geometry of charge {low.charge:+d} has forces of one fidelity and not of the "
            "other; labels between the two would have none."
        )
    forces = None
    if low.forces is not None and high.forces is not None:
        forces = np.asarray(low.forces) + share * (np.asarray(high.forces) - np.asarray(low.forces))
    return Frame(
        structure=high.structure,
        charge=high.charge,
        spin=high.spin,
        fidelity=name,
        energy=low.energy + share * (high.energy - low.energy),
        forces=forces,
        lineage=high.lineage,
    )

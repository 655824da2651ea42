"""The minimiser of reference relaxations: few force calls, and it can go on after a kill."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.optimize.precon import Exp, PreconLBFGS
from ase.optimize.precon.precon import Precon

from defect_mf_flows.core.springs import springs

#: Longest step of an atom, Angstrom.
LONGEST = 0.3
#: Scale of the preconditioner before any curvature has been seen, eV/Angstrom^2.
FIRST_SCALE = 5.0
#: Bounds of that scale, eV/Angstrom^2.
SCALES = (1.0, 30.0)
#: A known curvature counts at least this share of its median: what is softer, or bends
#: downwards, is known least, and a step along it would be the longest.
SOFTEST = 0.15


class KnownCurvature(Precon):
    """Second derivatives known beforehand, as far as they bend upwards.

    Parameters
    ----------
    matrix
        Shape (3 n_atoms, 3 n_atoms), eV/Angstrom^2. Negative curvatures count by their size, soft
        ones as ``SOFTEST`` of the median.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        values, self.modes = np.linalg.eigh(0.5 * (matrix + matrix.T))
        values = np.abs(values)
        self.values = np.maximum(values, SOFTEST * np.median(values))

    def make_precon(self, atoms: Atoms, reinitialize: bool | None = None) -> None:
        """Stay as it is, wherever the atoms go."""

    def Pdot(self, x: np.ndarray) -> np.ndarray:
        """Forces of a displacement, with the sign changed."""
        return np.asarray(self.modes @ (self.values * (self.modes.T @ x)))

    def solve(self, x: np.ndarray) -> np.ndarray:
        """Displacement that such forces ask for."""
        return np.asarray(self.modes @ ((self.modes.T @ x) / self.values))

    def copy(self) -> KnownCurvature:
        """Copy; it never changes, so it is its own."""
        return self

    def asarray(self) -> np.ndarray:
        """The matrix."""
        return np.asarray((self.modes * self.values) @ self.modes.T)


class Relaxer(PreconLBFGS):
    """Limited-memory BFGS that begins from springs between neighbours, or a known curvature.

    It spares steps where many atoms move together: Packwood et al., J. Chem. Phys. 144, 164109
    (2016). That work measures the springs' scale with an extra
    force call and searches along lines. Here the scale is the median curvature along the steps
    taken so far, and every step costs one force call, because a call may be an hour of HSE06.

    The sum of all forces is taken off: it is noise of the reference, and nothing holds the cell as
    a whole, so that with it the cell would drift further than its atoms relax.

    What it does next depends on the geometries and forces that it has seen and on nothing else, so
    a relaxation that was killed goes on as if it had not been.

    Parameters
    ----------
    atoms
        To relax, at the geometry where the relaxation begins.
    curvature
        Second derivatives of another method's energy there, shape (3 n_atoms, 3 n_atoms),
        eV/Angstrom^2, instead of springs: those of a model at its own minimum, say.

    Attributes
    ----------
    guide_calls, given_up
        Of a relaxation that another method guides; none here.
    """

    guide_calls: int = 0
    given_up: str = ""

    def __init__(self, atoms: Atoms, curvature: np.ndarray | None = None) -> None:
        known: Precon = (
            springs(atoms, scale=FIRST_SCALE) if curvature is None else KnownCurvature(curvature)
        )
        super().__init__(atoms, logfile=None, precon=known, maxstep=LONGEST)
        self._curvatures: list[float] = []

    def step(self, f: np.ndarray | None = None) -> None:
        """Move the atoms once.

        Parameters
        ----------
        f
            Forces, eV/Angstrom; not given, those of the atoms.
        """
        forces = self.atoms.get_forces() if f is None else f
        super().step(forces - forces.mean(axis=0))

    def update(
        self, r: np.ndarray, f: np.ndarray, r0: np.ndarray | None, f0: np.ndarray | None
    ) -> None:
        """Learn from a step; ASE calls this, also when it replays a path.

        Parameters
        ----------
        r, f
            Positions, Angstrom, and forces, eV/Angstrom, now.
        r0, f0
            Before the step; None at the beginning.
        """
        if r0 is not None and f0 is not None:
            step, change = (r - r0).ravel(), f0 - f
            change = (change - change.mean(axis=0)).ravel()
            curvature = float(step @ change)
            if curvature > 0:  # else the step says nothing of a minimum
                self._scale_springs(r, step, curvature)
                self.s.append(step)
                self.y.append(change)
                self.rho.append(1.0 / curvature)
        self._just_reset_hessian = False
        if isinstance(self.precon, Exp):
            self.precon.P = None  # springs belong to one geometry and one scale

    def _scale_springs(self, positions: np.ndarray, step: np.ndarray, curvature: float) -> None:
        """Let springs be as stiff as the steps so far; a known curvature has its own scale."""
        if isinstance(self.precon, Exp):
            self._curvatures.append(curvature / self._springs_along(positions, step))
            self.precon.mu = float(np.clip(np.median(self._curvatures), *SCALES))

    def _springs_along(self, positions: np.ndarray, step: np.ndarray) -> float:
        """Curvature of springs of unit scale along a step."""
        atoms = self.atoms.copy()
        atoms.positions = positions
        self.precon.P = None
        self.precon.make_precon(atoms)
        return float(step @ self.precon.Pdot(step)) / float(self.precon.mu)

    def line_search(
        self, r: np.ndarray, g: np.ndarray, e: float, previously_reset_hessian: bool
    ) -> None:
        """Take the whole step, or as much of it as no atom moves too far.

        Parameters
        ----------
        r, g, e, previously_reset_hessian
            Geometry, gradient and energy, which a search along the line would need.
        """
        assert self.p is not None
        longest = float(np.linalg.norm(self.p.reshape(-1, 3), axis=1).max())
        if longest == 0.0:
            raise RuntimeError("only a sum of forces is left, which moves no atom: it is noise")
        self.alpha_k = min(1.0, self.maxstep / longest)
        self.e0 = self.e1 = e

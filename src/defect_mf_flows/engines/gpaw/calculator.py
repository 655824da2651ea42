"""One charged cell with GPAW: SCF with fallbacks, all of which end in the method asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, SCFError, all_changes

from defect_mf_flows.campaign.gpaw import GpawSettings
from defect_mf_flows.core.frontier import Frontier, KPoint, frontier_of
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.calculation import BandEdges

logger = logging.getLogger(__name__)

#: GPAW's own mixer, where Pulay mixing does not converge.
SECOND_MIXER = {"name": "msr1"}
#: What GPAW calls the functionals that it computed with.
NAMES = {"PBE": "PBE", "HSE06": "HYB_GGA_XC_HSE06"}
#: The broad smearing from which a hard case starts, as a multiple of the one asked for.
BROADER = 4.0
#: Occupations may miss the number of electrons by this much.
CHARGE_TOLERANCE = 1e-3


class PlaneWaveDFT(Calculator):
    """Energy and forces of one charge state; orbitals are handed on between ionic steps.

    A hybrid starts from PBE orbitals of the same geometry. An SCF that does not converge is
    tried again with another mixer, then from a solution with broader smearing. Every attempt
    ends with functional, cutoff, k-points and smearing as asked for, so that its labels belong
    to the same fidelity.

    Parameters
    ----------
    settings
        Functional, cutoff, grid and thresholds.
    charge
        Total charge of the cell.
    unpaired
        Unpaired electrons: 0 for a closed shell, a positive number to fix the moment, None to
        let GPAW find it.

    Attributes
    ----------
    notes
        What happened to attempts that failed in the last calculation, one line each.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE declares it so)

    def __init__(self, settings: GpawSettings, *, charge: int, unpaired: int | None) -> None:
        super().__init__()
        self.settings = settings
        self.unpaired = unpaired
        self.parameters["charge"] = charge
        self.notes: list[str] = []
        self._gpaw: Any = None

    # -- ASE's interface -------------------------------------------------------------------

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Converge the cell, then check charge and functional of what was computed.

        Raises
        ------
        SCFError
            If no attempt converged; the message names each.
        """
        super().calculate(atoms, properties or ["energy", "forces"], system_changes)
        self.notes = []
        assert self.atoms is not None
        solver = self._converged(self.atoms)
        self._check(solver)
        self._gpaw = solver
        self.results = {
            "energy": float(solver.get_potential_energy(self.atoms)),
            "forces": np.array(solver.get_forces(self.atoms)),
        }

    def band_edges(self) -> BandEdges | None:
        """Highest occupied and lowest empty eigenvalue over all k-points, eV; None for metals."""
        if self._gpaw is None:
            return None
        vbm, cbm = (float(edge) for edge in self._gpaw.get_homo_lumo())
        return BandEdges(vbm=vbm, cbm=cbm) if np.isfinite([vbm, cbm]).all() and cbm > vbm else None

    def frontier(self) -> Frontier | None:
        """Highest occupied and lowest empty eigenvalue of every k-point, eV."""
        solver = self._gpaw
        if solver is None:
            return None
        spins = solver.get_number_of_spins()
        weights = solver.get_k_point_weights()
        levels: list[tuple[KPoint, float, float]] = []
        for number, where in enumerate(solver.get_ibz_k_points()):
            kpoint = tuple(float(x) for x in where)
            full = float(weights[number]) * 2 / spins  # what occupations carry of a full level
            for spin in range(spins):
                energies = solver.get_eigenvalues(kpt=number, spin=spin)
                filled = solver.get_occupation_numbers(kpt=number, spin=spin) / full
                levels += [
                    (kpoint, float(e), float(f)) for e, f in zip(energies, filled, strict=True)
                ]
        return frontier_of(levels)

    # -- attempts, in order ----------------------------------------------------------------

    def _converged(self, atoms: Atoms) -> Any:
        """A converged solver at this geometry, by the first attempt that succeeds."""
        last, self._gpaw = self._gpaw, None  # after a failure its state is of no use
        attempts: list[tuple[str, Callable[[], Any]]] = []
        if last is not None and not self._hybrid:  # moved atoms leave GPAW's hybrids no eigenvalues
            attempts.append(("orbitals of the last geometry", lambda: self._run(last, atoms)))
        first = "PBE orbitals" if self._hybrid else "atomic orbitals"
        attempts += [
            (first, lambda: self._fresh(atoms)),
            (f"{first}, second mixer", lambda: self._fresh(atoms, mixer=SECOND_MIXER)),
            (
                f"{first}, broader smearing, then the one asked for",
                lambda: self._through_broad(atoms),
            ),
        ]
        from gpaw import ConvergenceError

        for name, attempt in attempts:
            try:
                return attempt()
            except ConvergenceError as error:
                note = (
                    f"SCF from {name}: {type(error).__name__} after at most "
                    f"{self.settings.max_iterations} steps"
                )
                self.notes.append(note)
                logger.warning("charge %+d: %s", self.parameters["charge"], note)
        raise SCFError("SCF did not converge: " + "; ".join(self.notes))

    @property
    def _hybrid(self) -> bool:
        return self.settings.functional != "PBE"

    def _fresh(self, atoms: Atoms, mixer: dict[str, Any] | None = None) -> Any:
        """From atomic orbitals; a hybrid from PBE orbitals of this geometry."""
        if not self._hybrid:
            return self._run(self._solver(atoms, "PBE", mixer=mixer), atoms)
        start = self._pbe(atoms, mixer)
        return self._run(
            _continued(start, self._solver(atoms, self.settings.functional, mixer=mixer), atoms),
            atoms,
        )

    def _through_broad(self, atoms: Atoms) -> Any:
        """With broader smearing first: it separates states that would swap occupations."""
        width = BROADER * self.settings.smearing
        broad = self._run(self._solver(atoms, "PBE", width=width), atoms)
        if self._hybrid:
            hybrid = self._solver(atoms, self.settings.functional, width=width)
            broad = self._run(_continued(broad, hybrid, atoms), atoms)
        asked = self._solver(atoms, self.settings.functional, mixer=SECOND_MIXER)
        return self._run(_continued(broad, asked, atoms), atoms)

    def _pbe(self, atoms: Atoms, mixer: dict[str, Any] | None) -> Any:
        return self._run(self._solver(atoms, "PBE", mixer=mixer), atoms)

    def _run(self, solver: Any, atoms: Atoms) -> Any:
        solver.get_potential_energy(atoms)
        return solver

    def _solver(
        self,
        atoms: Atoms,
        functional: str,
        *,
        mixer: dict[str, Any] | None = None,
        width: float | None = None,
    ) -> Any:
        """GPAW's calculator, told everything that decides the result."""
        from gpaw.new.ase_interface import GPAW

        s = self.settings
        pulay = {
            "name": "pulay",
            "beta": s.mixer.beta,
            "nmaxold": s.mixer.history,
            "weight": s.mixer.weight,
        }
        occupations: dict[str, Any] = {"name": "fermi-dirac", "width": width or s.smearing}
        spin: dict[str, Any] = {"spinpol": False}
        if self.unpaired != 0:
            occupations["fixmagmom"] = self.unpaired is not None
            moment = 1.0 if self.unpaired is None else self.unpaired
            spin = {"spinpol": True, "magmoms": [moment / len(atoms)] * len(atoms)}
        return GPAW(
            mode={"name": "pw", "ecut": s.encut},
            xc=functional,
            kpts={"size": tuple(s.kpoints or (1, 1, 1)), "gamma": True},
            charge=self.parameters["charge"],
            occupations=occupations,
            mixer=mixer or pulay,
            symmetry={"point_group": False},
            convergence={
                "density": s.density,
                "energy": s.energy,
                "eigenstates": s.eigenstates,
            },
            maxiter=s.max_iterations,
            txt=None,
            **spin,
        )

    # -- what was computed -------------------------------------------------------------------

    def _check(self, solver: Any) -> None:
        """Read charge, functional and moment back from the converged state.

        Raises
        ------
        ChargeError, FidelityError
            If they are not the ones asked for.
        """
        asked = self.parameters["charge"]
        bands = solver.dft.ibzwfs
        # Not raw, GPAW would scale the occupations themselves, in place.
        held = bands.spin_degeneracy * sum(
            bands.ibz.weight_k[k] * solver.get_occupation_numbers(kpt=k, spin=s, raw=True).sum()
            for k in range(len(bands.ibz))
            for s in range(bands.nspins)
        )
        found = solver.dft.setups.nvalence - held
        if abs(found - asked) > CHARGE_TOLERANCE:
            raise ChargeError(
                f"GPAW filled {held:.4f} electrons, a charge of {found:+.4f}, not {asked:+d}."
            )
        functional = solver.get_xc_functional()
        if functional != NAMES[self.settings.functional]:
            raise FidelityError(f"GPAW computed with {functional}, not {self.settings.functional}.")
        moment = abs(float(solver.get_magnetic_moment()))
        if self.unpaired and abs(moment - self.unpaired) > CHARGE_TOLERANCE:
            raise ChargeError(f"GPAW found a moment of {moment:.4f}, not {self.unpaired}.")


def _continued(found: Any, wanted: Any, atoms: Atoms) -> Any:
    """Let a solver begin with the orbitals and the density of another one.

    Parameters
    ----------
    found
        Converged, same cell, cutoff, k-points, charge and spin; it cannot be used any more.
    wanted
        Not yet run; may differ in functional, smearing and mixer.
    atoms
        The geometry of ``found``.

    Returns
    -------
    ASECalculator
        ``wanted``, ready to converge.
    """
    from gpaw.new.calculation import DFT

    old = found.dft
    builder = wanted.params.dft_component_builder(atoms, log=wanted.log, comm=old.comm)
    potentials = builder.create_potential_calculator()
    potential, energies, _ = potentials.calculate(old.density, old.ibzwfs, old.potential.vHt_x)
    wanted._dft = DFT.from_components(
        atoms,
        old.ibzwfs,
        old.density,
        potential,
        builder.setups,
        builder.create_scf_loop(),
        potentials,
        wanted.log,
        params=wanted.params,
        energies=energies,
        converge=False,
    )
    wanted._atoms = atoms.copy()
    return wanted

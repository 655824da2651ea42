"""Levels of a campaign: from verified, model and low-fidelity energies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from defect_mf_flows.campaign import Campaign
from defect_mf_flows.core.corrections import efnv, far_potential, point_charge
from defect_mf_flows.core.formation import negative_u
from defect_mf_flows.core.frontier import Frontier, perturbed_host
from defect_mf_flows.core.level_uncertainty import level_uncertainty
from defect_mf_flows.core.levels import Level, transition_levels
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.core.ranking import member_energies
from defect_mf_flows.core.starts import derived_seed
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.calculation import BandEdges, Calculation
from defect_mf_flows.schemas.defect import Defect, DefectSet
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod, LevelUncertainty
from defect_mf_flows.schemas.model import Calibration
from defect_mf_flows.schemas.results import (
    FormationEnergies,
    GroundState,
    SkippedCharge,
    TransitionLevel,
)
from defect_mf_flows.schemas.search import Exploration, SearchSet, VerificationSet

UNCORRECTED = "none (uncorrected for the finite cell)"
EFNV = "eFNV, from the core potentials of the verified minima"
MIXED = "eFNV where the calculations have core potentials, else point charges only"
POINT_CHARGE = (
    "point charges only (levels.dielectric), without potential alignment; often no better than none"
)


@dataclass
class CampaignLevels:
    """Levels of all defects of a campaign.

    Parameters
    ----------
    campaign, defects, exploration
        The campaign and its documents.
    hosts
        Calculation of the pristine cell per fidelity.
    grounds
        Verified ground states.
    verified
        High-fidelity calculation of a ground state per defect and charge, where it is known.
    """

    campaign: Campaign
    defects: DefectSet
    exploration: Exploration
    hosts: Mapping[str, Calculation]
    grounds: list[GroundState]
    verified: Mapping[tuple[str, int], Calculation] = field(default_factory=dict)
    #: Why ground states with core potentials have no eFNV correction.
    _refused: list[str] = field(default_factory=list, init=False)

    @property
    def method(self) -> str:
        """Which finite-size correction the levels carry."""
        if self.campaign.levels.dielectric is None:
            return UNCORRECTED
        methods = {correction.method for correction in self.corrections()}
        if CorrectionMethod.EFNV not in methods:
            text = POINT_CHARGE
        else:
            text = EFNV if methods == {CorrectionMethod.EFNV} else MIXED
        return f"{text}; {' '.join(self._refused)}" if self._refused else text

    def band_edges(self, fidelity: str) -> BandEdges | None:
        """Those of the host's calculation; given ones replace the high fidelity's alone."""
        given, found = self.campaign.levels, self.hosts[fidelity].band_edges
        if fidelity != self.campaign.roles.high:
            return found  # two codes count energies from different zeros
        vbm = given.vbm if given.vbm is not None else (found.vbm if found else None)
        gap = given.band_gap if given.band_gap is not None else (found.gap if found else None)
        return None if vbm is None or gap is None else BandEdges(vbm=vbm, cbm=vbm + gap)

    def corrections(self) -> list[Correction]:
        """One per charged ground state; the model's energy of the same minimum takes it too."""
        return self._corrections

    @cached_property
    def _corrections(self) -> list[Correction]:
        dielectric = self.campaign.levels.dielectric
        if dielectric is None:
            return []
        return [
            self._from_potentials(ground, dielectric)
            or point_charge(ground.structure, ground.charge, dielectric, defect=ground.defect)
            for ground in self.grounds
            if ground.charge
        ]

    def _from_potentials(self, ground: GroundState, dielectric: Any) -> Correction | None:
        """EFNV correction of a ground state; None where its calculation has no potentials."""
        own = self.verified.get((ground.defect, ground.charge))
        host = self.hosts[self.campaign.roles.high]
        if own is None or own.site_potentials is None or host.site_potentials is None:
            return None
        if own.final_structure is None or host.final_structure is None:
            return None
        try:
            return efnv(
                own.final_structure,
                host.final_structure,
                ground.charge,
                dielectric,
                potentials=np.array(own.site_potentials),
                host_potentials=np.array(host.site_potentials),
                defect=ground.defect,
                sources=[own.job_uuid, host.job_uuid],
            )
        except ResultsError as error:
            where = f"{ground.defect} {charge_text(ground.charge)}"
            self._refused.append(f"no eFNV for {where}: {error}")
            return None

    @cached_property
    def perturbed(self) -> dict[tuple[str, int], str]:
        """Verified ground states whose carriers are in the host's bands, and what was seen."""
        host = self.hosts[self.campaign.roles.high]
        bands = Frontier.of_levels(host.frontier)
        found = {}
        for key, own in self.verified.items():
            cell = Frontier.of_levels(own.frontier)
            if bands is None or cell is None:
                continue
            # An electron feels the potential with the other sign.
            seen = perturbed_host(cell, bands, shift=-(_far(own, host) or 0.0))
            if seen is not None:
                found[key] = seen
        return found

    def levels(self) -> list[TransitionLevel]:
        """Levels of the three sources side by side."""
        levels = []
        unfinished = {(g.defect, g.charge) for g in self.grounds if g.is_upper_bound}
        for defect in self.defects.defects:
            found = {
                source: self._of(defect, energies, self._fidelity(source))
                for source, energies in self._energies(defect).items()
            }
            high, model, low = found["hf"], found["model"], found["low"]
            for pair in sorted({*high, *model, *low}, reverse=True):
                levels.append(
                    TransitionLevel(
                        defect=defect.name,
                        from_charge=pair[0],
                        to_charge=pair[1],
                        model=model[pair].energy if pair in model else None,
                        hf=high[pair].energy if pair in high else None,
                        low=low[pair].energy if pair in low else None,
                        thermodynamic=pair in high and high[pair].thermodynamic,
                        perturbed_host=[q for q in pair if (defect.name, q) in self.perturbed],
                        unfinished=[q for q in pair if (defect.name, q) in unfinished],
                    )
                )
        return levels

    def formation(self) -> list[FormationEnergies]:
        """Formation energies that a diagram is drawn from."""
        found = []
        for defect in self.defects.defects:
            for source, energies in self._energies(defect).items():
                edges = self.band_edges(self._fidelity(source))
                if edges is None or not energies:
                    continue
                # Elements' energies cancel in differences from the least charged state.
                zero = energies[min(energies, key=lambda q: (abs(q), q))]
                found.append(
                    FormationEnergies(
                        defect=defect.name,
                        source=source,
                        charges=sorted(energies, reverse=True),
                        energies=[
                            energies[q] - zero + q * edges.vbm
                            for q in sorted(energies, reverse=True)
                        ],
                    )
                )
        return found

    def skipped(self) -> list[SkippedCharge]:
        """Charges that negative U passes by, per source."""
        return [
            SkippedCharge(
                defect=item.defect,
                charge=item.charge,
                source=of.source,
                upper=item.upper,
                lower=item.lower,
            )
            for of in self.formation()
            for item in negative_u(of.defect, dict(zip(of.charges, of.energies, strict=True)))
        ]

    def uncertainty(
        self, searches: SearchSet, verdicts: VerificationSet, calibration: Calibration | None
    ) -> list[LevelUncertainty]:
        """What the committee says of the levels and of their order.

        Parameters
        ----------
        searches, verdicts
            Of the last round.
        calibration
            Of its committee.

        Returns
        -------
        list of LevelUncertainty
            Per defect, of the model's levels and of the verified ones; empty without a committee
            or band edges.
        """
        edges = self.band_edges(self.campaign.roles.high)
        if edges is None:
            return []
        scale = 1.0 if calibration is None else calibration.absolute_scale or calibration.scale
        shift = {(c.defect, c.charge): c.energy for c in self.corrections()}
        found = []
        for defect in self.defects.defects:
            judged = {v.charge: v for v in verdicts.verifications if v.defect == defect.name}
            for source in ("model", "hf"):
                charges = {}
                for ground in (g for g in self.grounds if g.defect == defect.name):
                    energies = member_energies(
                        searches.get(defect.name, ground.charge),
                        judged[ground.charge] if source == "hf" else None,
                        shift=shift.get((defect.name, ground.charge), 0.0),
                    )
                    if energies is not None:
                        charges[ground.charge] = energies
                told = level_uncertainty(
                    defect.name,
                    source,
                    charges,
                    vbm=edges.vbm,
                    gap=edges.gap,
                    scale=scale,
                    seed=derived_seed(self.campaign.seed, f"levels of {defect.name}"),
                )
                found += [] if told is None else [told]
        return found

    def _fidelity(self, source: str) -> str:
        return self.campaign.roles.low if source == "low" else self.campaign.roles.high

    def _energies(self, defect: Defect) -> dict[str, dict[int, float]]:
        """Energy per source and charge, corrections included, eV per cell."""
        mine = [g for g in self.grounds if g.defect == defect.name]
        # With one charge's ground state open, which charges are stable is not known either.
        low_known = not any(g.low_unfinished for g in mine)
        found = {
            "hf": {g.charge: g.energy_hf for g in mine},
            "model": {g.charge: g.energy_model for g in mine if g.energy_model is not None},
            "low": {
                s.charge: s.minima[0].energy
                for s in self.exploration.searches
                if low_known and s.defect == defect.name and s.minima
            },
        }
        # That of the verified minimum: model and low fidelity have no potentials of their own.
        shift = {c.charge: c.energy for c in self.corrections() if c.defect == defect.name}
        return {
            source: {q: energy + shift.get(q, 0.0) for q, energy in energies.items()}
            for source, energies in found.items()
        }

    def _of(
        self, defect: Defect, energies: dict[int, float], fidelity: str
    ) -> dict[tuple[int, int], Level]:
        edges, host = self.band_edges(fidelity), self.hosts[fidelity]
        if edges is None or host.final_energy is None or len(energies) < 2:
            return {}
        levels = transition_levels(
            defect,
            self.defects.host,
            energies=energies,
            host_energy=host.final_energy,
            edges=edges,
        )
        return {(level.from_charge, level.to_charge): level for level in levels}


def _far(own: Calculation, host: Calculation) -> float | None:
    """Potential far from a defect against the host's, V; None where it is not known."""
    if own.site_potentials is None or host.site_potentials is None:
        return None
    if own.final_structure is None or host.final_structure is None:
        return None
    try:
        return far_potential(
            own.final_structure,
            host.final_structure,
            potentials=np.array(own.site_potentials),
            host_potentials=np.array(host.site_potentials),
        )
    except ResultsError:  # the correction of the same potentials tells why
        return None

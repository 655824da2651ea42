"""A methods paragraph with citations, written from what a campaign did."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from defect_mf_flows.campaign.cp2k import Cp2kSettings
from defect_mf_flows.report import numbers
from defect_mf_flows.report.citations import WORKS, bibliography
from defect_mf_flows.report.formatting import ascii_number, plural
from defect_mf_flows.schemas.levels import CorrectionMethod
from defect_mf_flows.schemas.results import Results

STRATEGIES = {
    "joint": "on both fidelities at once, with a shared representation and a readout per fidelity",
    "high_only": "on the high fidelity alone",
    "transfer_frozen": "on the low fidelity first and then, with frozen lower layers, on the high",
    "transfer": "on the low fidelity first and then on the high",
    "delta": "on the low fidelity and on its difference from the high",
    "low_plus_constant": "on the low fidelity, with a constant per charge for the high",
}
CHARGE_TERMS = {
    "none": "without the charge as an input",
    "categorical": "with a learnable vector per charge state beside the embedding of the elements",
    "continuous": "with an embedding of the total charge",
    "per_charge": "with a network per charge state",
    "intensive": "with a learnable vector per charge state, atomic energies counted from those of "
    "the pristine host under the same charge",
}
CORRECTIONS = {
    CorrectionMethod.EFNV: ("efnv", "pydefect", "doped"),
    CorrectionMethod.FNV: ("fnv", "doped"),
    CorrectionMethod.POINT_CHARGE: ("anisotropic",),
}
SHELLS = "spdf"
#: Names and files of mace's models, without "mace-" and ".model".
FAMILY_MH = ("mh-0", "mh-1")
FAMILY_MP = re.compile(
    r"(small|medium|large)(-0b[23]?)?|mpa?-0(b[23]?)?(-(small|medium|large))?"
    r"|(small|medium)-(mpa|omat)-0|omat-0-(small|medium)|matpes-(pbe|r2scan)(-0|-omat-ft)"
    r"|[\d-]*mace-128-l[012]_.*|mace_mptrj_.*|.*agnesi.*"
)
KEPT_TOGETHER = {
    "relaxation": "all frames of a relaxation",
    "basin": "all relaxations into one minimum",
    "defect": "all charge states of a defect",
    "composition": "all cells of a composition",
}


@dataclass
class Writer:
    """Collects sentences, and numbers what they cite in the order of their first use."""

    sentences: list[str] = field(default_factory=list)
    cited: list[str] = field(default_factory=list)

    def cite(self, *keys: str) -> str:
        """Mark of a citation, for example ``" [1,3]"``."""
        for key in keys:
            if key not in self.cited:
                self.cited.append(key)
        places = sorted(self.cited.index(key) + 1 for key in keys)
        return f" [{','.join(map(str, places))}]" if places else ""

    def say(self, sentence: str) -> None:
        """Add a sentence."""
        self.sentences.append(sentence)

    def references(self) -> list[str]:
        """The list of references."""
        return [f"[{i}] {WORKS[key].text()}" for i, key in enumerate(self.cited, start=1)]


@dataclass(frozen=True)
class MethodsText:
    """A paragraph and its references.

    Attributes
    ----------
    paragraph
        Plain text.
    references
        One per citation, numbered as in the paragraph.
    cited
        What they are called in ``citations.WORKS``, in the same order.
    """

    paragraph: str
    references: list[str]
    cited: list[str]

    def text(self) -> str:
        """Paragraph and references, to paste into a manuscript."""
        return self.paragraph + "\n\n" + "\n".join(self.references)

    def bibtex(self) -> str:
        """The references as a BibTeX file."""
        return bibliography(self.cited)


def write_references(text: MethodsText, folder: Path) -> Path:
    """Write ``references.bib`` beside the tables.

    Parameters
    ----------
    text
        The methods paragraph that cites them.
    folder
        Exists.

    Returns
    -------
    Path
        The file.
    """
    path = folder / "references.bib"
    partial = path.with_suffix(".part")
    partial.write_text(text.bibtex(), encoding="utf-8")
    partial.replace(path)
    return path


def methods(results: Results, *, fireworks: bool = False) -> MethodsText:
    """Write the methods paragraph of a campaign.

    Parameters
    ----------
    results
        What the campaign found and did.
    fireworks
        Whether its jobs ran through FireWorks.

    Returns
    -------
    MethodsText
        Of what the documents record, and no more.
    """
    writer = Writer()
    _system(writer, results)
    _reference_methods(writer, results)
    _labels(writer, results)
    _model(writer, results)
    _search(writer, results)
    _verification(writer, results)
    _levels(writer, results)
    _programs(writer, results, fireworks=fireworks)
    if results.disclaimer:
        writer.say(f"Note: {' '.join(results.disclaimer.split())}")
    return MethodsText(" ".join(writer.sentences), writer.references(), writer.cited)


def _calls(results: Results, stage: str) -> tuple[int, int]:
    """Calculations and evaluations of a stage."""
    mine = [c for c in results.cost if c.stage == stage]
    return sum(c.jobs for c in mine), sum(c.calls for c in mine)


def _listed(items: Iterable[str]) -> str:
    *rest, last = [*items] or ["none"]
    return f"{', '.join(rest)} and {last}" if rest else last


def _charges(results: Results, defect: str) -> str:
    found = sorted((g.charge for g in results.ground_states if g.defect == defect), reverse=True)
    return ", ".join(f"{q:+d}" if q else "0" for q in found)


def _system(writer: Writer, results: Results) -> None:
    host, names = results.host, numbers.defects(results)
    told = _listed(f"{name} ({_charges(results, name)})" for name in names)
    writer.say(
        f"Charged point defects in {host.get('formula', 'the host')} were generated with doped"
        f"{writer.cite('doped')} in a supercell of {host.get('n_atoms', '?')} atoms: {told}."
    )
    relaxations, _ = _calls(results, "low fidelity")
    writer.say(
        f"Their structures were searched by the multi-fidelity approach of Wang et al."
        f"{writer.cite('multifidelity')}, following Mosquera-Lois et al.{writer.cite('search')}: "
        f"{plural(relaxations, 'start structure')}, mainly bond distortions and rattles from "
        f"ShakeNBreak{writer.cite('shakenbreak', 'snb_method')}, "
        f"{'was' if relaxations == 1 else 'were'} relaxed at the low fidelity "
        f"({results.fidelities.get('low', '?')})."
    )


def _reference_methods(writer: Writer, results: Results) -> None:
    parts = []
    for role, name in results.fidelities.items():
        engine = results.engines.get(name) or {}
        parts.append(f"the {role} fidelity was {_engine(writer, name, engine)}")
    if parts:
        sentence = "; ".join(parts)
        writer.say(f"{sentence[0].upper()}{sentence[1:]}.")


def _engine(writer: Writer, name: str, engine: dict[str, Any]) -> str:
    settings = engine.get("settings") or {}
    kind = engine.get("engine")
    limit = f"relaxations ended at {engine['fmax']} eV/A" if "fmax" in engine else ""
    if kind == "xtb":
        method = settings.get("method", "GFN2-xTB")
        keys = {"GFN1-xTB": ("gfn1",), "GFN2-xTB": ("gfn2",)}.get(method, ())
        parts = [f"{method}{writer.cite(*keys)} as implemented in tblite, at the Gamma point"]
    elif kind == "cp2k":
        parts = _cp2k(writer, settings)
    elif kind in ("vasp", "gpaw"):
        functional = settings.get("functional", name)
        keys = {"PBE": ("pbe",), "HSE06": ("hse",)}.get(functional, ())
        program = {"vasp": ("VASP", ("vasp", "paw")), "gpaw": ("GPAW", ("gpaw",))}[kind]
        parts = [
            f"{functional}{writer.cite(*keys)} as implemented in {program[0]}"
            f"{writer.cite(*program[1])}",
            *([f"plane-wave cutoff {settings['encut']:g} eV"] if "encut" in settings else []),
            _kpoints(settings),
            *_beyond(writer, settings),
        ]
    else:
        parts = [f"{name} ({settings.get('calculator', kind)}) through ASE{writer.cite('ase')}"]
    return ", ".join(part for part in [*parts, limit] if part)


def _cp2k(writer: Writer, settings: dict[str, Any]) -> list[str]:
    known = Cp2kSettings.model_validate(settings)
    return [
        f"{known.functional}{writer.cite('pbe')} as implemented in CP2K{writer.cite('cp2k')}",
        f"basis {', '.join(dict.fromkeys([known.basis, *known.bases.values()]))}"
        f"{writer.cite('molopt')}",
        f"{known.potential} pseudopotentials{writer.cite('gth')}",
        f"grid cutoff {known.cutoff:g} Ry",
        "Gamma point only",
    ]


def _beyond(writer: Writer, settings: dict[str, Any]) -> list[str]:
    """What was added to the functional."""
    parts = []
    if damping := settings.get("dispersion"):
        bj = damping == "D3-BJ"
        keys = ("d3", "d3_bj") if bj else ("d3",)
        how = "Becke-Johnson" if bj else "zero"
        parts.append(f"DFT-D3 dispersion with {how} damping{writer.cite(*keys)}")
    if hubbard := settings.get("hubbard"):
        told = _listed(
            f"{item['u']:g} eV on {element} {SHELLS[item['l']]}"
            for element, item in hubbard.items()
        )
        parts.append(f"DFT+U after Dudarev et al.{writer.cite('dudarev')} with {told}")
    if settings.get("soc"):
        parts.append("spin-orbit coupling included")
    return parts


def _kpoints(settings: dict[str, Any]) -> str:
    if settings.get("gamma_only"):
        return "Gamma point only"
    if settings.get("kpoints"):
        return "x".join(map(str, settings["kpoints"])) + " Gamma-centred k-points"
    if settings.get("kpoint_density"):
        return f"k-point density {settings['kpoint_density']:g}"
    return ""


def _labels(writer: Writer, results: Results) -> None:
    counts, high = results.counts, results.fidelities.get("high")
    frames = counts.get("frames", {}).get(results.fidelities.get("low"), 0)
    picked, sampler = counts.get("picked"), results.settings.get("picks", {}).get("sampler")
    labels = counts.get("labels", {})
    if not picked:
        return
    how = f" by {sampler} sampling" if sampler else ""
    kept = "; ".join(f"{n} with {name}" for name, n in labels.items())
    writer.say(
        f"Of the {frames} frames of these relaxations, {picked} were chosen{how} for "
        f"single points at the high fidelity ({high}). The last training set held {kept}."
    )
    relaxed = results.settings.get("picks", {}).get("relaxations")
    if relaxed:
        rattle = results.settings["picks"]["rattle"]
        writer.say(
            f"Before the first model, {plural(relaxed, 'start')} of every charge state, whose "
            f"atoms were displaced at random (standard deviation {rattle:g} of the shortest bond), "
            f"{'was' if relaxed == 1 else 'were'} relaxed with {high}; these frames trained too."
        )
    minima = results.settings.get("picks", {}).get("low_minima")
    if minima:
        writer.say(
            f"The {plural(minima, 'lowest minimum', 'lowest minima')} of every charge state's "
            f"low-fidelity search {'was' if minima == 1 else 'were'} relaxed with {high} before "
            "the first model as well; these frames trained, too."
        )


def _model(writer: Writer, results: Results) -> None:
    training = results.settings.get("training", {})
    strategy = STRATEGIES.get(training.get("strategy", ""), "")
    term = CHARGE_TERMS.get(training.get("charge_term", ""), "")
    size = training.get("committee", 1)
    what = f"A committee of {size} MACE potentials" if size > 1 else "A MACE potential"
    rest = ", ".join(part for part in (strategy, term) if part)
    together = KEPT_TOGETHER.get(results.settings.get("split", {}).get("by", ""), "")
    writer.say(
        f"{what}{writer.cite('mace')} was trained{_foundation(writer, training)}"
        f"{' ' + rest if rest else ''}"
        f"{f'; {together} stayed on one side of the split' if together else ''}."
    )
    if training.get("replay"):
        writer.say(
            f"Frames of {PurePath(training['replay']).name} were replayed on a head of their own "
            f"(multi-head replay{writer.cite('mace_mh')}), which was taken off at the end."
        )
    if training.get("high_prior"):
        writer.say(
            "By chance, a quarter of the labels of lower fidelity in each epoch taught the head of "
            f"the highest instead of their own, with {training['high_prior']:g} of their weight "
            "and their energies shifted by the reference energies."
        )
    errors = numbers.held_out(results)
    if errors:
        told = _listed(
            f"{ascii_number(e.energy_cell, 1)} meV per cell ({ascii_number(e.energy_atom, 2)} "
            f"meV per atom) and {ascii_number(e.force, 1)} meV/A for {e.head}"
            for e in errors
        )
        writer.say(f"Root-mean-square errors on held-out frames were {told}.")


def _foundation(writer: Writer, training: dict[str, Any]) -> str:
    """Which weights the training started from; models that we cannot place are left to the user."""
    if not training.get("foundation"):
        return ""
    name = PurePath(training["foundation"]).name
    head = f" (head {training['foundation_head']})" if training.get("foundation_head") else ""
    plain = name.lower().removesuffix(".model").removeprefix("mace-")
    if plain in FAMILY_MH:
        cited = writer.cite("mace_mh")
    elif FAMILY_MP.fullmatch(plain):
        cited = writer.cite("mace_mp")
    else:
        cited = " (whose publication is to be cited here)"
    return f" from the weights of the foundation model {name}{head}{cited}"


def _search(writer: Writer, results: Results) -> None:
    starts, calls = _calls(results, "search")
    if not starts:
        return
    rounds = len(results.rounds)
    writer.say(
        f"On its high-fidelity head, {plural(starts, 'relaxation')} ({calls} force evaluations, "
        f"FIRE{writer.cite('fire')}) over {plural(rounds, 'round')} gave the minima, which were "
        f"told apart by SOAP vectors{writer.cite('soap', 'dscribe')} at the defect site, energy "
        "and, where these do not decide, a comparison of the atoms up to symmetry."
    )
    trust = results.settings.get("search", {}).get("trust")
    if trust is not None:
        writer.say(
            "Ends were refused where the distance of an atom's node features from the training "
            f"set{writer.cite('trust')} is one at which labels held out from training were off "
            f"by more than {trust:g} eV per cell (root mean square)."
        )


def _low_check(writer: Writer, results: Results) -> None:
    limit = results.settings.get("verification", {}).get("low_check")
    if limit is None:
        return
    rounds = results.settings.get("loop", {}).get("low_rounds")
    first = "round" if rounds == 1 else f"{rounds} rounds"
    alone = f"; the first {first} asked the low fidelity alone" if rounds else ""
    writer.say(
        "Predicted minima were computed at the low fidelity first, and the high fidelity was not "
        f"asked where the model's low-fidelity head was off by more than {limit:g} eV per cell; "
        f"these labels train in the next round{alone}."
    )


def _verification(writer: Writer, results: Results) -> None:
    _low_check(writer, results)
    done, calls = _calls(results, "verification")
    counts = numbers.verdict_counts(results)
    told = _listed(f"{n} {verdict.value}" for verdict, n in counts.items() if n)
    settings = results.settings.get("verification", {})
    within, most = settings.get("relax_within"), settings.get("relaxations")
    kind = "relaxation" if within is None else "calculation"
    what = (
        "The lowest minima of every charge state were relaxed at the high fidelity"
        if within is None
        else "The lowest minima of every charge state got single points at the high fidelity, and "
        f"those within {within:g} eV of the lowest were relaxed"
        + (
            ""
            if most is None
            else f", {most} per charge state and round first and of the others those that might "
            "end lower by their forces"
        )
    )
    if settings.get("trace_verified"):
        what += (
            "; a prediction into which the model relaxed a minimum that had been verified at the "
            "same charge was taken for that minimum unless its single point lay lower"
        )
    writer.say(
        f"{what} ({plural(done, kind)}, {plural(calls, 'evaluation')}); of the model's "
        f"ground states {told}. The loop ended {results.stop.value}."
    )
    if settings.get("guided"):
        _, guiding = _calls(results, "low fidelity (guiding)")
        writer.say(
            "Relaxations at the high fidelity were guided by the low fidelity: each step led to "
            "the minimum of its energy surface, corrected by the difference of both at the steps "
            f"before (springs and a Gaussian process{writer.cite('gpmin')}; "
            f"{plural(guiding, 'evaluation')} at the low fidelity)."
        )
    if results.acquired:
        writer.say(
            f"Between rounds, {plural(len(results.acquired), 'geometry', 'geometries')} on which "
            "the committee disagreed "
            f"{'was' if len(results.acquired) == 1 else 'were'} labelled at the high fidelity."
        )


def _levels(writer: Writer, results: Results) -> None:
    if not results.transition_levels:
        return
    methods = dict.fromkeys(c.method for c in results.corrections)
    keys = dict.fromkeys(key for method in methods for key in CORRECTIONS.get(method, ()))
    writer.say(
        "Charge transition levels were computed from the verified energies; finite-size "
        f"correction{writer.cite(*keys)}: {results.correction}."
    )
    if results.uncertainty:
        first = results.uncertainty[0]
        fitted = "calibrated on validation labels" if results.calibration else "not calibrated"
        writer.say(
            f"Their uncertainty and that of their order is the spread of the {first.members} "
            f"members of the committee ({fitted}), carried through by {first.draws} draws."
        )


def _programs(writer: Writer, results: Results, *, fireworks: bool) -> None:
    versions = results.versions
    named = [
        f"{package} {versions[package]}"
        for package in ("defect-mf-flows", "jobflow", "mace-torch", "doped", "shakenbreak", "ase")
        if versions.get(package, "not installed") != "not installed"
    ]
    jobflow = writer.cite("jobflow")
    through = f" and FireWorks{writer.cite('fireworks')}" if fireworks else ""
    kinds = {str((e or {}).get("engine")) for e in results.engines.values()}
    vasp = f", VASP through atomate2{writer.cite('atomate2')}" if "vasp" in kinds else ""
    writer.say(
        f"The calculations ran as jobflow{jobflow} workflows{through}{vasp}"
        f"{' (' + ', '.join(named) + ')' if named else ''}; campaign "
        f"{results.campaign_hash[:16]}, seed {results.seeds.get('campaign', '?')}."
    )

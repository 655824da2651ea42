"""Tables of the HTML page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml
from markupsafe import Markup

from defect_mf_flows.report import numbers, words
from defect_mf_flows.report.formatting import (
    MISSING,
    defect_html,
    fate_text,
    is_number,
    level_html,
    milli,
    number,
    page_charge,
    start_text,
    state_html,
    tidy,
)
from defect_mf_flows.report.level_verdicts import level_verdict, verdict_text
from defect_mf_flows.report.theme import VERDICT_SIGN
from defect_mf_flows.schemas.model import Calibration, HeadMetrics
from defect_mf_flows.schemas.results import GroundState, Results
from defect_mf_flows.schemas.search import Verdict

Cell = str | Markup
#: Whose search found a ground state, in words.
FINDERS = {
    "low": "low fidelity",
    "label": "a label below both searches' ends",
    "rattled": "high fidelity, before the model",
}
MOST_FAILURES = 500  # rows of the list; the counts are always complete


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes
    ----------
    headers
        Column titles; a title that starts with ``#`` makes a column of numbers.
    rows
        Cells; plain strings are escaped by the template, Markup is not.
    total
        Last row, set apart, or None.
    notes
        A sentence under each row, or nothing.
    """

    headers: list[Cell]
    rows: list[list[Cell]] = field(default_factory=list)
    total: list[Cell] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[tuple[Cell, bool]]:
        """Title and whether the column holds numbers."""
        return [(type(h)(h.removeprefix("#")), h.startswith("#")) for h in self.headers]


def badge(verdict: Verdict) -> Markup:
    """Coloured badge of a verdict, told apart by sign and word as well."""
    return Markup('<span class="badge {0}">{1}&nbsp;{0}</span>').format(
        verdict.value, VERDICT_SIGN[verdict]
    )


def start_cell(start: str) -> Cell:
    """Brief label of a start with the full one as a tooltip."""
    brief = start_text(start)
    if brief == start or not start:
        return brief
    return Markup('<abbr title="{}">{}</abbr>').format(start, brief)


def ground_state_table(results: Results) -> Table:
    """Ground states, one row per charge state."""
    table = Table(
        [
            "State",
            "Verdict",
            "#E high fidelity (eV/cell)",
            "#Model error (meV/cell)",
            "#RMSD (Å)",
            "#Local RMSD (Å)",
            "#Max. shift (Å)",
            "Defect",
            "Found from",
            "Low-fidelity ground state",
            "#It lies above by (meV)",
            "#Minima",
        ]
    )
    for g in results.ground_states:
        finder = Markup("{} <small>({})</small>").format(
            start_cell(g.start), FINDERS.get(g.found_by, g.found_by)
        )
        table.rows.append(
            [
                defect_html(g.defect, g.charge),
                badge(g.verdict),
                number(g.energy_hf) + (" §" if g.is_upper_bound else ""),
                milli(g.energy_error, 1, signed=True),
                number(g.rmsd),
                number(g.local_rmsd),
                number(g.max_displacement),
                fate_text(g.fate),
                finder,
                _low_cell(g),
                milli(g.low_excess, 1),
                str(g.n_minima),
            ]
        )
        note = tidy(g.reason)
        if g.next_energy is not None and g.next_spread is not None:
            note += (
                f"; the model's next minimum lies {1000 * g.next_energy:.0f} ± "
                f"{1000 * g.next_spread:.0f} meV above (committee)"
            )
        if g.is_upper_bound:
            note += f"; § {words.upper_bound(g)}"
        table.notes.append(note)
    return table


def _low_cell(ground: GroundState) -> Cell:
    if not ground.low_start:
        return MISSING
    word, sign = ("upheld", "✓") if ground.low_is_ground_state else ("refuted", "✗")
    if ground.low_is_open:
        word, sign = "open", "?"
    return Markup('<span class="{1}">{0}&nbsp;{1}</span> <small>({2})</small>').format(
        sign, word, start_cell(ground.low_start)
    )


def level_table(results: Results) -> Table:
    """Transition levels above the valence-band maximum."""
    table = Table(
        [
            "Level",
            "#High fidelity (eV)",
            "#Model (eV)",
            "#Low fidelity alone (eV)",
            "#Model − high (meV)",
            "#Low − high (meV)",
            "Thermodynamic",
        ]
    )
    for level in results.transition_levels:
        table.rows.append(
            [
                level_html(level.defect, level.from_charge, level.to_charge),
                *(_level_cell(v, results) for v in (level.hf, level.model, level.low)),
                milli(numbers.difference(level.model, level.hf), 1, signed=True),
                milli(numbers.difference(level.low, level.hf), 1, signed=True),
                ("yes" if level.thermodynamic else "no †")
                + (" ‡" if level.perturbed_host else "")
                + (" §" if level.unfinished else ""),
            ]
        )
        told = verdict_text(level_verdict(level, results))
        table.notes.append(Markup("Model: {}.").format(told) if told else "")
    return table


def _level_cell(value: float | None, results: Results) -> Cell:
    if not numbers.outside_gap(value, results):
        return number(value)
    return Markup('<span class="outside" title="outside the gap">{}&nbsp;◦</span>').format(
        number(value)
    )


def metrics_table(results: Results, *, held_out: bool) -> Table:
    """Errors per head and charge, of the held-out frames or of the others."""
    table = Table(
        [
            "Head",
            "#Charge",
            "Split",
            "#Frames",
            "#Energy RMSE (meV/cell)",
            "#Energy MAE (meV/cell)",
            "#Energy RMSE (meV/atom)",
            "#Relative energy RMSE (meV/cell)",
            "#Force RMSE (meV/Å)",
            "#Force MAE (meV/Å)",
        ]
    )
    for m in sorted_metrics(results):
        if (m.split == numbers.HELD_OUT) is held_out:
            table.rows.append(
                [
                    m.head,
                    page_charge(m.charge),
                    m.split,
                    str(m.n_frames),
                    number(m.energy_rmse_cell, 1),
                    number(m.energy_mae_cell, 1),
                    number(m.energy_rmse_atom, 2),
                    number(m.relative_energy_rmse_cell, 1),
                    number(m.force_rmse, 1),
                    number(m.force_mae, 1),
                ]
            )
    return table


def calibration_note(calibration: Calibration) -> str:
    """Coverage of a committee's spread, in one sentence."""
    parts = [
        f"{side}: "
        + ", ".join(f"{100 * float(k):.0f} % -> {100 * v:.0f} %" for k, v in shares.items())
        + f" of {calibration.n[side]}"
        for side, shares in calibration.coverage.items()
    ]
    return (
        f"committee's spread on {calibration.head}, times {calibration.scale:.2f} (fitted on "
        f"valid): nominal -> found coverage of relative energies; {'; '.join(parts)}"
    )


def training_table(results: Results) -> Table:
    """Which epoch of the last training the model is; no rows if that is not recorded."""
    table = Table(["#Kept weights of epoch", "#Last validated epoch"])
    if results.best_epoch is not None:
        last = max((e.epoch for e in results.history), default=None)
        table.rows.append([str(results.best_epoch), MISSING if last is None else str(last)])
        if results.calibration is not None:
            table.notes.append(calibration_note(results.calibration))
    return table


def sorted_metrics(results: Results) -> list[HeadMetrics]:
    """Metrics by split (held out first), head (low fidelity first) and charge."""
    heads = numbers.heads(results)
    splits = {split: i for i, split in enumerate(numbers.SPLITS)}
    return sorted(
        results.metrics,
        key=lambda m: (splits.get(m.split, 9), heads.index(m.head), -m.charge),
    )


def rounds_table(results: Results) -> Table:
    """Verdicts and errors, one row per round."""
    table = Table(
        [
            "#Round",
            *(f"#{v.value.capitalize()}" for v in Verdict),
            "#Mean |model error| (meV/cell)",
            "#Largest (meV/cell)",
            "#New labels",
        ]
    )
    for r in results.rounds:
        errors = [abs(v) for v in r.energy_errors.values() if is_number(v)]
        found = list(r.verdicts.values())
        table.rows.append(
            [
                str(r.round),
                *(str(found.count(v)) for v in Verdict),
                milli(sum(errors) / len(errors) if errors else None, 1),
                milli(max(errors, default=None), 1),
                str(r.new_labels),
            ]
        )
    return table


def round_states_table(results: Results) -> Table:
    """Verdict and model error of each charge state (rows) in each round (columns)."""
    table = Table(["State", *(f"Round {r.round}" for r in results.rounds)])
    for key in numbers.judged_states(results):
        row: list[Cell] = [state_html(key)]
        for r in results.rounds:
            if key not in r.verdicts:
                row.append(MISSING)
                continue
            row.append(
                Markup("{} {}&nbsp;meV").format(
                    badge(r.verdicts[key]), milli(r.energy_errors.get(key), 1)
                )
            )
        table.rows.append(row)
    return table


def cost_table(results: Results) -> Table:
    """Calculations, evaluations and wall time per stage."""
    table = Table(
        ["Stage", "Computed with", "#Calculations", "#Reused", "#Evaluations", "#Wall time (s)"],
        total=[
            "Sum",
            "",
            str(sum(c.jobs for c in results.cost)),
            str(sum(c.reused for c in results.cost)),
            "",
            number(sum(c.seconds for c in results.cost), 1),
        ],
    )
    for c in results.cost:
        table.rows.append(
            [
                c.stage,
                c.fidelity or "model",
                str(c.jobs),
                str(c.reused),
                str(c.calls),
                number(c.seconds, 1),
            ]
        )
    return table


def counts_table(results: Results) -> Table:
    """Frames and labels per fidelity and split, charges added up."""
    frames, labels = results.counts.get("frames", {}), results.counts.get("labels", {})
    by_split: dict[tuple[str, str], int] = {}
    for key, n in results.counts.get("labels_by_split", {}).items():
        fidelity, _, rest = key.partition("|")
        split = rest.rpartition("|")[2]
        by_split[fidelity, split] = by_split.get((fidelity, split), 0) + n
    splits = list(dict.fromkeys(["train", "valid", "test", *(s for _, s in by_split)]))
    imported = results.counts.get("labels_imported") or {}
    heads = ["Fidelity", "#Frames computed", "#Labels", *(f"#Of these {s}" for s in splits)]
    table = Table(heads + (["#Of these imported"] if imported else []))
    for fidelity in dict.fromkeys([*frames, *labels, *(f for f, _ in by_split)]):
        table.rows.append(
            [
                fidelity,
                str(frames.get(fidelity, MISSING)),
                str(labels.get(fidelity, MISSING)),
                *(str(by_split.get((fidelity, s), 0)) for s in splits),
                *([str(imported.get(fidelity, 0))] if imported else []),
            ]
        )
    return table


def label_groups_table(results: Results) -> Table:
    """Labels per group, as the dataset counts them."""
    table = Table(["Fidelity", "#Charge", "Split", "#Labels"])
    for key, n in results.counts.get("labels_by_split", {}).items():
        parts = key.split("|")
        if len(parts) == 3:
            charge = parts[1].replace("-", "−")
            table.rows.append([parts[0], "0" if charge == "+0" else charge, parts[2], str(n)])
        else:
            table.rows.append([key, MISSING, MISSING, str(n)])
    return table


def failure_table(results: Results) -> Table:
    """Failures, one row each, up to ``MOST_FAILURES``."""
    table = Table(["Stage", "Reason", "State", "Start", "Fidelity", "Message"])
    for f in results.failures[:MOST_FAILURES]:
        table.rows.append(
            [
                f.stage,
                f.reason.value.replace("_", " "),
                defect_html(f.defect, f.charge) if f.defect else "host",
                start_cell(f.start),
                f.fidelity or "model",
                tidy(f.message),
            ]
        )
    return table


def failure_counts(results: Results) -> dict[str, int]:
    """Number of failures per reason, the most frequent first."""
    counts: dict[str, int] = dict(results.counts.get("failures", {}))
    for f in results.failures:
        counts.setdefault(f.reason.value, 0)
    for reason in counts:
        listed = sum(f.reason.value == reason for f in results.failures)
        counts[reason] = max(counts[reason], listed)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def pairs_table(pairs: dict[str, Any], left: str, right: str) -> Table:
    """Two columns, from a dictionary."""
    return Table([left, right], [[str(k), str(v)] for k, v in pairs.items()])


def settings_text(settings: dict[str, Any]) -> str:
    """Settings as YAML, the notation of campaign files."""
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).strip()

"""The tables of a report as CSV, with units in the headings."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from defect_mf_flows.report.level_verdicts import LevelVerdict, level_verdict
from defect_mf_flows.report.savings import known_savings
from defect_mf_flows.schemas.results import Results

Rows = list[dict[str, Any]]


def table_folder(report: Path) -> Path:
    """Folder of the tables of a report: ``NAME-tables`` beside ``NAME.html``."""
    return report.with_name(f"{report.stem}-tables")


def ground_state_rows(results: Results) -> Rows:
    """Ground states."""
    return [
        {
            "defect": g.defect,
            "charge": g.charge,
            "verdict": g.verdict.value,
            "fidelity": results.fidelities.get("high"),
            "energy_verified_eV_per_cell": g.energy_hf,
            "residual_force_eV_per_A": g.residual_force,
            "lower_start": g.lower_start,
            "lower_by_eV_per_cell": g.lower_by,
            "energy_model_eV_per_cell": g.energy_model,
            "model_error_eV_per_cell": g.energy_error,
            "rmsd_A": g.rmsd,
            "local_rmsd_A": g.local_rmsd,
            "max_displacement_A": g.max_displacement,
            "fate": g.fate.kind.value if g.fate else None,
            "point_defects": g.fate.name if g.fate else None,
            "start": g.start,
            "found_by": g.found_by,
            "n_minima": g.n_minima,
            "low_start": g.low_start,
            "low_is_ground_state": g.low_is_ground_state,
            "low_excess_eV_per_cell": g.low_excess,
            "low_unfinished_starts": " ".join(g.low_unfinished),
            "shortest_bond_A": g.shortest_bonds.get("verified"),
            "shortest_bond_low_A": g.shortest_bonds.get("low"),
            "next_minimum_eV_per_cell": g.next_energy,
            "next_minimum_spread_eV": g.next_spread,
            "reason": g.reason,
        }
        for g in results.ground_states
    ]


def bond_rows(results: Results) -> Rows:
    """Distances at the defect in its ground states."""
    return [
        {
            "defect": g.defect,
            "charge": g.charge,
            "geometry": geometry,
            "atoms": name.replace("\u2013", "-"),
            "distance_A": distance,
        }
        for g in results.ground_states
        for geometry, e in g.environments.items()
        for name, distance in [*e.pairs(), *e.to_site()]
    ]


def minimum_rows(results: Results) -> Rows:
    """Minima of the last search."""
    return [
        {
            "defect": m.defect,
            "charge": m.charge,
            "rank": m.rank,
            "energy_model_eV_per_cell": m.energy,
            "spread_eV": m.spread,
            "probability_lowest": m.share,
            "may_be_lowest": m.contender,
            "energy_verified_eV_per_cell": m.verified,
            "fate": m.fate.kind.value if m.fate else None,
            "point_defects": m.fate.name if m.fate else None,
            "distance_A": m.fate.distance if m.fate else None,
            "start": m.start,
            "n_starts": m.n_starts,
        }
        for m in results.ranked_minima
    ]


def tried_rows(results: Results) -> Rows:
    """What verification tried."""
    return [
        {
            "defect": item.defect,
            "charge": item.charge,
            "round": item.round,
            "origin": item.origin,
            "rank": item.rank,
            "start": item.start,
            "energy_model_eV_per_cell": item.energy_model,
            "model_minus_low_eV_per_cell": item.low_error,
            "energy_single_point_eV_per_cell": item.energy_single_point,
            "energy_relaxed_eV_per_cell": item.energy_relaxed,
            "high_fidelity_calls": item.calls,
            "outcome": item.outcome,
        }
        for item in results.tried
    ]


def level_rows(results: Results) -> Rows:
    """Transition levels of the three sources, with their uncertainty."""
    spreads = {
        (u.defect, lv.from_charge, lv.to_charge, u.source): lv
        for u in results.uncertainty
        for lv in u.levels
    }
    rows = []
    for level in results.transition_levels:
        key = (level.defect, level.from_charge, level.to_charge)
        row: dict[str, Any] = {
            "defect": level.defect,
            "from_charge": level.from_charge,
            "to_charge": level.to_charge,
            "verified_eV": level.hf,
            "model_eV": level.model,
            "low_eV": level.low,
            "thermodynamic": level.thermodynamic,
            "perturbed_host_charges": " ".join(f"{q:+d}" for q in level.perturbed_host),
            "unfinished_charges": " ".join(f"{q:+d}" for q in level.unfinished),
            "correction": results.correction,
            **_verdict_columns(level_verdict(level, results)),
        }
        for source, name in (("model", "model"), ("hf", "verified")):
            found = spreads.get((*key, source))
            row[f"{name}_sd_eV"] = found.sd if found else None
            row[f"{name}_probability_thermodynamic"] = found.stable if found else None
        rows.append(row)
    return rows


def _verdict_columns(verdict: LevelVerdict) -> dict[str, Any]:
    """Error of the model's level, and the charge state that it is due to."""
    blame = verdict.blame
    return {
        "model_error_eV": verdict.error,
        "within_10_meV": None if verdict.error is None else verdict.equal,
        "largest_share_charge": blame.ground.charge if blame else None,
        "largest_share_eV": blame.share if blame else None,
        "its_model_error_eV_per_cell": blame.error if blame else None,
        "its_verdict": blame.ground.verdict.value if blame else None,
        "its_cause": blame.cause.value if blame else None,
        "its_high_labels": blame.labels if blame else None,
        "its_held_out_rmse_meV_per_cell": blame.held_out if blame else None,
    }


def order_rows(results: Results) -> Rows:
    """Order of every two levels of a defect."""
    return [
        {
            "defect": u.defect,
            "energies": "verified" if u.source == "hf" else u.source,
            "lower_from": order.lower[0],
            "lower_to": order.lower[1],
            "upper_from": order.upper[0],
            "upper_to": order.upper[1],
            "probability": order.probability,
        }
        for u in results.uncertainty
        for order in u.orders
    ]


def metric_rows(results: Results) -> Rows:
    """Errors of the last model."""
    return [
        {
            "head": m.head,
            "charge": m.charge,
            "split": m.split,
            "n_frames": m.n_frames,
            "energy_rmse_meV_per_cell": m.energy_rmse_cell,
            "energy_mae_meV_per_cell": m.energy_mae_cell,
            "energy_rmse_meV_per_atom": m.energy_rmse_atom,
            "relative_energy_rmse_meV_per_cell": m.relative_energy_rmse_cell,
            "force_rmse_meV_per_A": m.force_rmse,
            "force_mae_meV_per_A": m.force_mae,
            "fitted_constant": m.fitted_constant,
        }
        for m in results.metrics
    ]


def cost_rows(results: Results) -> Rows:
    """Cost per stage."""
    return [
        {
            "stage": c.stage,
            "computed_with": c.fidelity or "model",
            "calculations": c.jobs,
            "reused": c.reused,
            "evaluations": c.calls,
            "evaluations_saved": c.calls_saved,
            "wall_time_s": c.seconds,
        }
        for c in results.cost
    ]


def saving_rows(results: Results) -> Rows:
    """Cost against the search without the model."""
    return [
        {
            "unit": s.unit,
            "without_model_estimate": s.without,
            "campaign": s.total,
            "once": s.fixed,
            "per_defect": s.marginal / s.defects,
            "total_saving": s.total_saving,
            "marginal_saving": s.marginal_saving,
            "break_even_defects": s.break_even,
        }
        for s in known_savings(results)
    ]


TABLES: dict[str, Callable[[Results], Rows]] = {
    "ground_states": ground_state_rows,
    "bonds": bond_rows,
    "minima": minimum_rows,
    "tried": tried_rows,
    "levels": level_rows,
    "level_orders": order_rows,
    "metrics": metric_rows,
    "cost": cost_rows,
    "savings": saving_rows,
}


def csv_text(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as CSV, missing values empty.

    Parameters
    ----------
    rows
        All with the same keys.
    """
    rows = list(rows)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()


def write_tables(results: Results, folder: Path) -> list[Path]:
    """Write every table of a campaign that has rows.

    Parameters
    ----------
    results
        What the campaign found.
    folder
        It is made if need be; files of the same names are replaced, and those of tables that
        have no rows any more are removed.

    Returns
    -------
    list of Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, rows_of in TABLES.items():
        path, rows = folder / f"{name}.csv", rows_of(results)
        if not rows:
            path.unlink(missing_ok=True)
            continue
        partial = path.with_suffix(".part")
        partial.write_text(csv_text(rows), encoding="utf-8")
        partial.replace(path)
        written.append(path)
    return written

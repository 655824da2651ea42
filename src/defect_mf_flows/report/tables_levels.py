"""Tables of how sure levels, their order and the stability of charges are."""

from __future__ import annotations

from defect_mf_flows.report.formatting import (
    charges_text,
    defect_html,
    level_html,
    milli,
    number,
    percent,
)
from defect_mf_flows.report.tables import Table
from defect_mf_flows.schemas.results import Results

SOURCE = {"model": "model", "hf": "verified"}


def spread_table(results: Results) -> Table:
    """Levels with their width, one per row and source."""
    table = Table(
        [
            "Level",
            "Energies",
            "#Level (eV)",
            "#Mean of draws (eV)",
            "#± (meV)",
            "#95 % interval (eV)",
            "#Thermodynamic in",
        ]
    )
    for item in results.uncertainty:
        for level in item.levels:
            table.rows.append(
                [
                    level_html(item.defect, level.from_charge, level.to_charge),
                    SOURCE[item.source],
                    number(level.energy),
                    number(level.mean),
                    milli(level.sd, 1),
                    " … ".join(number(end) for end in level.interval),
                    percent(level.stable),
                ]
            )
    return table


def spread_caption(results: Results) -> str:
    """Where the widths come from."""
    if not results.uncertainty:
        return ""
    first = results.uncertainty[0]
    fitted = "fitted on validation labels" if results.calibration else "not calibrated"
    return (
        f"Energies of all minima drawn {first.draws} times from the normal distribution of "
        f"{first.members} models, their spread times {first.scale:.2f} ({fitted}). Model: levels "
        "of the model's own energies. Verified: levels of high-fidelity energies, which move only "
        "where a minimum that was not verified may lie deeper. Host, finite-size correction and "
        "high fidelity itself count as exact."
    )


def order_table(results: Results) -> Table:
    """Which of two levels lies lower, and how sure that is."""
    table = Table(["Defect", "Energies", "Order", "#Probability"])
    for item in results.uncertainty:
        for order in item.orders:
            table.rows.append(
                [
                    defect_html(item.defect),
                    SOURCE[item.source],
                    f"{charges_text(order.lower)} below {charges_text(order.upper)}",
                    percent(order.probability),
                ]
            )
    return table


def share_table(results: Results) -> Table:
    """How likely each charge state is ever stable."""
    table = Table(["State", "Energies", "#Ever stable", "#In the gap"])
    for item in results.uncertainty:
        for share in item.charges:
            table.rows.append(
                [
                    defect_html(item.defect, share.charge),
                    SOURCE[item.source],
                    percent(share.ever),
                    percent(share.in_gap),
                ]
            )
    return table

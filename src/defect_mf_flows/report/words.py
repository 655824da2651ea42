"""What a campaign found, in sentences computed from its results."""

from __future__ import annotations

from markupsafe import Markup

from defect_mf_flows.report import numbers
from defect_mf_flows.report.formatting import (
    charges_text,
    defect_html,
    duration,
    level_html,
    milli,
    number,
    percent,
    plural,
    start_text,
    state_html,
    tidy,
)
from defect_mf_flows.report.level_verdicts import EQUAL, level_verdict
from defect_mf_flows.schemas.loop import StopVerdict
from defect_mf_flows.schemas.results import GroundState, Results
from defect_mf_flows.schemas.search import Verdict

VERDICT_MEANING = {
    Verdict.CONFIRMED: "the model's ground state survives high-fidelity relaxation and no "
    "other candidate lies lower",
    Verdict.LOWER: "it survives as well, and lies below the ground state of the "
    "low-fidelity search",
    Verdict.WRONG: "high fidelity overrules the model's ground state",
}
STOP_MEANING = {
    StopVerdict.CONVERGED: "The loop converged",
    StopVerdict.BUDGET: "The loop ran out of its budget before every verdict held",
    StopVerdict.STALLED: "The loop stalled: another round promised no improvement",
}
NAMED = 6  # states that a sentence names before it refers to the table


def summary(results: Results) -> list[Markup]:
    """Say in sentences what the campaign found.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    list of Markup
        One paragraph each, user text escaped.
    """
    paragraphs = [
        _verdicts(results),
        _wrong(results),
        _low_fidelity(results),
        _levels(results),
        _order(results),
        _accuracy(results),
        _cost(results),
    ]
    return [p for p in paragraphs if p]


def stop_sentence(results: Results) -> Markup:
    """Say why the loop ended."""
    rounds = plural(len(results.rounds), "round")
    reason = Markup.escape(results.stop_reason.rstrip(".") or "no reason recorded")
    for key in numbers.judged_states(results):
        reason = Markup(reason.replace(Markup.escape(key), state_html(key)))
    return Markup("<strong>{}</strong> ({}, {}): {}.").format(
        STOP_MEANING[results.stop], results.stop.value, rounds, reason
    )


def _verdicts(results: Results) -> Markup:
    counts = numbers.verdict_counts(results)
    total = len(results.ground_states)
    if not total:
        return Markup("No ground state was found.")
    told = [
        Markup("<strong>{} {}</strong> ({})").format(counts[v], v.value, VERDICT_MEANING[v])
        for v in Verdict
        if counts[v]
    ]
    names = Markup(", ").join(defect_html(name) for name in numbers.defects(results))
    return Markup(
        "{} of {} ({}) were searched on the model and judged at high fidelity: {}."
    ).format(
        plural(total, "charge state"),
        plural(len(numbers.defects(results)), "defect"),
        names,
        _join(told),
    )


def _wrong(results: Results) -> Markup:
    wrong = [g for g in results.ground_states if g.verdict is Verdict.WRONG]
    if not wrong:
        return Markup("")
    told = [
        Markup("{} ({})").format(defect_html(g.defect, g.charge), tidy(g.reason))
        for g in wrong[:NAMED]
    ]
    return Markup(
        "Where the model is wrong, this page gives the verified ground state instead: {}{}."
    ).format(Markup("; ").join(told), _and_more(wrong))


def upper_bound(ground: GroundState) -> str:
    """Why the verified energy of a charge state is an upper bound, and what to do.

    Parameters
    ----------
    ground
        Whose relaxation ran out of steps, or ended above a candidate without one that ended.

    Returns
    -------
    str
        Sentences without the last full stop.
    """
    told = []
    if ground.residual_force is not None:
        told.append(
            f"the high-fidelity relaxation ran out of steps at forces of "
            f"{number(ground.residual_force, 2)} eV/Å: its energy is an upper bound, and its "
            "levels are bounds; raise the fidelity's steps and set reuse: true to go on from there"
        )
    if ground.lower_by is not None:
        told.append(
            f"{start_text(ground.lower_start or '')} lies {number(ground.lower_by)} eV lower at "
            "high fidelity and has not been relaxed to an end: the energy is an upper bound, and "
            "its levels are bounds; either its relaxation failed (see the failures), or it takes "
            "another round (loop.max_rounds)"
        )
    return ". ".join(item[0].upper() + item[1:] if k else item for k, item in enumerate(told))


def open_low(ground: GroundState) -> str:
    """Why nobody knows whether high fidelity upholds the low-fidelity ground state, and what to do.

    Parameters
    ----------
    ground
        Of which it is open.

    Returns
    -------
    str
        A sentence without a full stop.
    """
    if not ground.low_unfinished:
        return (
            f"the low-fidelity ground state ({start_text(ground.low_start)}) lies lowest at high "
            "fidelity and has not been relaxed there to an end: it is neither upheld nor refuted"
        )
    starts = ", ".join(start_text(start) for start in ground.low_unfinished)
    return (
        f"low-fidelity relaxations ran out of steps below the lowest that ended ({starts}), so the "
        "low fidelity's own ground state is not known, nor are its levels; raise its steps and set "
        "reuse: true to go on from there"
    )


def _low_fidelity(results: Results) -> Markup:
    unfinished = numbers.open_low(results)
    told = [_compared_low(results)] if numbers.searched_low(results) or not unfinished else []
    told += [
        Markup("Of {}, {}.").format(defect_html(g.defect, g.charge), open_low(g))
        for g in unfinished[:NAMED]
    ]
    return Markup(" ").join(told)


def _compared_low(results: Results) -> Markup:
    searched, refuted = numbers.searched_low(results), numbers.refuted_low(results)
    if not searched:
        return Markup("No low-fidelity ground state was available for comparison.")
    if not refuted:
        return Markup(
            "High fidelity upholds the ground state of the low-fidelity search in {} of {}."
        ).format("all" if len(searched) > 1 else "1", plural(len(searched), "charge state"))
    told = [_refutation(g) for g in refuted[:NAMED]]
    return Markup(
        "The low-fidelity search alone would have been <strong>refuted for {} of {}</strong>: {}{}."
    ).format(
        len(refuted),
        plural(len(searched), "charge state"),
        Markup("; ").join(told),
        _and_more(refuted),
    )


def _refutation(ground: GroundState) -> Markup:
    state = defect_html(ground.defect, ground.charge)
    if ground.low_excess is None:
        amount = "has no high-fidelity energy"
    elif ground.low_excess > 0:
        amount = f"lies {number(ground.low_excess)} eV above the verified ground state"
    else:
        amount = "leaves its geometry at high fidelity"
    return Markup("{} ({} {})").format(state, start_text(ground.low_start), amount)


def _levels(results: Results) -> Markup:
    levels = results.transition_levels
    if not levels:
        return Markup("No transition level: {}.").format(no_levels_because(results))
    parts = [
        Markup("{} ({} thermodynamic, {} inside the gap at high fidelity)").format(
            plural(len(levels), "transition level"),
            sum(level.thermodynamic for level in levels),
            sum(
                level.hf is not None and not numbers.outside_gap(level.hf, results)
                for level in levels
            ),
        )
    ]
    for name, word in (("model", "the model"), ("low", "the low-fidelity search alone")):
        if (worst := numbers.worst_level(results, name)) is not None:
            gap, level = worst
            parts.append(
                Markup("{} misses high fidelity by {} meV at most ({})").format(
                    word,
                    milli(gap, 0),
                    level_html(level.defect, level.from_charge, level.to_charge),
                )
            )
    judged = [v for v in (level_verdict(lv, results) for lv in levels) if v.error is not None]
    if judged:
        equal = sum(v.equal for v in judged)
        parts.append(
            Markup("{} of {} levels of the model lie within {} meV of the high fidelity").format(
                equal, len(judged), milli(EQUAL, 0)
            )
        )
    return Markup("{}. Finite-size correction of all levels: {}.").format(
        Markup("; ").join(parts), results.correction
    )


def _order(results: Results) -> Markup:
    """Say which order of levels is the least certain."""
    told = []
    for item in (u for u in results.uncertainty if u.source == "model" and u.orders):
        least = min(item.orders, key=lambda order: order.probability)
        told.append(
            Markup("{} {} below {} with {}").format(
                defect_html(item.defect),
                charges_text(least.lower),
                charges_text(least.upper),
                percent(least.probability),
            )
        )
    if not told:
        return Markup("")
    contenders = sum(m.contender for m in results.ranked_minima)
    return Markup("By the committee, the least certain order of two levels is {}{}; {}.").format(
        Markup("; ").join(told[:NAMED]),
        f"; and {len(told) - NAMED} more defects" if len(told) > NAMED else "",
        f"{plural(contenders, 'minimum lies', 'minima lie')} within the spread of the lowest",
    )


def no_uncertainty_because(results: Results) -> str:
    """Say why levels have no uncertainty."""
    if any(m.spread is not None for m in results.ranked_minima):
        return "a level's needs two charge states that were searched, and the host's band edges"
    return "one model alone has no spread; training.committee trains several"


def no_levels_because(results: Results) -> str:
    """Say why there are no transition levels."""
    if results.band_edges is None:
        return "the host's band edges are not known (the engine gives none)"
    if all(
        sum(g.defect == name for g in results.ground_states) < 2
        for name in numbers.defects(results)
    ):
        return "a level needs two charge states of one defect"
    return "none could be computed"


def _accuracy(results: Results) -> Markup:
    errors = numbers.held_out(results)
    if not errors:
        return Markup("No frames were held out, so the model's error is not known.")
    told = [
        Markup("{} {} meV/cell ({} meV/atom) and {} meV/Å on {}").format(
            e.head,
            number(e.energy_cell, 1),
            number(e.energy_atom, 2),
            number(e.force, 1),
            plural(e.n_frames, "frame"),
        )
        for e in errors
    ]
    return Markup("Held-out root-mean-square errors of the last model: {}.").format(_join(told))


def _cost(results: Results) -> Markup:
    calls = numbers.reference_calls(results)
    if not calls:
        return Markup("")
    told = [f"{n} energy-and-force evaluations with {fidelity}" for fidelity, n in calls.items()]
    seconds = sum(c.seconds for c in results.cost)
    return Markup("Cost: {}; {} of computing in all. {}.").format(
        _join([Markup.escape(t) for t in told]),
        duration(seconds),
        plural(len(results.failures), "failure was", "failures were") + " recorded"
        if results.failures
        else "No failures were recorded",
    )


def _join(parts: list[Markup]) -> Markup:
    if len(parts) < 2:
        return Markup("").join(parts)
    return Markup("{} and {}").format(Markup(", ").join(parts[:-1]), parts[-1])


def _and_more(items: list[GroundState]) -> str:
    return f"; and {len(items) - NAMED} more (see the table)" if len(items) > NAMED else ""

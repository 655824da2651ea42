"""Reference engines behind one small interface: a relaxation and a single point."""

from __future__ import annotations

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import CalculationKind


def reference_maker(
    fidelity: str,
    settings: FidelitySettings,
    kind: CalculationKind,
    *,
    reuse: bool = False,
    guide: ReferenceMaker | None = None,
) -> ReferenceMaker:
    """Make the Maker of one fidelity.

    Parameters
    ----------
    fidelity
        Name of the fidelity.
    settings
        Engine and its settings.
    kind
        Relaxation or single point.
    reuse
        Take over finished calculations with identical input.
    guide
        Maker of a cheaper fidelity that guides the relaxations. One on VASP guides only VASP.

    Returns
    -------
    ReferenceMaker
        Its ``make`` takes a start structure and returns a ``Calculation``.

    Raises
    ------
    EngineError
        If an engine's package is missing, or VASP is to guide another engine.
    """
    guided_by = guide and guide.settings and guide.settings.engine
    if guided_by == "vasp" and settings.engine != "vasp":
        raise EngineError(
            f"fidelity {fidelity!r}: VASP guides only VASP, and this is {settings.engine}; leave "
            "verification.guided out."
        )
    if settings.engine == "vasp":
        return _vasp_maker(fidelity, settings, kind, reuse, guide)
    from defect_mf_flows.engines.ase import AseReferenceMaker
    from defect_mf_flows.engines.cp2k.makers import Cp2kReferenceMaker
    from defect_mf_flows.engines.gpaw.makers import GpawReferenceMaker
    from defect_mf_flows.engines.xtb import XtbReferenceMaker

    makers: dict[str, type[ReferenceMaker]] = {
        "xtb": XtbReferenceMaker,
        "ase": AseReferenceMaker,
        "gpaw": GpawReferenceMaker,
        "cp2k": Cp2kReferenceMaker,
    }
    return makers[settings.engine](
        name=f"{fidelity} {kind.value}",
        fidelity=fidelity,
        kind=kind,
        settings=settings,
        reuse=reuse,
        guide=guide,
    )


def _vasp_maker(
    fidelity: str,
    settings: FidelitySettings,
    kind: CalculationKind,
    reuse: bool,
    guide: ReferenceMaker | None,
) -> ReferenceMaker:
    try:
        from defect_mf_flows.engines.vasp.makers import VaspReferenceMaker
    except ModuleNotFoundError as error:
        raise EngineError(
            f"fidelity {fidelity!r}: {error.name} is not installed; "
            "pip install 'defect-mf-flows[vasp]'."
        ) from error
    return VaspReferenceMaker(
        name=f"{fidelity} {kind.value}",
        fidelity=fidelity,
        kind=kind,
        settings=settings,
        reuse=reuse,
        guide=guide,
    )

"""Every error this package raises on purpose; each message ends with what to do."""

from __future__ import annotations


class DefectMFError(Exception):
    """Base class of the package's own errors."""


class CampaignError(DefectMFError):
    """A campaign file, or something it names, cannot be used."""


class ChargeError(DefectMFError):
    """A charge or a spin is missing, fractional, contradictory or was never trained."""


class FidelityError(DefectMFError):
    """A fidelity or a model head is missing or unknown."""


class EngineError(DefectMFError):
    """A reference engine cannot be built or does not take the charge."""


class CheckpointError(DefectMFError):
    """Stored steps of a calculation do not fit it."""


class ImportingError(DefectMFError):
    """Calculations that somebody else made cannot be read, told apart or compared."""


class DatasetError(DefectMFError):
    """Frames cannot make a dataset: too few, inconsistent or corrupt."""


class TrainingError(DefectMFError):
    """The training subprocess failed."""


class VibrationError(DefectMFError):
    """A geometry lies at no minimum, so it has no harmonic vibrations."""


class DynamicsError(DefectMFError):
    """Molecular dynamics cannot be started, continued or written."""


class ServiceError(DefectMFError):
    """A local service (mongod, a worker) could not be started or was lost."""


class ResultsError(DefectMFError):
    """Results were asked for that the store does not hold."""


class SiteError(DefectMFError):
    """A site's files, its database or a submission to it cannot be used."""


class VersionError(DefectMFError):
    """A job or a document belongs to another version of this package."""

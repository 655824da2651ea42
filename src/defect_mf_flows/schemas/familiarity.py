"""What a model has seen of every element's surroundings, and how its errors grow away from it."""

from __future__ import annotations

from pydantic import Field

from defect_mf_flows.schemas.base import Document, Matrix, Vector


class Environments(Document):
    """Atomic environments of one element in the training set, as a network sees them.

    Attributes
    ----------
    element
        Symbol.
    mean
        Of the node features, shape (n_features,).
    axes
        Takes centred node features to the space in which distances are measured, shape
        (n_features, n_components): features scaled by their spread, principal components.
    points
        Environments, shape (n_points, n_components), chosen to lie as far apart as can be.
    """

    element: str
    mean: Vector
    axes: Matrix
    points: Matrix


class Familiarity(Document):
    """Where a model has been, and what it is worth elsewhere.

    Attributes
    ----------
    environments
        One per element.
    distances
        Of labels held out from training: how far the atom least like any that trained lies from
        the nearest that did.
    errors
        Of the same labels: model minus label, less the median of their head, defect, charge
        and cell, eV per cell.
    """

    environments: list[Environments] = Field(min_length=1)
    distances: Vector
    errors: Vector

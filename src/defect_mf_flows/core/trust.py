"""How far from its training set a model can be trusted, by the errors of labels held out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from defect_mf_flows.errors import TrainingError


def trusted_distance(distances: Sequence[float], errors: Sequence[float], *, error: float) -> float:
    """Find the distance up to which the expected error stays small enough.

    Parameters
    ----------
    distances
        Of held-out labels from the training set.
    errors
        Their errors, eV per cell.
    error
        Root mean square error that may be, eV per cell.

    Returns
    -------
    float
        The largest held-out distance at which it is expected to be no larger; 0 if it is larger
        everywhere. Nothing is known, and nothing trusted, beyond the held-out labels.

    Raises
    ------
    TrainingError
        If no label was held out.

    Notes
    -----
    The squared error is taken as a growing function of the distance (isotonic regression). That
    distances in the space of a network's features tell errors is from Janet et al., Chem. Sci.
    10, 7913 (2019).
    """
    from sklearn.isotonic import IsotonicRegression

    if not len(distances):
        raise TrainingError(
            "no labels were held out from training, so that search.trust has no errors to look "
            "at; raise split.valid or split.test, or remove search.trust."
        )
    known = np.asarray(distances, dtype=float)
    expected = IsotonicRegression().fit_transform(known, np.square(np.asarray(errors, dtype=float)))
    good = known[expected <= error**2]
    return float(good.max()) if len(good) else 0.0

"""The dielectric tensor as people write it."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator


def as_tensor(value: Any) -> np.ndarray:
    """Dielectric tensor from a number, three diagonal elements or nine.

    Parameters
    ----------
    value
        Relative permittivity, ionic part included, in the Cartesian axes of the supercell.

    Returns
    -------
    numpy.ndarray
        Shape (3, 3).

    Raises
    ------
    ValueError
        If it is not symmetric, or an eigenvalue is below 1.
    """
    array = np.asarray(value, dtype=float).reshape(-1)
    if array.size == 1:
        tensor = array[0] * np.eye(3)
    elif array.size == 3:
        tensor = np.diag(array)
    elif array.size == 9:
        tensor = array.reshape(3, 3)
    else:
        raise ValueError(
            f"dielectric: {array.size} numbers; give 1 (isotropic), 3 (diagonal) or 9 (rows)."
        )
    if not np.all(np.isfinite(tensor)):
        raise ValueError("dielectric: not finite; give relative permittivities.")
    if not np.allclose(tensor, tensor.T, atol=1e-3 * np.abs(tensor).max()):
        raise ValueError("dielectric: the tensor is not symmetric; check its nine numbers.")
    tensor = (tensor + tensor.T) / 2
    if np.linalg.eigvalsh(tensor).min() < 1 - 1e-9:
        raise ValueError(
            "dielectric: below the vacuum's in some direction; give relative permittivities, the "
            "static ones with the ionic part."
        )
    return tensor


def _checked(value: Any) -> Any:
    as_tensor(value)
    return value


#: A number, three diagonal elements or three rows, checked and kept as written.
Dielectric = Annotated[float | list[float] | list[list[float]], AfterValidator(_checked)]

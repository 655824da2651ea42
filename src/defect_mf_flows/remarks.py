"""What other packages remark upon and no user can act on."""

from __future__ import annotations

import warnings

#: Beginnings of messages: pymatgen's on every charged structure, and those of e3nn and torch.
MESSAGES = (
    "Structure charge .* not equal to the sum",
    "Environment variable TORCH_FORCE_NO_WEIGHTS",
    "The TorchScript type system doesn't support",
)


def ignore_remarks() -> None:
    """Keep them out of what this process prints; other warnings stay."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message=message)

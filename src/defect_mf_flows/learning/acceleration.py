"""Device, and cuequivariance's kernels: asked for before anything starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from defect_mf_flows.errors import TrainingError

if TYPE_CHECKING:
    import torch

#: What NVIDIA calls its kernels, per CUDA version.
OPS = ("cuequivariance_ops_torch",)


def check_device(device: str, *, cueq: bool) -> None:
    """Refuse a device that this machine lacks, and kernels that it cannot run.

    Parameters
    ----------
    device
        torch device.
    cueq
        Whether cuequivariance is asked for.

    Raises
    ------
    TrainingError
        Saying what to install or to set.
    """
    if cueq and not device.startswith("cuda"):
        raise TrainingError(
            f"training.enable_cueq needs an NVIDIA GPU, and training.device is {device!r}; set "
            "device: cuda, or remove enable_cueq."
        )
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0][:150]
        raise TrainingError(
            f"training.device {device!r} cannot be used on this machine ({why}); run on a "
            "machine that has it, or set device: cpu."
        ) from None
    lacking = [name for name in ("cuequivariance_torch", *OPS) if find_spec(name) is None]
    if cueq and lacking:
        raise TrainingError(
            f"training.enable_cueq needs {', '.join(lacking)}; pip install cuequivariance-torch "
            "cuequivariance-ops-torch-cu12 (or -cu13), or remove enable_cueq."
        )


def accelerated(network: Any, settings: dict[str, Any]) -> torch.nn.Module:
    """The same network with cuequivariance's kernels, if the settings ask for them.

    Parameters
    ----------
    network
        mace's, on its device.
    settings
        ``campaign.TrainingSettings`` as a dictionary; ``enable_cueq`` may be missing.
    """
    if not settings.get("enable_cueq", False):
        same: torch.nn.Module = network
        return same
    import mace  # noqa: F401  (before e3nn)
    from mace.cli.convert_e3nn_cueq import run

    device = next(network.parameters()).device
    converted: torch.nn.Module = run(network, device=device.type, return_model=True)
    return converted.to(device)


def plain(network: Any, settings: dict[str, Any]) -> torch.nn.Module:
    """The network without those kernels: what is saved runs everywhere.

    Parameters
    ----------
    network, settings
        As for :func:`accelerated`.
    """
    if not settings.get("enable_cueq", False):
        same: torch.nn.Module = network
        return same
    from mace.cli.convert_cueq_e3nn import run

    device = next(network.parameters()).device
    converted: torch.nn.Module = run(network, device=device.type, return_model=True)
    return converted.to(device)

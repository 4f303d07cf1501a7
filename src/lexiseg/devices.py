"""Where a model runs."""

import torch


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device that is asked for; None and "auto" are CUDA, else Apple's MPS, else the CPU.

    Raises:
        ValueError: there is no such device here.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device is None or device == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    here = ", ".join(kind for kind, there in available.items() if there)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"unknown device {device!r}; here are auto, {here}") from error
    if not available.get(chosen.type, True):
        raise ValueError(f"device {str(device)!r} is not available; here are auto, {here}")
    return chosen

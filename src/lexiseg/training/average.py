"""The running average of a run's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """A running average of what training changes (Polyak and Juditsky, 1992).

    Args:
        module: its trained parameters and its stored buffers are followed.
        decay: share of the old average that stays at a step; 0 follows nothing.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.live = moving_parts(module) if decay else {}
        self.values = {name: value.detach().clone() for name, value in self.live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the module's weights; faster in the first steps."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in self.live.items():
            if value.is_floating_point():
                self.values[name].lerp_(value.detach(), 1 - decay)
            else:
                self.values[name].copy_(value)

    @torch.no_grad()
    def take(self) -> None:
        """Make the module's present weights the average."""
        for name, value in self.live.items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Give the module the averaged weights."""
        for name, value in self.live.items():
            value.copy_(self.values[name])

    @contextmanager
    def in_module(self) -> Iterator[None]:
        """The averaged weights are in the module meanwhile."""
        weights = {name: value.detach().clone() for name, value in self.live.items()}
        self.copy_to_module()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self.live.items():
                    value.copy_(weights[name])


def moving_parts(module: nn.Module) -> dict[str, Tensor]:
    """What training changes of a module's state: trained parameters, and buffers."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    state = module.state_dict(keep_vars=True)
    return {name: value for name, value in state.items() if name not in frozen}

"""Names of tensors: other names for them, what became of each, and strict loading by them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SHOWN_KEYS = 10


@dataclass(frozen=True)
class KeyFate:
    """Where a tensor of one of several files went.

    Attributes:
        part: what the file was given as, such as "clip".
        key: its name in the file.
        places: its names in the model; empty where it is ignored.
        reason: why it is ignored.
    """

    part: str
    key: str
    places: tuple[str, ...]
    reason: str = ""

    def __str__(self) -> str:
        fate = f"loaded as {', '.join(self.places)}" if self.places else f"ignored: {self.reason}"
        return f"{self.part}: {self.key} {fate}"


def rename_keys(
    state: Mapping[str, Tensor], table: Sequence[tuple[str, str]], *, reverse: bool = False
) -> dict[str, Tensor]:
    """The state under other names.

    Args:
        state: tensors by name.
        table: pairs (published, ours). ``{}`` stands for a number; a name that ends with a dot
            stands for all that begin so. Keys that no pair fits keep their name.
        reverse: from ours to published.

    Raises:
        ValueError: two keys get the same name.
    """
    rules = [
        (_pattern(old), new) for old, new in (pair[::-1] if reverse else pair for pair in table)
    ]
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        new_key = key
        for pattern, new in rules:
            if match := pattern.fullmatch(key):
                new_key = new.format(*match.groups()[:-1]) + match.groups()[-1]
                break
        if new_key in renamed:
            raise ValueError(f"two keys become {new_key!r}, one of them {key!r}; remove one")
        renamed[new_key] = value
    return renamed


def _pattern(name: str) -> re.Pattern[str]:
    rest = "(.+)" if name.endswith(".") else "()"
    return re.compile(re.escape(name).replace(r"\{\}", r"(\d+)") + rest)


def trace_keys(
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], state: Mapping[str, Tensor]
) -> dict[str, list[str]]:
    """The names that each key of a state has behind ``convert``; none where it is left out.

    A number is sent in the place of each tensor, and looked for. ``convert`` may cut tensors along
    their first axis, and put them together there.
    """
    keys = list(state)
    numbers = {
        key: torch.tensor(float(index), dtype=torch.float64).expand(state[key].shape)
        for index, key in enumerate(keys)
    }
    places: dict[str, list[str]] = {key: [] for key in keys}
    for name, numbered in convert(numbers).items():
        first = numbered.reshape(()) if not numbered.ndim else numbered
        while first.ndim > 1:
            first = first[:, 0]
        for index in first.unique().long().tolist():
            places[keys[index]].append(name)
    return places


class Uninitialised(TorchFunctionMode):
    """Modules that are built inside get memory for their weights, but no random values.

    For a module that all its weights are loaded into: what is not written takes no memory.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """As ``func``, unless it draws values (those of ``torch.nn.init`` ask their mode first)."""
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def load_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    rename: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None,
    *,
    take: bool = False,
) -> None:
    """Load every tensor into its place; nothing is loaded unless all fits.

    Args:
        module: gets the tensors.
        state: tensors by name.
        rename: from the state's names to the module's.
        take: tensors that fit as they are become the module's own instead of being copied. For a
            state that nobody else holds, and a module that no optimiser knows yet.

    Raises:
        ValueError: keys are missing, unexpected, of another shape, or whole numbers in the place of
            fractions; the message lists them.
    """
    renamed = state if rename is None else rename(state)
    own = module.state_dict()
    misshaped = [
        f"{key} has {tuple(renamed[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if key in renamed and renamed[key].shape != value.shape
    ]
    problems = {
        "missing": sorted(own.keys() - renamed.keys()),
        "unexpected": sorted(renamed.keys() - own.keys()),
        "of another shape": misshaped,
        "of another type": [
            f"{key} has {renamed[key].dtype} for {value.dtype}"
            for key, value in own.items()
            if key in renamed and value.is_floating_point() and not renamed[key].is_floating_point()
        ],
    }
    if any(problems.values()):
        raise ValueError(_report(type(module).__name__, problems))
    if take:
        renamed = _as_own(renamed, own)
    module.load_state_dict(renamed, strict=True, assign=take)


def _as_own(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a state as a module may keep them: each alone in its memory, all of it."""
    taken: set[int] = set()
    result = {}
    for key, value in state.items():
        memory = value.untyped_storage()
        alone = memory.nbytes() == value.nbytes and memory.data_ptr() not in taken
        if not (alone and value.is_contiguous()):
            value = value.clone(memory_format=torch.contiguous_format)
        taken.add(value.untyped_storage().data_ptr())
        result[key] = value.to(own[key])  # the type and device that it was built with
    return result


def _report(name: str, problems: Mapping[str, Sequence[str]]) -> str:
    lines = [f"the weights do not fit {name}:"]
    for kind, keys in problems.items():
        if keys:
            rest = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
            lines.append(f"  {len(keys)} {kind}: {', '.join(keys[:SHOWN_KEYS])}{rest}")
    lines.append("give the file that was published for this variant, unchanged")
    return "\n".join(lines)

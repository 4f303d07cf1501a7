import pytest
import torch

from lexiseg.devices import choose_device


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
    with pytest.raises(ValueError, match="'cuda:1' is not available; here are auto, cpu"):
        choose_device("cuda:1")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert choose_device() == torch.device("mps")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device() == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")

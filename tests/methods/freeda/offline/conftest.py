from pathlib import Path

import pytest

from tests.methods.freeda.offline.tiny_diffusion import save_tiny


@pytest.fixture(scope="session")
def tiny_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as diffusers saves it."""
    return save_tiny(tmp_path_factory.mktemp("diffusion") / "tiny")

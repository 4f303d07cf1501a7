"""Ray itself, on a cluster of two nodes of this machine: minutes, and the extra ``ray``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lexiseg.methods.freeda.offline.building import Build, Engine, Job, local_engine
from lexiseg.methods.freeda.offline.tasks import make_tasks
from tests.methods.freeda.offline.painted import PaintedRecipe
from tests.methods.freeda.offline.test_building import content
from tests.parity import REPOSITORY

CAPTIONS = [f"a red dog and cats, {number}" for number in range(20)]

# Ray leaves sockets and files to the end of the process.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # Ray's workers are nice to others by default, and starve beside a busy test suite.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # where they find PaintedRecipe
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def build(out: Path, engine: Engine, identity: dict, kind) -> Build:
    job = Job(out, make_tasks(CAPTIONS, seed=1), identity, kind)
    assert job.begin() is None
    list(job.work(engine))
    return job.finish()


def test_two_nodes_give_the_bank_of_one_process(address: str, tmp_path: Path) -> None:
    import ray

    from lexiseg._ray import connected
    from lexiseg.methods.freeda.offline.distributed import describe, ray_engine

    recipe = PaintedRecipe(diffusion="painted")
    collector = recipe.load()
    alone = (local_engine(collector), collector.identity(), collector.encoder.kind)
    build(tmp_path / "alone", *alone)
    with connected(address):
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
        identity, kind = describe(recipe)
        assert (identity, kind) == alone[1:]
        build(tmp_path / "together", ray_engine(recipe, workers=2), identity, kind)
    assert not ray.is_initialized()
    assert content(tmp_path / "together") == content(tmp_path / "alone")


def test_no_cluster_is_told() -> None:
    from lexiseg._ray import connected

    with (
        pytest.raises(ValueError, match=r"no Ray cluster at '127\.0\.0\.1:1'"),
        connected("127.0.0.1:1"),
    ):
        pass

"""What is told of a case."""

from dataclasses import dataclass

from lexiseg.tools.bench.subjects import TextKind


@dataclass(frozen=True)
class Row:
    """One case. What was not or cannot be had is None.

    Attributes:
        model: its name.
        engine: "eager" (torch), "compiled" (torch.compile), "onnx" (ONNX Runtime) or "int8".
        texts: what the model takes texts for: "labels" that compete, or "sentences".
        size: side of the images that was asked for, in pixels.
        height: of the images, which is the nearest that the model takes.
        width: likewise.
        labels: how many texts.
        batch: images at once.
        text_seconds: to encode all texts, which is spared where they are cached.
        text_cpu_seconds: of all threads in that time, which a busy machine disturbs less.
        seconds: of a batch with texts that are cached, the median of the runs.
        cpu_seconds: of all threads in that time.
        runs: that counted.
        compile_seconds: of the first run, which compiles, on the wall's clock.
        graphs: into which the compiler cut the model; 1 without a graph break.
        text_gflop: floating-point operations of the texts, in billions.
        gflop: of a batch. Multiplication and addition count as one each.
        extra_mb: by which the process grew at most during a first run, not of graphs, whose runtime
            keeps what it once took; of a GPU, its own memory.
        peak_mb: of the process, with every model that is measured, during that run.
        utilisation: operations a second, as a part of those of a large matrix product, on the
            machine's ``clock``.
        note: why there are no numbers.
    """

    model: str
    engine: str
    texts: TextKind
    size: int
    height: int
    width: int
    labels: int
    batch: int
    text_seconds: float
    text_cpu_seconds: float
    seconds: float | None = None
    cpu_seconds: float | None = None
    runs: int = 0
    compile_seconds: float | None = None
    graphs: int | None = None
    text_gflop: float | None = None
    gflop: float | None = None
    extra_mb: float | None = None
    peak_mb: float | None = None
    utilisation: float | None = None
    note: str = ""

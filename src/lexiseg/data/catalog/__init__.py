"""The semantic benchmarks of the papers: their classes, how their files lie, and reading them."""

from lexiseg.data.catalog.benchmarks import Benchmark as Benchmark
from lexiseg.data.catalog.layouts import Layout as Layout
from lexiseg.data.catalog.published_benchmarks import ALIASES as ALIASES
from lexiseg.data.catalog.published_benchmarks import BENCHMARKS as BENCHMARKS
from lexiseg.data.catalog.reading import check as check
from lexiseg.data.catalog.reading import find as find
from lexiseg.data.catalog.reading import names as names
from lexiseg.data.catalog.reading import read_benchmark as read_benchmark
from lexiseg.data.catalog.reading import size_note as size_note

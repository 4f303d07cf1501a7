"""From a text to prototypes: the nearest keys of a bank, and what becomes of their prototypes.

text feature ─ search (inner product) ─ the k nearest rows ─ their prototypes ─ mean, or each
               exact.py, faiss_index.py                      prototypes.py
"""

from lexiseg.methods.freeda.retrieval.exact import ExactIndex as ExactIndex
from lexiseg.methods.freeda.retrieval.exact import Index as Index
from lexiseg.methods.freeda.retrieval.faiss_index import FaissIndex as FaissIndex
from lexiseg.methods.freeda.retrieval.faiss_index import build_faiss as build_faiss
from lexiseg.methods.freeda.retrieval.prototypes import NumpyPrototypes as NumpyPrototypes
from lexiseg.methods.freeda.retrieval.prototypes import Retrieval as Retrieval

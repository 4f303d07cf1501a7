"""Weights: their records, and the way from a file or URL into a module.

record ─ fetch (records.py) ─ file ─ read_checkpoint (files.py) ─ tensors ─ rename_keys, load_state
                                                                           (keys.py) ─ module

Reading never runs code that a file holds; see ``_checkpoint/``.
"""

from lexiseg._checkpoint.records import UnsafeCheckpointError as UnsafeCheckpointError
from lexiseg.weights.files import FileState as FileState
from lexiseg.weights.files import Source as Source
from lexiseg.weights.files import add_metadata as add_metadata
from lexiseg.weights.files import dequantise as dequantise
from lexiseg.weights.files import metadata_of as metadata_of
from lexiseg.weights.files import parts_of as parts_of
from lexiseg.weights.files import quantise_rows as quantise_rows
from lexiseg.weights.files import read_checkpoint as read_checkpoint
from lexiseg.weights.files import read_metadata as read_metadata
from lexiseg.weights.files import read_weights as read_weights
from lexiseg.weights.files import save_weights as save_weights
from lexiseg.weights.files import state_sha256 as state_sha256
from lexiseg.weights.keys import KeyFate as KeyFate
from lexiseg.weights.keys import Uninitialised as Uninitialised
from lexiseg.weights.keys import load_state as load_state
from lexiseg.weights.keys import rename_keys as rename_keys
from lexiseg.weights.keys import trace_keys as trace_keys
from lexiseg.weights.records import Weights as Weights
from lexiseg.weights.records import cached_path as cached_path
from lexiseg.weights.records import fetch as fetch

"""The prototype bank: what a text may mean, as a key to search by and as image features.

BANK/bank.json                     version, who made keys and prototypes, counts, checksums
BANK/vectors-CHECKSUM.safetensors  keys (K, Dk) and prototypes (K, Dp), a row each; read lazily
BANK/records-CHECKSUM.jsonl        where each row came from: word, caption, seed, source

A bank changes by new files and then a new ``bank.json`` in the place of the old, so a reader sees
either the bank before or the bank after. One process writes at a time.

table.py opens, writes and joins banks, files.py writes their files block by block, reading.py reads
them, checks.py says what a bank is and what is wrong with it.
"""

from lexiseg.methods.freeda.bank.checks import info as info
from lexiseg.methods.freeda.bank.checks import verify as verify
from lexiseg.methods.freeda.bank.files import HEADER as HEADER
from lexiseg.methods.freeda.bank.reading import BankError as BankError
from lexiseg.methods.freeda.bank.reading import BankKind as BankKind
from lexiseg.methods.freeda.bank.reading import Record as Record
from lexiseg.methods.freeda.bank.table import PrototypeBank as PrototypeBank
from lexiseg.methods.freeda.bank.table import append as append
from lexiseg.methods.freeda.bank.table import merge as merge
from lexiseg.methods.freeda.bank.table import write_bank as write_bank

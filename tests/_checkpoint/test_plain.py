import pickle
import resource
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lexiseg._checkpoint.plain import read_plain
from lexiseg._checkpoint.records import UnsafeCheckpointError
from tests._checkpoint.hostile import Command, Evaluation

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


class NestedLoad(Command):
    def __reduce__(self):
        return pickle.loads, (pickle.dumps(Command(self.canary)),)


@given(PLAIN)
def test_plain_data_comes_back_from_the_protocols_that_have_bytes(value):
    for protocol in (3, 4, 5):
        again = read_plain(pickle.dumps(value, protocol), "x")
        assert repr(again) == repr(value)  # True is 1, but reads otherwise


@given(st.recursive(st.integers() | st.text() | st.booleans(), st.lists, max_leaves=8))
def test_and_from_the_older_ones(value):
    for protocol in (0, 1, 2):
        assert repr(read_plain(pickle.dumps(value, protocol), "x")) == repr(value)


def test_what_python_2_wrote():
    # pickle.dumps({'sent': 'red', u'raw': u'caf\xe9', 'n': [1L, True]}, 0 and 2) of Python 2.7
    text = (
        b"(dp0\nS'sent'\np1\nS'red'\np2\nsVraw\np3\nVcaf\xe9\np4\nsS'n'\np5\n(lp6\nL1L\naI01\nas."
    )
    packed = (
        b"\x80\x02}q\x00(U\x04sentq\x01U\x03redq\x02X\x03\x00\x00\x00rawq\x03"
        b"X\x05\x00\x00\x00caf\xc3\xa9q\x04U\x01nq\x05]q\x06(\x8a\x01\x01\x88eu."
    )
    for pickled in (text, packed):
        assert read_plain(pickled, "x") == {"sent": "red", "raw": "caf\xe9", "n": [1, True]}
    assert read_plain(b"\x80\x02U\x05caf\xc3\xa9.", "x") == "caf\xc3\xa9"  # UTF-8, not decoded


@pytest.mark.parametrize("gadget", [Command, Evaluation, NestedLoad])
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [{"sentences": ({"sent": x},)}]])
def test_no_code_is_run(tmp_path, gadget, protocol, wrap):
    canary = tmp_path / "canary"
    pickled = pickle.dumps(wrap(gadget(canary)), protocol)
    with pytest.raises(UnsafeCheckpointError, match=r"refs\.p: the file asks for .*; it was not"):
        read_plain(pickled, "refs.p")
    assert not canary.exists()
    pickle.loads(pickled)  # the trap works, were it not for the reader
    assert canary.exists()


HOSTILE = {
    "empty": b"",
    "text": b"not a pickle",
    "a harmless class": pickle.dumps(np.float64(1)),
    "names that weights may have": pickle.dumps(np.zeros(2)),
    "object opcode": b"\x80\x02(cos\nsystem\nS'true'\no.",
    "instance opcode": b"\x80\x02(S'true'\nios\nsystem\n.",
    "call of a text": b"\x80\x02U\x01aU\x01b\x85R.",
    "state for a dictionary": b"\x80\x02}}b.",
    "extension opcode": b"\x80\x02\x82\x01.",
    "persistent id": b"\x80\x02(U\x07storageNU\x010NK\x01tQ.",
    "memo bomb": b"\x80\x02Nr" + struct.pack("<I", 2**32 - 1),
    "long text declared": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"abc.",
    "long bytes declared": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "byte array declared": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "outside buffer": b"\x80\x05\x97.",
    "integer of absurd length": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x01" * 10**6 + b".",
    "integer in many digits": b"L" + b"9" * 10_000 + b"L\n.",
    "set": pickle.dumps({1, 2}, 4),
    "cut": pickle.dumps([{"sent": "red"}])[:-6],
    "stack underflow": b"\x80\x020.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_without_cost(name):
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsafeCheckpointError, match=r"^refs\.p: "):
        read_plain(HOSTILE[name], "refs.p")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    assert time.process_time() - begin < 5


@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # of old text opcodes
@settings(max_examples=300)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\x80\x02", b"\x80\x05"]))
def test_any_bytes_give_plain_data_or_the_one_error(body, start):
    try:
        value = read_plain(start + body + b".", "x")
    except UnsafeCheckpointError:
        return
    assert isinstance(value, dict | list | tuple | str | bytes | bytearray | int | float | None)


def test_the_work_is_limited():
    with pytest.raises(UnsafeCheckpointError, match="x: a pickle has more than 1000 opcodes"):
        read_plain(b"\x80\x02" + b"N0" * 600 + b"N.", "x", most_opcodes=1000)

import re
from functools import lru_cache
from importlib.resources import as_file, files

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from lexiseg.encoders.wordpiece import bert_wordpiece


@lru_cache(maxsize=1)
def reference():
    with as_file(files("lexiseg") / "assets" / "wordpiece" / "vocab.txt") as path:
        return BertWordPieceTokenizer(str(path), lowercase=True)


@pytest.mark.parametrize(
    "text",
    [
        "dog",
        "A photo of a RED fire-hydrant, on the street!",
        "Naïve café — 北京 déjà-vu",
        "unbelievabletokenizationnonsense xqzzv",
        "",
        "tab\tand\nnewline\x00null",
        "x" * 101,
        "$5.00 & 3×4²",
    ],
)
def test_ids_equal_those_of_the_tokenizers_library(text):
    ours = bert_wordpiece()([text], context_length=512)[0].tolist()
    assert ours == reference().encode(text).ids


# Beyond 16 bits the reference departs from BERT, which splits U+2B820 to U+2B91F into characters.
@given(st.text(st.characters(exclude_categories=["Cs", "Cn"], max_codepoint=0xFFFF), max_size=40))
def test_ids_equal_those_of_the_tokenizers_library_on_any_text(text):
    assume(not re.search(r"\[(PAD|UNK|CLS|SEP|MASK)\]", text))
    ours = bert_wordpiece()([text], context_length=512)[0].tolist()
    assert ours == reference().encode(text).ids


def test_a_special_token_typed_by_a_user_is_plain_text():
    tokenizer = bert_wordpiece()
    ids = tokenizer(["[SEP]"], context_length=16)[0].tolist()
    assert ids.count(tokenizer.end) == 1
    assert len(ids) > 3


def test_a_long_text_is_cut_and_keeps_its_end():
    ids = bert_wordpiece()(["dog " * 50, "cat"], context_length=8)
    assert ids.shape == (2, 8)
    assert ids[0, -1] == bert_wordpiece().end
    assert ids[1].tolist()[3:] == [bert_wordpiece().pad] * 5

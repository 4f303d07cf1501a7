import pytest
import torch

from lexiseg.encoders.byte_pairs import END, START, decode, encode, vocabulary
from lexiseg.encoders.tokenizer import tokenize


def test_the_vocabulary_is_complete_and_read_once():
    known = vocabulary()
    assert len(known.spelling) == 49408
    assert len(known.merges) == 48894
    assert vocabulary() is known


def test_a_sentence_stands_between_start_and_end():
    ids = tokenize(["a photo of a cat", ""], context_length=8)
    assert ids.tolist() == [
        [START, 320, 1125, 539, 320, 2368, END, 0],
        [START, END, 0, 0, 0, 0, 0, 0],
    ]
    assert ids.dtype == torch.int64


def test_id_zero_is_a_symbol_too():
    assert encode("!(") == [0, 263]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("A  Photo\n of", "a photo of"),
        ("&amp;amp;", "&"),
        ("\u2018quoted\u2019", "'quoted'"),
        ("   cat ", "cat"),
    ],
)
def test_text_is_cleaned_first(text, same):
    assert encode(text) == encode(same)


def test_digits_stand_alone_and_special_tokens_are_recognised():
    assert len(encode("2026")) == 4
    assert encode("a<|ENDOFTEXT|>b") == [*encode("a"), END, *encode("b")]


@pytest.mark.parametrize("text", ["straße 狗 🐕 ñandú", "naïve café", "слон"])
def test_decoding_gives_the_words_back(text):
    assert decode(encode(text)).split() == text.split()


def test_bytes_that_are_no_text_are_replaced():
    assert decode(encode("狗")[:1]).startswith("\ufffd")


def test_truncation_ends_with_the_end():
    ids = tokenize(["dog " * 100], truncate=True)[0]
    assert ids[-1] == END
    assert (ids[1:-1] == encode("dog")[0]).all()


def test_misuse_is_explained():
    with pytest.raises(TypeError, match="one string came, 'dog'; give a list"):
        tokenize("dog")
    with pytest.raises(ValueError, match="no sentences came"):
        tokenize([])
    with pytest.raises(ValueError, match=r"'dog dog .*\.\.\.' is 102 tokens long, at most 77"):
        tokenize(["dog " * 100])

import pytest
import torch

from lexiseg.encoders.byte_pairs import END, START
from lexiseg.encoders.clip_text import end_positions
from lexiseg.encoders.tokenizer import tokenize
from tests.encoders.tiny_clip import tiny_clip


def test_trimming_is_exact():
    text = tiny_clip().text
    short = tokenize(["a dog", "a"])
    alone = text(short)
    mixed = text(torch.cat([short, tokenize(["dog " * 75])]))
    assert alone.words.shape == (2, 4, 64)
    assert mixed.words.shape == (3, 77, 64)
    torch.testing.assert_close(mixed.pooled[:2], alone.pooled, rtol=0, atol=2e-6)
    torch.testing.assert_close(mixed.words[:2, :4], alone.words, rtol=0, atol=2e-6)


def test_padding_starts_behind_the_end_and_not_at_id_zero():
    ids = tokenize(["wow!(loud)", "dog"])
    assert ids[0, 2] == 0
    features = tiny_clip().text(ids)
    assert features.is_word.sum(dim=1).tolist() == [7, 3]
    assert features.is_word[0].all()


def test_a_prompt_ends_at_the_first_end_token():
    ids = tokenize(["dog<|endoftext|>cat", "dog"])
    assert end_positions(ids).tolist() == [2, 2]
    features = tiny_clip().text(ids)
    # Rows of one batch differ in rounding where two threads share it: 1.3e-6 was seen.
    torch.testing.assert_close(features.pooled[0], features.pooled[1], rtol=0, atol=1e-5)


def test_end_positions_take_the_first_of_equal_ids():
    ids = torch.tensor([[START, END, END, 0], [START, 5, 7, END]])
    assert end_positions(ids).tolist() == [1, 3]


def test_no_prompts_and_too_many_tokens_are_refused():
    text = tiny_clip().text
    with pytest.raises(ValueError, match="no prompts came"):
        text(torch.zeros(0, 77, dtype=torch.long))
    with pytest.raises(ValueError, match="a prompt has 80 tokens, at most 77"):
        text(torch.tensor([[START, *[5] * 78, END]]))

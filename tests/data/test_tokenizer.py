"""The tokenizer must encode anything, give it back, and be the same when trained again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hjepa_gfn.data.store import load_episodes
from hjepa_gfn.data.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, Tokenizer, train_tokenizer
from hjepa_gfn.errors import UserError
from tests.data import corpora


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30))
def test_any_text_survives(text):
    tokenizer = corpora.shared_tokenizer()
    row = tokenizer.encode_text(text, 200)
    assert tokenizer.decode_text(row) == text
    assert UNK not in row


def test_rows():
    tokenizer = corpora.shared_tokenizer()
    row = tokenizer.encode_text("go to the red ball", 12)
    assert row.dtype == np.int32 and row.shape == (12,)
    n = int((row != PAD).sum())
    assert row[0] == BOS and row[n - 1] == EOS and (row[n:] == PAD).all()
    assert row.max() < tokenizer.vocab_size <= 512
    assert tokenizer.decode_text(tokenizer.encode_text("", 3)) == ""


def test_long_texts_are_cut_and_counted():
    tokenizer = train_tokenizer(["one two three"], 300)
    before = tokenizer.truncated
    row = tokenizer.encode_text("one two three " * 10, 8)
    assert row[0] == BOS and row[-1] == EOS
    assert "one two three".startswith(tokenizer.decode_text(row)[:5])
    assert tokenizer.truncated == before + 1
    tokenizer.encode_text("one", 8)
    assert tokenizer.truncated == before + 1


def test_special_tokens_cannot_be_written():
    tokenizer = corpora.shared_tokenizer()
    ids = tokenizer.tokens("<eos> <pad>")
    assert tokenizer.decode_text(ids) == "<eos> <pad>"
    assert not set(ids) & {PAD, BOS, EOS, UNK}


def test_training_again_gives_the_same_tokenizer():
    texts = list(load_episodes(corpora.shared(), "train").texts())
    assert train_tokenizer(texts, 512).to_json() == corpora.shared_tokenizer().to_json()


def test_save_and_load(tmp_path):
    tokenizer = corpora.shared_tokenizer()
    path = tmp_path / "run" / "tokenizer.json"
    tokenizer.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["tokenizer.json"]
    loaded = Tokenizer.load(path)
    text = "turn left and go forward 2. because the red ball is 3 ahead."
    assert loaded.tokens(text) == tokenizer.tokens(text) and loaded.vocab_size == tokenizer.vocab_size


@pytest.mark.parametrize("content", ["", "{}", "no json", '{"version": "1.0"}'])
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=str(path)):
        Tokenizer.load(path)
    with pytest.raises(UserError, match="none.json"):
        Tokenizer.load(tmp_path / "none.json")


def test_a_tokenizer_of_another_kind_is_refused():
    import tokenizers

    with pytest.raises(UserError, match=SPECIAL_TOKENS[0]):
        Tokenizer.from_json(tokenizers.Tokenizer(tokenizers.models.BPE()).to_str())


def test_vocabulary_must_hold_all_bytes():
    with pytest.raises(UserError, match="vocab_size"):
        train_tokenizer(["a"], 100)

"""Byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2), trained on the corpus: any string can be encoded."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from hjepa_gfn.errors import UserError

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
_MIN_VOCAB = 256 + len(SPECIAL_TOKENS)


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        vocab_size: number of token ids, special ones included.
        truncated: how many texts `encode_text` had to cut short so far.
    """

    def __init__(self, bpe: tokenizers.Tokenizer):
        """`bpe`: a trained tokenizer whose first ids are `SPECIAL_TOKENS`."""
        self._bpe = bpe
        self._bpe.encode_special_tokens = True  # a text that says "<eos>" says just that
        self.vocab_size: int = bpe.get_vocab_size()
        self.truncated = 0

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens and of any length."""
        return self._bpe.encode(text, add_special_tokens=False).ids

    def encode_text(self, text: str, length: int) -> np.ndarray:
        """int32[length]: bos, text, eos, padding. A text that is too long loses its end (counted in `truncated`)."""
        ids = self.tokens(text)
        if len(ids) > length - 2:
            self.truncated += 1
            ids = ids[: length - 2]
        row = np.full(length, PAD, np.int32)
        row[: len(ids) + 2] = [BOS, *ids, EOS]
        return row

    def decode_text(self, ids: Iterable[int]) -> str:
        """The text of token ids up to the first eos, special tokens left out; bytes that are no UTF-8 become U+FFFD."""
        kept = []
        for token in map(int, ids):
            if token == EOS:
                break
            if token >= len(SPECIAL_TOKENS):
                kept.append(token)
        return self._bpe.decode(kept)

    def to_json(self) -> str:
        """All of the tokenizer as one JSON string."""
        return self._bpe.to_str()

    @classmethod
    def from_json(cls, text: str, source: str = "tokenizer") -> "Tokenizer":
        """The inverse of `to_json`. Raises UserError, naming `source`, for anything else."""
        try:
            bpe = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the package raises bare Exception on bad JSON
            raise UserError(f"{source} is no tokenizer: {error}") from error
        if [bpe.token_to_id(token) for token in SPECIAL_TOKENS] != list(range(len(SPECIAL_TOKENS))):
            raise UserError(f"{source} lacks the special tokens {' '.join(SPECIAL_TOKENS)} as its first ids")
        return cls(bpe)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the tokenizer to a JSON file, atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        with partial.open("w", encoding="utf-8") as file:
            file.write(self.to_json())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """Reads what `save` wrote. Raises UserError, naming the file, if it cannot be read."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot read the tokenizer: {error}") from error
        return cls.from_json(text, source=str(path))


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learns a byte-level BPE from texts; the same texts give the same tokenizer.

    Args:
        texts: training texts.
        vocab_size: upper bound on the number of tokens; at least the 256 bytes and the special tokens.

    Raises:
        UserError: `vocab_size` too small.
    """
    if vocab_size < _MIN_VOCAB:
        raise UserError(f"vocab_size must be at least {_MIN_VOCAB} (the bytes and special tokens), not {vocab_size}")
    bpe = tokenizers.Tokenizer(models.BPE(unk_token=SPECIAL_TOKENS[UNK]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return Tokenizer(bpe)

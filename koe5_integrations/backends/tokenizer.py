"""The tokenizer every local backend shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from koe5_integrations.backends import Tokens
from koe5_integrations.backends.folder import ModelFolder
from koe5_integrations.errors import ModelLoadError

__all__ = ["TextTokenizer", "pad"]

# Texts handed to the tokenizer at once: enough for its threads, few enough that the Python integers
# it returns don't fill memory before they become arrays.
_SLICE = 1024


class TextTokenizer:
    """Tokens as the model reads them, with the length each text would have had uncut.

    Safe to call from several threads at once.

    Args:
        tokenizer: adjusted in place; nothing else may use it.
        max_seq_length: longest text, special tokens included; None is no limit.
        add_special_tokens: put the model's special tokens around the text.
    """

    def __init__(
        self, tokenizer: Tokenizer, max_seq_length: int | None, *, add_special_tokens: bool
    ) -> None:
        tokenizer.no_padding()
        if max_seq_length is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(max_seq_length)
        self._tokenizer = tokenizer
        self._add_special_tokens = add_special_tokens
        self._n_special = tokenizer.num_special_tokens_to_add(False) if add_special_tokens else 0

    @classmethod
    def from_folder(cls, folder: ModelFolder, max_seq_length: int | None) -> TextTokenizer:
        """Load ``tokenizer.json`` alone, without the model.

        Raises:
            ModelLoadError: there is none, or it can't be read.
        """
        path = next(iter(folder.files("tokenizer.json")), None)
        if path is None:
            raise ModelLoadError(
                f"{folder.path} has no tokenizer.json; save it with "
                "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelLoadError(f"{path} can't be read ({error}); copy it again") from error
        return cls(tokenizer, max_seq_length, add_special_tokens=folder.kind == "transformer")

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Return each text's tokens, in order."""
        tokens: list[Tokens] = []
        for start in range(0, len(texts), _SLICE):
            encodings = self._tokenizer.encode_batch_fast(
                texts[start : start + _SLICE], add_special_tokens=self._add_special_tokens
            )
            for encoding in encodings:
                uncut = len(encoding) + sum(
                    len(rest) - self._n_special for rest in encoding.overflowing
                )
                tokens.append(Tokens(np.array(encoding.ids, dtype=np.int32), uncut))
        return tokens

    def cut(self, text: str) -> str:
        """Return the longest start of a text that is read uncut, ending where a token ends.

        It is read as the tokens the whole text is cut to, but for rare ends within a letter that
        the normaliser has made several of.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=self._add_special_tokens)
        for end in sorted({end for _, end in encoding.offsets}, reverse=True):
            tokens = self([text[:end]])[0]
            if tokens.uncut <= len(tokens.ids):
                return text[:end]
        return ""


def pad(batch: Sequence[Tokens], pad_id: int) -> npt.NDArray[np.int64]:
    """Return token ids and attention mask, shape (2, len(batch), longest text)."""
    width = max([1, *(len(tokens.ids) for tokens in batch)])
    padded = np.zeros((2, len(batch), width), dtype=np.int64)
    padded[0] = pad_id
    for row, tokens in enumerate(batch):
        padded[0, row, : len(tokens.ids)] = tokens.ids
        padded[1, row, : len(tokens.ids)] = 1
    return padded

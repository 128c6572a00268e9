"""The bundled model's tokenizer: a Unigram vocabulary made for bags of Korean tokens."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

UNKNOWN = "[UNK]"


def train_tokenizer(texts: Iterable[str], *, vocab_size: int, prompts: Iterable[str]) -> Tokenizer:
    """Learn a Unigram vocabulary from `texts`.

    Text is put in NFKC and lower case and split at spaces, punctuation, digits and Latin words. A
    piece carries no mark of where its word begins, so that a noun has one row of the table whether
    it opens a word or follows another noun inside a Korean compound.

    Args:
        texts: what to learn from; read once.
        vocab_size: rows of the table, including the prompts and the unknown token (which has id 0).
        prompts: prefixes that become one token each, matched in the raw text.
    """
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Split(Regex("[0-9]+|[a-z]+"), "isolated"),
        ]
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=[UNKNOWN, *prompts],
        unk_token=UNKNOWN,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer

"""The splitter of Korean texts: which settings there are, and many texts at once."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import (
    ConfigError,
    EmptyTextError,
    InputError,
    TextTypeError,
    TruncationError,
    shorten,
)
from koe5_integrations.splitting.blocks import units_of
from koe5_integrations.splitting.chunking import Chunk, Chunking, Frame, LongText
from koe5_integrations.splitting.sentences import SentenceRule, find_sentences, sentence_rule
from koe5_integrations.text import check_texts, is_unicode, is_visible

__all__ = ["TokenSplitter"]

# Most tokens of a chunk where nothing else is asked for: of models that read so many or more, and
# of static ones, which read everything but blur what they average (see docs/splitting.md).
_DEFAULT_TOKENS = 512
_DEFAULT_TOKENS_UNLIMITED = 256
# Raised whenever the same settings give other chunks than before.
_VERSION = 1
_LEAST_ROOM = 16
# Longer texts, in characters per token of the limit, are split without being counted whole: the
# tokens of so many characters are not worth holding in memory to learn that they don't fit.
_LONG = 16
_CHARACTERS_AT_ONCE = 4_000_000
# For how prefix and text join.
_SPARE = 8


class TokenSplitter:
    """Splits Korean texts into chunks of whole sentences that their model reads to the end.

    Tokens are the model's own, as the encoder counts them: with the prefix, the special tokens and
    whatever else is embedded with a chunk. A text that fits stays as it is. One that doesn't is
    split at sections, paragraphs, list items and sentences, in this order of preference; a sentence
    that doesn't fit is cut at words, and a word that doesn't, between characters.

    Loads the model's tokenizer, not its weights, when it is first used. Safe to use from threads.

    Args:
        encoder: whose passages the chunks are to be.
        chunk_tokens: most tokens of a chunk; None is 512, what the model reads if that is less, and
            256 if it reads any number, as koe5-mini.
        overlap_tokens: most tokens of whole sentences that a chunk repeats of the one before.
        sentences: how they are found: by the ``rule``, which needs nothing, or by ``kiwi`` (extra
            ``ko``); ``auto`` is the rule.
        markdown: texts may have headings and fenced code; plain texts rarely look as if.
        repeat_headings: put the headings a chunk stands under in front of it, as far as they take
            no more than a quarter of it.

    Raises:
        ConfigError: an argument has an impossible value.
        MissingExtraError: kiwipiepy is asked for and not installed.
    """

    def __init__(
        self,
        encoder: KoE5Encoder,
        *,
        chunk_tokens: int | None = None,
        overlap_tokens: int = 0,
        sentences: SentenceRule = "auto",
        markdown: bool = True,
        repeat_headings: bool = True,
    ) -> None:
        for name, value, least in (
            ("chunk_tokens", chunk_tokens, 1),
            ("overlap_tokens", overlap_tokens, 0),
        ):
            if value is None and name == "chunk_tokens":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"{name}={shorten(value)} must be an integer of at least {least}")
        for name, flag in (("markdown", markdown), ("repeat_headings", repeat_headings)):
            if not isinstance(flag, bool):
                raise ConfigError(f"{name}={shorten(flag)} must be True or False")
        if not isinstance(encoder, KoE5Encoder):
            raise ConfigError(f"encoder={shorten(encoder)} must be a KoE5Encoder")
        self._encoder = encoder
        self._given_tokens = chunk_tokens
        self._overlap_tokens = overlap_tokens
        self._rule = sentence_rule(sentences)
        self._markdown = markdown
        self._repeat_headings = repeat_headings
        if chunk_tokens is not None:
            self._check_overlap(chunk_tokens)

    @property
    def chunk_tokens(self) -> int:
        """Most tokens of a chunk. Reads the model's configuration.

        Raises:
            ConfigError: more was asked for than the model reads, or less than the overlap.
            ModelLoadError: the model can't be had.
        """
        reads = self._encoder.max_seq_length
        given = self._given_tokens
        if given is not None and reads is not None and given > reads:
            raise ConfigError(
                f"chunk_tokens={given} is more than the {reads} tokens {self._encoder.model} reads"
            )
        tokens = given or min(reads or _DEFAULT_TOKENS_UNLIMITED, _DEFAULT_TOKENS)
        self._check_overlap(tokens)
        return tokens

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the chunks besides the model, as JSON types, with defaults resolved."""
        return {
            "version": _VERSION,
            "chunk_tokens": self.chunk_tokens,
            "overlap_tokens": self._overlap_tokens,
            "sentences": find_sentences(self._rule)[1],
            "markdown": self._markdown,
            "repeat_headings": self._repeat_headings,
        }

    def _check_overlap(self, tokens: int) -> None:
        if self._overlap_tokens * 2 > tokens:
            raise ConfigError(
                f"overlap_tokens={self._overlap_tokens} must be at most half of the {tokens} "
                "tokens of a chunk"
            )

    def split(self, text: str, *, extra: str = "", markdown: bool | None = None) -> list[Chunk]:
        """Return the chunks of a text, in order: none for a text with nothing visible in it.

        Args:
            text: of any length.
            extra: text that is embedded in front of each chunk, a blank line between.
            markdown: as the splitter's own, for this text alone.

        Raises:
            InputError: the text is not one, not valid Unicode, or has so much embedded with it that
                no room is left.
            ConfigError: the settings don't suit the model.
            ModelLoadError: the model can't be had.
        """
        frames = [lambda chunk: f"{extra}\n\n{chunk}"] if extra else None
        return self.split_many([text], frames=frames, markdown=markdown)[0]

    def split_many(
        self,
        texts: Iterable[str],
        *,
        frames: Sequence[Frame] | None = None,
        markdown: bool | None = None,
    ) -> list[list[Chunk]]:
        """Return the chunks of each text; much faster than one text after the other.

        Args:
            texts: of any length and number; all are in memory at once.
            frames: one for each text: what is embedded of a chunk, given its text.
            markdown: as the splitter's own, for these texts alone.

        Raises:
            InputError: as :meth:`split`; its position is that of the text.
            ConfigError: as :meth:`split`.
            ModelLoadError: as :meth:`split`.
        """
        if isinstance(texts, str):
            raise TextTypeError(
                "must be a list of strings, not a single one: split() takes that",
                position=None,
                value=texts,
            )
        listed = list(texts)
        limit = self.chunk_tokens
        visible = [i for i, text in enumerate(listed) if _is_visible(text, i, limit * _LONG)]
        framed = {i: frames[i] if frames else _bare for i in visible}
        wholes = {i: listed[i].strip() for i in visible if len(listed[i]) <= limit * _LONG}
        counts = self._count(list(wholes), [framed[i](whole) for i, whole in wholes.items()])
        chunks: list[list[Chunk]] = [[] for _ in listed]
        for (i, whole), tokens in zip(wholes.items(), counts, strict=True):
            if tokens <= limit:
                start = len(listed[i]) - len(listed[i].lstrip())
                chunks[i] = [Chunk(whole, start, start + len(whole), tokens)]
        rest = [i for i in visible if not chunks[i]]
        if rest:
            rest_chunks = self._split_long(listed, rest, framed, limit, markdown)
            for i, of_text in zip(rest, rest_chunks, strict=True):
                chunks[i] = of_text
        return chunks

    def passages_of(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the chunks' texts alone; of a text that fits for certain no token is counted.

        Arguments and errors as :meth:`split_many`. A token stands for one byte of the text in NFKC
        at least, so that a short text needs no tokenizer to be known to fit.
        """
        room = self.chunk_tokens - self._count([0], ["가"])[0] - _SPARE
        unsure = [i for i, text in enumerate(texts) if not _fits(text, room)]
        passages = [[text.strip()] for text in texts]
        try:
            found = self.split_many([texts[i] for i in unsure])
        except InputError as error:
            position = None if error.position is None else unsure[error.position]
            raise type(error)(error.problem, position=position, value=error.value) from None
        for i, chunks in zip(unsure, found, strict=True):
            passages[i] = [chunk.text for chunk in chunks]
        return passages

    def _split_long(
        self,
        texts: Sequence[str],
        rest: Sequence[int],
        frames: dict[int, Frame],
        limit: int,
        markdown: bool | None,
    ) -> list[list[Chunk]]:
        profile = self._encoder.profile
        prompts = tuple(p for p in (profile.query_prompt, profile.passage_prompt) if p)
        bases = self._bases(rest, frames)
        find = find_sentences(self._rule)[0]
        long_texts = []
        for i in rest:
            room = limit - bases[i]
            if room < _LEAST_ROOM:
                raise TruncationError(
                    f"has so much embedded with each chunk that it takes {bases[i]} of the {limit} "
                    f"tokens of chunk_tokens, and leaves fewer than {_LEAST_ROOM} for the text: "
                    "embed less with it (metadata), or choose larger chunks",
                    position=i,
                    value=frames[i](""),
                )
            units = units_of(
                texts[i], find, prompts, self._markdown if markdown is None else markdown
            )
            long_texts.append(LongText(texts[i], i, frames[i], room, units))
        chunking = Chunking(
            lambda parts: self._count(
                [long.index for long, _ in parts], [text for _, text in parts]
            ),
            limit=limit,
            base=bases[-1],
            overlap=self._overlap_tokens,
            repeat_headings=self._repeat_headings,
            prompts=prompts,
        )
        return chunking(long_texts)

    def _bases(self, rest: Sequence[int], frames: dict[int, Frame]) -> dict[int, int]:
        """Return the tokens around each text, and under -1 those around a bare one."""
        framed = {-1: _bare} | {i: frames[i] for i in rest if frames[i] is not _bare}
        owners = [i for i in framed for _ in range(2)]
        # Counted so, it does not matter how many tokens the letter has.
        counts = self._count(
            owners, [put(text) for put in framed.values() for text in ("가", "가 가")]
        )
        bases = {i: 2 * counts[2 * n] - counts[2 * n + 1] for n, i in enumerate(framed)}
        return {i: bases.get(i, bases[-1]) for i in (-1, *rest)}

    def _count(self, owners: Sequence[int], texts: Sequence[str]) -> list[int]:
        """Count tokens of strings, each a part of the text with that index."""
        counts: list[int] = []
        start = 0
        while start < len(texts):
            stop, characters = start, 0
            while stop < len(texts) and (stop == start or characters < _CHARACTERS_AT_ONCE):
                characters += len(texts[stop])
                stop += 1
            try:
                counts += self._encoder.count_tokens(texts[start:stop], "passage")
            except InputError as error:
                position = None if error.position is None else owners[start + error.position]
                raise type(error)(error.problem, position=position, value=error.value) from None
            start = stop
        return counts


def _bare(chunk: str) -> str:
    return chunk


def _fits(text: str, room: int) -> bool:
    """Whether a text takes so many bytes at most, and is one that can be embedded."""
    return (
        len(text) <= room
        and is_visible(text)
        and is_unicode(text)
        and len(unicodedata.normalize("NFKC", text).encode()) <= room
    )


def _is_visible(text: object, position: int, short: int) -> bool:
    try:
        if isinstance(text, str) and len(text) <= short:
            return is_visible(text)  # the rest is checked when it is counted
        check_texts([text], normalize_unicode=False)  # type: ignore[list-item]  # refused if not str
    except EmptyTextError:
        return False
    except InputError as error:
        raise type(error)(error.problem, position=position, value=error.value) from None
    return True

"""Token-true Korean splitting as a LlamaIndex node parser."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from koe5_integrations.errors import MissingExtraError

try:
    from llama_index.core.node_parser import NodeParser
    from llama_index.core.node_parser.interface import IdFuncCallable
    from llama_index.core.node_parser.node_utils import build_nodes_from_splits
    from llama_index.core.schema import BaseNode, Document, MetadataMode, TextNode
    from llama_index.core.utils import get_tqdm_iterable
except ImportError as error:
    raise MissingExtraError("koe5_integrations.llama_index_splitting", "llama-index") from error

from pydantic import AliasChoices, Field, PrivateAttr

from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, InputError
from koe5_integrations.fields import EncoderFields
from koe5_integrations.profiles import DEFAULT_MODEL
from koe5_integrations.splitting import Chunk, Frame, SentenceRule, TokenSplitter

__all__ = ["KoE5NodeParser", "stable_node_id"]

_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "koe5-integrations/nodes")
_NODES_AT_ONCE = 1024
# What an encoder is told by that changes vectors but no tokens.
_NO_TOKENS = ("truncate_dim", "precision", "int8_engine")


def stable_node_id(i: int, doc: BaseNode) -> str:
    """Return the same UUID for the same chunk number of the same document in every run."""
    return str(uuid.uuid5(_IDS, f"{doc.node_id}#{i}"))


class KoE5NodeParser(EncoderFields, NodeParser):
    """LlamaIndex node parser whose nodes the model reads whole; its tokenizer alone is loaded.

    What LlamaIndex embeds of a node is its text and those of its metadata that are not excluded
    from embedding. All of that is counted. Takes the options of
    :class:`~koe5_integrations.encoder.KoE5Encoder` by keyword; they have to be those of the
    embedding, which :meth:`from_encoder` sees to.

    Args:
        model_name: hub name, ``koe5-mini`` or a local folder; also accepted as ``model``.
        chunk_tokens: see :class:`~koe5_integrations.splitting.TokenSplitter`, also for those below.
        overlap_tokens: as there.
        sentences: as there.
        markdown: as there.
        repeat_headings: as there.
        id_func: makes a node's id of the chunk's number and its document; by default
            :func:`stable_node_id`.
        include_metadata: nodes get their document's metadata.
        include_prev_next_rel: nodes know the nodes before and after them.
    """

    model_name: str = Field(
        default=DEFAULT_MODEL, validation_alias=AliasChoices("model_name", "model")
    )
    chunk_tokens: int | None = None
    overlap_tokens: int = 0
    sentences: SentenceRule = "auto"
    markdown: bool = True
    repeat_headings: bool = True
    id_func: IdFuncCallable = Field(default=stable_node_id)

    _splitter: TokenSplitter = PrivateAttr()

    @classmethod
    def from_encoder(cls, encoder: KoE5Encoder, **settings: Any) -> KoE5NodeParser:
        """Return a parser for what this encoder embeds: ``from_encoder(embed_model.encoder)``.

        Args:
            encoder: of the embedding.
            settings: the parser's own, as in the constructor.
        """
        options = encoder.config()
        return cls(model_name=options.pop("model"), **options, **settings)

    def model_post_init(self, context: Any) -> None:
        """Check the options; nothing is loaded."""
        self._encoder = self._build_encoder(self.model_name)
        self._splitter = TokenSplitter(
            self._encoder,
            chunk_tokens=self.chunk_tokens,
            overlap_tokens=self.overlap_tokens,
            sentences=self.sentences,
            markdown=self.markdown,
            repeat_headings=self.repeat_headings,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in type(self).model_fields or name in NodeParser.model_fields:
            super().__setattr__(name, value)
            return
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        # Before the field is set, so that an impossible value leaves all as it was.
        fields = {field: getattr(self, field) for field in self.model_fields_set}
        changed = type(self)(**(fields | {name: value}))
        super().__setattr__(name, value)
        self._encoder, self._splitter = changed._encoder, changed._splitter

    @property
    def splitter(self) -> TokenSplitter:
        """What splits: the settings, and chunks with their places and tokens."""
        return self._splitter

    @classmethod
    def class_name(cls) -> str:
        """Name under which LlamaIndex serialises this class."""
        return "KoE5NodeParser"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Serialise what decides the nodes, so that ingestion caches hit exactly when they may.

        ``splitting`` has the settings that are meant by defaults. Device, batch sizes and caches
        are left out: they differ between machines while the nodes stay the same.
        """
        identity = self._encoder.identity
        own = [name for name in KoE5NodeParser.__annotations__ if not name.startswith("_")]
        own += ["include_metadata", "include_prev_next_rel"]
        return {
            **{
                name: value
                for name, value in identity.items()
                if name not in ("model", *_NO_TOKENS)
            },
            **{name: getattr(self, name) for name in own},
            "id_func": f"{self.id_func.__module__}.{self.id_func.__qualname__}",
            "splitting": self._splitter.settings,
            "class_name": self.class_name(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> KoE5NodeParser:
        """Rebuild from :meth:`to_dict`; keyword arguments are set besides.

        Raises:
            ConfigError: it had another ``id_func``, which has to be given again.
        """
        given = dict(data)
        for derived in ("class_name", "weights", "splitting"):
            given.pop(derived, None)
        id_func = given.pop("id_func", None)
        known = f"{stable_node_id.__module__}.{stable_node_id.__qualname__}"
        if id_func not in (None, known) and "id_func" not in kwargs:
            raise ConfigError(f"id_func={id_func!r} can't be serialised: pass id_func= again")
        return cls(**(given | kwargs))

    def _parse_nodes(
        self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any
    ) -> list[BaseNode]:
        parsed: list[BaseNode] = []
        starts = range(0, len(nodes), _NODES_AT_ONCE)
        for start in get_tqdm_iterable(starts, show_progress, "Parsing nodes"):
            some = nodes[start : start + _NODES_AT_ONCE]
            texts = [node.get_content(metadata_mode=MetadataMode.NONE) for node in some]
            try:
                split = self._splitter.split_many(texts, frames=[self._frame(n) for n in some])
            except InputError as error:
                position = error.position
                where = "" if position is None else f"(node {some[position].node_id!r}) "
                raise type(error)(
                    f"{where}{error.problem}",
                    position=None if position is None else start + position,
                    value=error.value,
                ) from None
            for node, chunks in zip(some, split, strict=True):
                parsed += self._nodes(node, chunks)
        return parsed

    async def _aparse_nodes(
        self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any
    ) -> list[BaseNode]:
        return await asyncio.to_thread(self._parse_nodes, nodes, show_progress, **kwargs)

    def _frame(self, node: BaseNode) -> Frame:
        """Return what LlamaIndex will embed of a chunk of this node."""
        likeness = build_nodes_from_splits([""], node, ref_doc=TextNode())[0]
        likeness.metadata = node.metadata if self.include_metadata else {}

        def embedded(chunk: str) -> str:
            likeness.set_content(chunk)
            return likeness.get_content(metadata_mode=MetadataMode.EMBED)

        return embedded

    def _nodes(self, node: BaseNode, chunks: Sequence[Chunk]) -> list[TextNode]:
        texts = [chunk.text for chunk in chunks]
        made = build_nodes_from_splits(texts, node, id_func=self.id_func)
        for one, chunk in zip(made, chunks, strict=True):
            one.start_char_idx, one.end_char_idx = chunk.start, chunk.end
        return made

    def _postprocess_parsed_nodes(
        self, nodes: list[BaseNode], parent_doc_map: Mapping[str, BaseNode]
    ) -> list[BaseNode]:
        # LlamaIndex looks each node up in its document's text: slow in long ones, and in vain where
        # headings were put in front. The places are known already.
        textless = {
            id_: Document(metadata=document.metadata, relationships=document.relationships)
            for id_, document in parent_doc_map.items()
        }
        return super()._postprocess_parsed_nodes(nodes, textless)

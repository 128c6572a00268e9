"""What is taken for a store, and what isn't."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ConfigError
from koe5_integrations.ingestion.stores.wrapping import as_store


class Ours:
    """A store of the user's own."""

    key = "mine"

    def upsert(self, passages: object, vectors: object) -> None: ...

    def delete(self, ids: object) -> None: ...

    def count(self) -> None: ...

    def ids(self) -> None: ...

    def reset(self) -> None: ...


def test_a_store_is_taken_as_it_is(static_model: Path) -> None:
    """What has the methods needs no wrapping, and no settings of one."""
    store, encoder = Ours(), KoE5Encoder(static_model)
    assert as_store(store, encoder) is store
    for given in ({"name": "notes"}, {"uuids": True}):
        with pytest.raises(ConfigError, match="are for stores of frameworks"):
            as_store(store, encoder, **given)


@pytest.mark.parametrize("other", [object(), "chroma_db", None, KoE5Encoder])
def test_anything_else_is_refused(other: object, static_model: Path) -> None:
    """What is no store is refused, saying what would be one."""
    with pytest.raises(ConfigError, match=r"VectorStore.*collection="):
        as_store(other, KoE5Encoder(static_model))


def test_no_framework_is_imported_for_a_store_of_none() -> None:
    """Finding out what was given imports neither LangChain nor LlamaIndex nor Chroma."""
    code = (
        "import sys; from koe5_integrations import KoE5Encoder;"
        "from koe5_integrations.ingestion.stores.wrapping import as_store\n"
        "try: as_store(object(), KoE5Encoder('koe5-mini'))\n"
        "except ValueError: pass\n"
        "else: raise SystemExit('taken')\n"
        "found = {'langchain_core', 'llama_index', 'chromadb'} & set(sys.modules)\n"
        "raise SystemExit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

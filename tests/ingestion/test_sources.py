"""Files, folders and globs: which are read, in which order, under which names."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from koe5_integrations.errors import ConfigError, MissingExtraError, SourceError
from koe5_integrations.ingestion.documents import Document, Rejected
from koe5_integrations.ingestion.sources import read_sources, source_names, total_bytes
from koe5_integrations.ingestion.sources.finding import find

DECOMPOSED = unicodedata.normalize("NFD", "한글")
MISSING = ["notes/x.txt", "", " ", "a\0b", "\udcff", "x" * 5000, "*.md", "**/*.png", "none/**"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def ids(sources: Any, **options: Any) -> list[str | None]:
    return [item.id for item in read_sources(sources, **options)]


def documents(items: Iterable[Document | Rejected]) -> list[Document]:
    return [item for item in items if isinstance(item, Document)]


def test_a_file_is_a_document_named_by_its_path(here: Path) -> None:
    """Id and metadata hold the path as it was given, and nothing is changed in the text."""
    write({"notes/a.md": "# 제목\n\n본문\n"})

    [document] = read_sources(["./notes//a.md"])

    assert document == Document(
        id="notes/a.md",
        text="# 제목\n\n본문\n",
        metadata={"source": "notes/a.md"},
        source="notes/a.md",
        place="notes/a.md",
    )


def test_a_folder_is_read_in_the_order_of_its_names(here: Path) -> None:
    """Depth first, so that two runs and two machines agree."""
    write({"n/b/2.txt": "a", "n/a.txt": "a", "n/b/10.txt": "a", "n/c.txt": "a", "n/b.txt": "a"})

    assert ids(["n"]) == ["n/a.txt", "n/b/10.txt", "n/b/2.txt", "n/b.txt", "n/c.txt"]


def test_the_working_folder_has_no_name(here: Path) -> None:
    """What lies in ``.`` is called as when it is named itself."""
    write({"a.txt": "a", "n/b.txt": "b"})

    assert ids(["."]) == ["a.txt", "n/b.txt"]
    assert {item.source for item in read_sources(["."])} == {"."}


def test_an_absolute_path_stays_one(here: Path) -> None:
    """The user decides by what he gives what ids look like."""
    write({"a.txt": "a"})

    assert ids([here / "a.txt"]) == [(here / "a.txt").as_posix()]


def test_hidden_files_and_locks_of_office_are_left_out(here: Path) -> None:
    """Neither hidden folders, nor hidden files, nor ``~$`` files are anyone's documents."""
    write({"n/.git/a.txt": "a", "n/.b.txt": "b", "n/~$c.docx": "c", "n/d.txt": "d"})

    assert ids(["n"]) == ids(["n/**/*"]) == ["n/d.txt"]


def test_a_hidden_folder_is_read_if_it_is_named(here: Path) -> None:
    """Only what was not asked for by its name is left out."""
    write({".n/a.txt": "a", "m/.n/a.txt": "b"})

    assert ids([".n"]) == [".n/a.txt"]
    assert ids(["m/.n/*"]) == ["m/.n/a.txt"]


def test_files_of_other_formats_are_skipped_in_a_folder(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are counted in the log, by suffix."""
    caplog.set_level(logging.INFO, logger="koe5_integrations")
    write({"n/a.png": "x", "n/b.PNG": "x", "n/c": "x", "n/d.TXT": "text"})

    assert ids(["n"]) == ["n/d.TXT"]
    assert [record.message for record in caplog.records] == ["n: skipped .png (2), no suffix (1)"]


def test_links_never_loop(here: Path) -> None:
    """A folder that links to itself is read once, by a folder's name and by a glob."""
    write({"n/a.txt": "a", "n/m/b.txt": "b"})
    Path("n/m/up").symlink_to("..", target_is_directory=True)
    Path("n/self").symlink_to("self")

    assert ids(["n"]) == ids(["n/**/*"]) == ["n/a.txt", "n/m/b.txt"]


def test_links_to_files_and_linked_sources_are_followed(here: Path) -> None:
    """A link is another name for a file; a linked folder is read where it is named."""
    write({"n/a.txt": "a", "m/b.txt": "b"})
    Path("n/linked.txt").symlink_to("../m/b.txt")
    Path("k").symlink_to("m", target_is_directory=True)

    assert ids(["n", "k"]) == ["n/a.txt", "n/linked.txt", "k/b.txt"]


def test_a_glob_reads_what_matches(here: Path) -> None:
    """In any depth with ``**``; what it matches of other formats is skipped."""
    write({"n/a.md": "a", "n/m/b.md": "b", "n/c.txt": "c", "n/m/d.png": "d"})

    assert ids(["n/**/*.md"]) == ["n/a.md", "n/m/b.md"]
    assert ids(["n/*/*"]) == ["n/m/b.md"]
    assert ids([str(here / "n" / "[ab].md")]) == [(here / "n/a.md").as_posix()]


def test_a_name_that_looks_like_a_glob_is_a_name_first(here: Path) -> None:
    """Files may have brackets in their names."""
    write({"[1] a.txt": "a"})

    assert ids(["[1] a.txt"]) == ["[1] a.txt"]


def test_names_are_in_nfc(here: Path) -> None:
    """A decomposed file name (macOS) gives the id that one would type."""
    write({f"{DECOMPOSED}/{DECOMPOSED}.txt": "a"})

    [document] = documents(read_sources([DECOMPOSED]))

    assert document.id == document.metadata["source"] == "한글/한글.txt"
    assert document.source == "한글"
    assert source_names([DECOMPOSED]) == ["한글"]


def test_names_that_are_equal_in_nfc_both_come(here: Path) -> None:
    """Two files can have one id: both are passed on, for the pipeline to say so."""
    write({f"n/{DECOMPOSED}.txt": "하나", "n/한글.txt": "둘"})

    assert ids(["n"]) == ["n/한글.txt", "n/한글.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_no_text_is_rejected(here: Path) -> None:
    """An id must be valid Unicode; the file is named as well as can be."""
    write({"n/a.txt": "a"})
    Path(os.fsdecode(b"n/\xb0\xa1.txt")).write_text("b")

    rejected, document = read_sources(["n"])

    assert document.id == "n/a.txt"
    name = "n/\\udcb0\\udca1.txt"
    assert rejected == Rejected(name, "its name is not valid Unicode: rename it", "n", name)


def test_our_own_shards_are_no_documents(here: Path) -> None:
    """Ingesting a folder that holds shards does not read what is stored as if it were new."""
    write(
        {
            "n/a.txt": "a",
            "n/db.shards/notes/manifest.json": "{}",
            "n/db.shards/notes/quarantine.jsonl": '{"text": "x"}\n',
            "n/db.shards/notes/shards/1.parquet": "x",
        }
    )

    assert ids(["n"]) == ids(["n/**/*"]) == ["n/a.txt"]


def test_a_source_given_twice_is_read_once(here: Path) -> None:
    """Also if it is written differently."""
    write({"n/a.txt": "a"})

    assert ids(["n", "./n/", Path("n")]) == ["n/a.txt"]


def test_one_path_needs_no_list(here: Path) -> None:
    """It is taken as the only source."""
    write({"a.txt": "a"})

    assert ids("a.txt") == ids(Path("a.txt")) == ["a.txt"]


def test_an_empty_folder_holds_nothing(here: Path) -> None:
    """That is no error: all documents may have left it."""
    Path("n").mkdir()

    assert ids(["n"]) == []


@pytest.mark.parametrize("name", MISSING)
def test_a_source_that_is_not_there_is_refused(here: Path, name: str) -> None:
    """At once, before anything of the other sources is read."""
    write({"a.txt": "a", "b.png": "b"})

    with pytest.raises(SourceError):
        read_sources(["a.txt", name])


def test_a_named_file_of_unknown_format_is_refused(here: Path) -> None:
    """With the formats that are known."""
    write({"a.xlsx": "a"})

    with pytest.raises(SourceError, match=r"a\.xlsx: can't tell from '\.xlsx'.*\.hwpx"):
        read_sources(["a.xlsx"])


def test_what_is_neither_file_nor_folder_is_refused(here: Path) -> None:
    """A pipe would never end."""
    os.mkfifo("pipe.txt")

    with pytest.raises(SourceError, match=r"pipe\.txt is neither a file nor a folder"):
        read_sources(["pipe.txt"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permissions_are_told(here: Path) -> None:
    """A named file is refused at once; one in a folder is rejected, and so is a closed folder."""
    write({"n/a.txt": "a", "n/b/c.txt": "c", "n/d.txt": "d"})
    Path("n/a.txt").chmod(0)
    Path("n/b").chmod(0)

    with pytest.raises(SourceError, match="permission"):
        read_sources(["n/a.txt"])
    items = list(read_sources(["n"]))
    Path("n/b").chmod(0o700)

    assert [type(item) for item in items] == [Rejected, Rejected, Document]


@pytest.mark.parametrize("sources", [[], None, 5, b"a.txt", [b"a.txt"], [None], {"a.txt": 1}])
def test_what_is_no_list_of_paths_is_refused(sources: Any) -> None:
    """A wrong argument is named, rather than iterated over."""
    with pytest.raises(ConfigError):
        read_sources(sources)


@pytest.mark.parametrize(
    "options",
    [
        {"text_field": ""},
        {"id_field": None},
        {"metadata_fields": "title"},
        {"metadata_fields": [1]},
        {"metadata_fields": [""]},
    ],
)
def test_impossible_fields_are_refused(here: Path, options: dict[str, Any]) -> None:
    """With the option's name."""
    write({"a.txt": "a"})

    with pytest.raises(ConfigError, match=next(iter(options))):
        read_sources(["a.txt"], **options)


def test_progress_adds_up_to_the_total(here: Path) -> None:
    """Whatever the files hold, bytes told are those announced."""
    rows = "".join(json.dumps({"text": f"글 {i}"}) + "\n" for i in range(1000))
    write({"n/a.txt": "가" * 1000, "n/b.jsonl": rows, "n/c.pdf": b"broken", "n/d.png": b"x" * 9999})
    write({"n/e.csv": "text\n" + "가\n" * 1000, "n/f.txt": b"\xff" * 100})
    told: list[int] = []

    list(read_sources(["n"], on_read=told.append))

    sizes = [Path("n", name).stat().st_size for name in ("a.txt", "b.jsonl", "c.pdf", "e.csv")]
    assert sum(told) == total_bytes(["n"]) == sum(sizes) + 100
    assert len(told) > 5, "progress within files too"


def test_a_file_that_goes_meanwhile_is_rejected(here: Path) -> None:
    """The rest goes on."""
    write({"n/a.txt": "a", "n/b.txt": "b", "n/c.txt": "c"})
    items = read_sources(["n"])
    first = next(items)
    Path("n/b.txt").unlink()

    second, third = items

    assert (first.id, third.id) == ("n/a.txt", "n/c.txt")
    assert isinstance(second, Rejected)
    assert "FileNotFoundError" in second.reason


def test_documents_come_one_at_a_time(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is opened before its document is asked for."""
    write({f"n/{i}.txt": "a" for i in range(5)})
    opened: list[str] = []
    real = Path.open

    def noted(self: Path, *args: Any, **options: Any) -> Any:
        opened.append(self.name)
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", noted)
    items = read_sources(["n"])

    assert opened == []
    next(items)
    assert opened == ["0.txt"]


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.html", "bs4", "files"),
        ("a.pdf", "pypdf", "files"),
        ("a.docx", "docx", "files"),
        ("a.hwpx", "hwpx", "files"),
        ("a.hwp", "hwpx", "files"),
        ("a.parquet", "pyarrow", "parquet"),
    ],
)
def test_a_missing_library_is_named_before_anything_is_read(
    here: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str, extra: str
) -> None:
    """With the file that needs it and the extra that brings it, in a folder too."""
    write({"n/0.txt": "a", f"n/{name}": "b"})
    monkeypatch.setitem(sys.modules, module, None)

    for source in (f"n/{name}", "n", "n/*"):
        with pytest.raises(MissingExtraError, match=rf"reading n/{name} needs.*\[{extra}\]"):
            read_sources([source])


def test_reading_text_loads_no_library() -> None:
    """Importing the readers costs nothing that is not used."""
    heavy = ["numpy", "bs4", "pypdf", "docx", "hwpx", "pyarrow", "langchain_core", "llama_index"]
    code = (
        "import sys; from koe5_integrations.ingestion.sources import read_sources; "
        f"sys.exit(str([name for name in {heavy} if name in sys.modules] or ''))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.strip() == ""


def test_find_refuses_before_it_walks(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing source is told without listing the others' files."""
    write({"n/a.txt": "a"})
    walked: list[Any] = []
    real: Callable[..., Any] = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (walked.append(path), real(path))[1])

    with pytest.raises(SourceError, match="there is no such file or folder"):
        find(["n", "missing"])
    assert walked == []

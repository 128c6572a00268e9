"""The layers of the package, read from its imports."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import koe5_integrations

ROOT = Path(koe5_integrations.__file__).parent
# From the bottom up; what stands in one layer may import each other, but not in a circle.
LEAVES = {
    "chroma",
    "haystack",
    "langchain",
    "langchain_hybrid",
    "langchain_splitting",
    "llama_index",
    "llama_index_hybrid",
    "llama_index_splitting",
}
LAYERS = [
    {"errors", "types"},
    {
        "warn",
        "profiles",
        "exports",
        "options",
        "text",
        "prompts",
        "vectors",
        "fingerprint",
        "compression",
        "fusion",
        "lexical",
    },
    {"backends"},
    {"truncation", "passes", "desk", "scheduling", "caching", "steps"},
    {"handle"},
    {"embedding"},
    {"encoder"},
    {"fields", "splitting"},
    LEAVES,
    {"evaluation", "ingestion"},
    {"training", "bench", "exporting"},
    {"cli"},
    {"__main__"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


def part_of(module: str) -> str:
    """Return the file or folder at the package's top that a dotted module name lies in."""
    return module.split(".")[1] if "." in module else "__init__"


def imports() -> dict[str, set[str]]:
    """Return the package's modules each module imports, wherever in it the import stands."""
    modules = {
        ".".join(("koe5_integrations", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in ROOT.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} has a relative import"
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                # A name is either a module of its own or lies in the one it is imported from.
                imported |= {n if n in modules else str(node.module) for n in names}
        found[module] = {name for name in imported if name.startswith("koe5_integrations")}
    return found


IMPORTS = imports()
MODULES = sorted(module for module in IMPORTS if part_of(module) != "__init__")


def test_every_module_has_a_layer() -> None:
    """A new module must be given its place."""
    assert {part_of(module) for module in MODULES} - set(RANK) == set()


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_a_higher_one(module: str) -> None:
    """Imports point downwards; the package's own front door is used by the outside only."""
    rank = RANK[part_of(module)]
    for imported in IMPORTS[module]:
        part = part_of(imported)
        if part == "__init__":
            assert rank == RANK["cli"], f"{module} imports the package's front door"
        else:
            assert RANK[part] <= rank, f"{module} imports {imported}"


def test_leaves_never_import_each_other() -> None:
    """Each framework's adapter stands alone."""
    for module in MODULES:
        part = part_of(module)
        if part in LEAVES:
            others = LEAVES - {part}
            assert not others & {part_of(imported) for imported in IMPORTS[module]}, module


def test_there_are_no_circles() -> None:
    """No chain of imports leads back to where it began."""
    TopologicalSorter({module: IMPORTS[module] - {module} for module in MODULES}).prepare()

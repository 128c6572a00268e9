"""The encoder's options as the commands take them.

None leaves an option to the encoder, whose defaults are the only ones; the help only repeats them.
The choices are spelled out here because importing them would import numpy for ``koe5 --help``; a
test compares them with the encoder's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import typer

__all__ = [
    "ApiKeyEnv",
    "Backend",
    "BaseUrl",
    "BatchSize",
    "CacheFolder",
    "Device",
    "MaxSeqLength",
    "Model",
    "OnPrefixed",
    "OnTruncation",
    "PassagePrompt",
    "Precision",
    "Profile",
    "QueryPrompt",
    "Revision",
    "TruncateDim",
    "chosen",
]

_PANEL = "The encoder"

Model: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A model of `koe5 models`, or a folder. koe5-mini is bundled and works offline.",
        show_default="nlpai-lab/KoE5",
        rich_help_panel=_PANEL,
    ),
]
Profile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Use the model as this model of `koe5 models` is used; for folders and unknown names.",
        rich_help_panel=_PANEL,
    ),
]
Revision: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Commit, branch or tag on the hub.",
        show_default="the profile's, or the newest",
        rich_help_panel=_PANEL,
    ),
]
QueryPrompt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Put in front of a question instead of the model's own; '' for nothing.",
        rich_help_panel=_PANEL,
    ),
]
PassagePrompt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Put in front of a passage instead of the model's own; '' for nothing.",
        rich_help_panel=_PANEL,
    ),
]
Backend: TypeAlias = Annotated[
    Literal["auto", "torch", "onnx", "openvino", "static", "remote"] | None,
    typer.Option(help="What runs the model.", show_default="auto", rich_help_panel=_PANEL),
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Address of a server that runs the model, such as http://127.0.0.1:8080.",
        rich_help_panel=_PANEL,
    ),
]
ApiKeyEnv: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Name of the environment variable that holds the server's key.",
        show_default="KOE5_API_KEY, if it is set",
        rich_help_panel=_PANEL,
    ),
]
Device: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, mps.", show_default="the best there is", rich_help_panel=_PANEL
    ),
]
Precision: TypeAlias = Annotated[
    Literal["fp32", "bf16", "fp16", "int8"] | None,
    typer.Option(
        help="Number format the model runs in.", show_default="fp32", rich_help_panel=_PANEL
    ),
]
BatchSize: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most texts in one pass through the model.",
        show_default="by their length",
        rich_help_panel=_PANEL,
    ),
]
MaxSeqLength: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Read at most this many tokens of each text.",
        show_default="what the model can",
        rich_help_panel=_PANEL,
    ),
]
TruncateDim: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Keep only the first dimensions of each vector; for models trained so.",
        show_default="all",
        rich_help_panel=_PANEL,
    ),
]
OnPrefixed: TypeAlias = Annotated[
    Literal["warn", "error", "keep"] | None,
    typer.Option(
        help="A text that already starts with a prefix: add ours and warn, stop, or keep its own.",
        show_default="warn",
        rich_help_panel=_PANEL,
    ),
]
OnTruncation: TypeAlias = Annotated[
    Literal["warn", "error", "ignore"] | None,
    typer.Option(
        help="A text longer than the model reads: cut it and warn, stop, or cut it.",
        show_default="warn",
        rich_help_panel=_PANEL,
    ),
]
CacheFolder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Folder of downloaded models.",
        show_default="the Hugging Face cache",
        rich_help_panel=_PANEL,
    ),
]

_NAMES = (
    "model",
    "profile",
    "revision",
    "query_prompt",
    "passage_prompt",
    "backend",
    "base_url",
    "api_key_env",
    "device",
    "precision",
    "batch_size",
    "max_seq_length",
    "truncate_dim",
    "on_prefixed",
    "on_truncation",
    "cache_folder",
)


def chosen(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the encoder's options among a command's arguments, those that were given.

    Args:
        arguments: of the command, as its ``locals()`` hold them.
    """
    return {name: arguments[name] for name in _NAMES if arguments.get(name) is not None}

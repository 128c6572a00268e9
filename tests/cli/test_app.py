"""The command as a whole: help, version, exit codes, and what it costs to start."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import typer
from typer.testing import Result

from koe5_integrations import __version__
from koe5_integrations import options as encoder_options
from koe5_integrations.cli import app
from koe5_integrations.cli import options as cli_options
from koe5_integrations.cli.exits import as_flags
from koe5_integrations.profiles import DEFAULT_MODEL

Invoke = Callable[..., Result]
Koe5 = Callable[..., "subprocess.CompletedProcess[str]"]


def _parameters() -> Iterator[tuple[str, Any]]:
    group: Any = typer.main.get_command(app)
    for name, command in [("koe5", group), *group.commands.items()]:
        for parameter in command.params:
            yield f"{name} {parameter.name}", parameter


def test_every_option_has_help() -> None:
    """No option or argument of any command goes unexplained."""
    unexplained = [name for name, parameter in _parameters() if not parameter.help]
    assert unexplained == []
    assert len(list(_parameters())) > 30


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["models"],
        ["embed"],
        ["search"],
        ["evaluate"],
        ["export"],
        ["bench"],
        ["doctor"],
        ["migrate"],
        ["train"],
    ],
)
def test_help_is_for_people(invoke: Invoke, command: list[str]) -> None:
    """Every command explains itself and leaves with 0."""
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_help_documents_the_exit_codes(invoke: Invoke) -> None:
    """The codes a script may rely on are in the help."""
    shown = invoke("--help").stdout
    codes = re.findall(r"\b(\d+)\b", shown[shown.index("Exit codes") :])
    assert [int(code) for code in codes] == [0, 2, 1, 130, 141, 143]


def test_version(koe5: Koe5) -> None:
    """``--version`` prints the package's version."""
    done = koe5("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"koe5 {__version__}\n", "")


def test_no_command_shows_the_help(invoke: Invoke) -> None:
    """Alone, it says what can be done."""
    result = invoke()
    assert result.exit_code == 2
    assert "search" in result.stdout + result.stderr


def test_an_unknown_option_is_a_usage_error(koe5: Koe5) -> None:
    """A mistyped option ends with 2 and without a traceback."""
    done = koe5("models", "--jsn")
    assert done.returncode == 2
    assert "--jsn" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", ["", "models", "embed", "search", "evaluate", "export", "bench", "doctor", "migrate"]
)
def test_help_loads_nothing_heavy(command: str) -> None:
    """Help is shown without numpy, a model library, Chroma or pyarrow."""
    code = (
        "import atexit, sys\n"
        "from koe5_integrations.cli import main\n"
        "heavy = ['numpy', 'tokenizers', 'torch', 'chromadb', 'pyarrow', 'huggingface_hub']\n"
        "atexit.register(lambda: print('LOADED', [m for m in heavy if m in sys.modules]))\n"
        f"sys.argv[1:] = {[*command.split(), '--help']!r}\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("LOADED []\n")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (cli_options.Backend, encoder_options.BackendName),
        (cli_options.Precision, encoder_options.Precision),
        (cli_options.OnPrefixed, encoder_options.OnPrefixed),
        (cli_options.OnTruncation, encoder_options.OnTruncation),
    ],
    ids=["backend", "precision", "on_prefixed", "on_truncation"],
)
def test_choices_are_the_encoders(ours: Any, theirs: Any) -> None:
    """The command offers what the encoder takes, all of it and nothing else."""
    literal = get_args(get_args(ours)[0])[0]
    assert get_args(literal) == get_args(theirs)


def test_default_model_is_the_packages(invoke: Invoke) -> None:
    """The help names the model that is used when none is given."""
    parameter = dict(_parameters())["embed model"]
    assert parameter.default is None
    assert parameter.show_default == DEFAULT_MODEL


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("choose on_prefixed='keep' or", "choose --on-prefixed 'keep' or"),
        ("as model=; point", "as --model; point"),
        ("batch_size=0 must", "--batch-size 0 must"),
        ("unknown_option=1", "unknown_option=1"),
    ],
)
def test_python_arguments_are_shown_as_flags(message: str, shown: str) -> None:
    """An error's remedy names the flag to type, not the argument of a function."""
    assert as_flags(message, {"model", "on_prefixed", "batch_size"}) == shown


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only foreseen errors are made short; anything else stays loud."""
    monkeypatch.setattr("koe5_integrations.profiles.PROFILES", None)
    result = typer.testing.CliRunner().invoke(app, ["models"])
    assert result.exit_code == 1
    assert isinstance(result.exception, AttributeError)

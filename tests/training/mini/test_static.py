import random
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")
parquet = pytest.importorskip("pyarrow.parquet", reason="training pairs are Parquet")
pyarrow = pytest.importorskip("pyarrow", reason="training pairs are Parquet")

# After the checks above, which skip this file where the extra is not installed.
from koe5_integrations.encoder import KoE5Encoder  # noqa: E402
from koe5_integrations.errors import ConfigError  # noqa: E402
from koe5_integrations.evaluation.datasets import load_dataset  # noqa: E402
from koe5_integrations.training.mini.static import main, train_static  # noqa: E402
from koe5_integrations.training.mini.table import Recipe  # noqa: E402
from koe5_integrations.training.pairs import Pairs  # noqa: E402

RECIPE = Recipe(dim=32, steps=60, batch_size=64, learning_rate=0.1)
_ASKED = "가나다라마바사아자차카타파하거너더러머버"
_WRITTEN = "고노도로모보소오조초코토포호구누두루무부"


def made_up_pairs(count: int, seed: int = 0) -> Pairs:
    """Return pairs without a shared word: only training can tell that 가나 is written 고노."""
    draw = random.Random(seed)
    other = dict(zip(_ASKED, _WRITTEN, strict=True))
    sources, queries, passages = [], [], []
    for number in range(count):
        words = ["".join(draw.sample(_ASKED, 2)) for _ in range(3)]
        sources.append(f"source {number % 2}")
        queries.append(" ".join(words) + "?")
        passages.append(" ".join("".join(other[s] for s in word) for word in words) + ".")
    return Pairs(sources, queries, passages)


def write_pairs(path, pairs):
    columns = {"source": pairs.sources, "query": pairs.queries, "passage": pairs.passages}
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_training_lowers_the_loss_and_finds_held_out_passages():
    """Training lowers the loss and finds passages it was not shown, which the start can't."""
    lines = []
    model = train_static(
        made_up_pairs(600),
        RECIPE,
        vocab_size=60,
        tokenizer_pairs=300,
        held_out=100,
        log=lines.append,
    )
    assert np.mean(model.losses[-10:]) < 0.5 * np.mean(model.losses[:10])
    assert model.untrained_ndcg < 0.3
    assert model.trained_ndcg > 0.6
    assert lines[-1].startswith("held-out nDCG@10")


def test_too_few_pairs_say_so():
    """Pairs that leave nothing beside the held-out ones raise before anything is trained."""
    with pytest.raises(ValueError, match="10 pairs are too few to hold out 9"):
        train_static(made_up_pairs(10), RECIPE, vocab_size=60, tokenizer_pairs=9, held_out=9)


def test_the_command_makes_the_same_working_model_twice(tmp_path, capsys):
    """The command writes a model our encoder loads, and again the same with its tokenizer."""
    pairs = write_pairs(tmp_path / "pairs.parquet", made_up_pairs(300))
    common = [f"--pairs={pairs}", "--held-out=50", "--dim=16", "--steps=10", "--batch-size=64"]
    one, two = tmp_path / "one", tmp_path / "two"
    main([*common, f"--out={one}", "--vocab-size=60"])
    main([*common, f"--out={two}", f"--tokenizer={one / 'tokenizer.json'}"])
    assert " x 16 to " in capsys.readouterr().out
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, two)]
    assert weights[0] == weights[1]
    assert KoE5Encoder(one).encode_queries(["가나 다라?"]).shape == (1, 16)


@pytest.mark.parametrize("option", ["--levels=0", "--steps=0", "--temperature=0", "--warm-up=2"])
def test_impossible_options_are_refused_before_training(tmp_path, option):
    """An option that can't be is named before the pairs are read."""
    name = option.strip("-").split("=")[0].replace("-", "_")
    with pytest.raises(ConfigError, match=f"{name}="):
        main([f"--pairs={tmp_path / 'none'}", f"--out={tmp_path}", option])


def test_a_missing_tokenizer_is_named(tmp_path):
    """A tokenizer file that isn't there raises before the pairs are read."""
    with pytest.raises(ConfigError, match=r"no tokenizer at .*nope\.json"):
        main([f"--pairs={tmp_path}", f"--out={tmp_path}", f"--tokenizer={tmp_path / 'nope.json'}"])


def test_the_command_drops_pairs_of_test_sets(tmp_path, capsys):
    """A pair whose query is one of the shipped test set's is not trained on."""
    pairs = made_up_pairs(100)
    pairs.queries[7] = next(iter(load_dataset("python_faq_ko").queries.values())) + " "
    file = write_pairs(tmp_path / "pairs.parquet", pairs)
    sizes = ["--vocab-size=60", "--held-out=0", "--dim=8", "--steps=2", "--batch-size=16"]
    main([f"--pairs={file}", f"--out={tmp_path / 'model'}", *sizes])
    assert "100 pairs, 1 dropped" in capsys.readouterr().out


def test_missing_torch_names_the_extra():
    """Without torch, importing the trainer raises an error with the line that installs it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try: import koe5_integrations.training.mini.static\n"
        "except ImportError as error: sys.stdout.write(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "koe5-integrations[train]"' in done.stdout

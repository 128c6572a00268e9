import json
import subprocess
import sys
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import pytest
from made_up_pairs import made_up_pairs, made_up_sentences, write_pairs

pytest.importorskip("torch", reason="training needs torch")
pytest.importorskip("pyarrow.parquet", reason="training pairs are Parquet")

# After the checks above, which skip this file where the extra is not installed.
import koe5_integrations
from koe5_integrations.encoder import KoE5Encoder
from koe5_integrations.errors import ConfigError, DatasetError
from koe5_integrations.evaluation.datasets import load_dataset
from koe5_integrations.training.mini import save
from koe5_integrations.training.mini.__main__ import main
from koe5_integrations.training.mini.recipe import Recipe

SMALL = [
    *("--pieces=60", "--bigrams=100", "--buckets=8", "--dim=16", "--steps=4"),
    *("--batch-size=64", "--similarity-pairs=32", "--threads=1"),
]


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path / "pairs.parquet", made_up_pairs(300))


@pytest.fixture
def korsts(tmp_path):
    for split, seed in (("train", 1), ("dev", 2), ("test", 3)):
        data = made_up_sentences(40, seed=seed)
        rows = zip(data.scores, data.first, data.second, strict=True)
        lines = [f"g\tf\ty\t1\t{score}\t{one}\t{two}" for score, one, two in rows]
        header = "genre\tfilename\tyear\tid\tscore\tsentence1\tsentence2"
        folder = tmp_path / "data" / "korsts"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"sts-{split}.tsv"
        file.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return folder


def test_the_command_makes_the_same_working_model_twice(tmp_path, pairs, korsts, capsys):
    """The command writes a folder our encoder loads, and again the same with its tokenizer."""
    one, two = tmp_path / "one", tmp_path / "two"
    common = [f"--pairs={pairs}", f"--korsts={korsts}", *SMALL]
    main([*common, f"--out={one}"])
    assert "untrained: headings 0." in capsys.readouterr().out
    common.append(f"--tokenizer={one / 'tokenizer.json'}")
    main([*common, f"--out={two}"])
    other = tmp_path / "other"
    main([*common, f"--out={other}", "--seed=1"])
    names = sorted(file.name for file in one.iterdir())
    assert names == [
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "tokenizer.json",
        "training.json",
    ]
    for name in names[:4]:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, other)]
    assert weights[0] != weights[1]
    assert KoE5Encoder(one).encode_queries(["가나 다라?"]).shape == (1, 16)


def test_the_record_says_what_it_was_made_of(tmp_path, pairs, korsts):
    """training.json has the recipe, the files' digests, rows by source and held-out figures."""
    out = tmp_path / "model"
    main([f"--pairs={pairs}", f"--korsts={korsts}", f"--out={out}", *SMALL])
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"]["dim"] == 16
    assert record["files"]["pairs.parquet"] == sha256(pairs.read_bytes()).hexdigest()
    assert set(record["files"]) == {"pairs.parquet", "sts-train.tsv", "sts-dev.tsv"}
    assert record["rows"] == {"headings": 150, "parakqc_paraphrase": 150}
    assert record["sentence_pairs"] == 40
    assert set(record["trained"]) == set(record["untrained"]) >= {"headings", "mean"}
    assert "torch" in record["versions"]


def test_the_defaults_are_those_of_the_bundled_model():
    """The bundled model's record has the recipe that the command follows of itself."""
    folder = Path(koe5_integrations.__file__).parent / "models" / "koe5-mini"
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert record["recipe"] == asdict(Recipe())


def test_texts_of_test_sets_are_dropped(tmp_path, korsts, capsys):
    """Pairs and sentences that a test set holds too are not trained on."""
    pairs = made_up_pairs(100)
    pairs.queries[7] = next(iter(load_dataset("python_faq_ko").queries.values())) + " "
    file = write_pairs(tmp_path / "pairs.parquet", pairs)
    train, test = korsts / "sts-train.tsv", korsts / "sts-test.tsv"
    shared = test.read_text(encoding="utf-8").splitlines()[1]
    train.write_text(train.read_text(encoding="utf-8") + shared + "\n", encoding="utf-8")
    out = tmp_path / "model"
    main(
        [
            *(f"--pairs={file}", f"--korsts={korsts}", f"--exclude-from={korsts.parent}"),
            *(f"--out={out}", *SMALL),
        ]
    )
    assert "100 pairs, 1 dropped" in capsys.readouterr().out
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert record["dropped_because_in_a_test_set"] == {"pairs": 1, "KorSTS train": 1}
    assert record["sentence_pairs"] == 40


def test_an_interrupted_write_leaves_nothing(tmp_path, pairs, monkeypatch):
    """What fails while the folder is written leaves neither it nor a part of it."""

    def full(tensors):
        raise OSError("no space left on device")

    monkeypatch.setattr(save, "serialise", full)
    with pytest.raises(OSError, match="no space left"):
        main([f"--pairs={pairs}", f"--out={tmp_path / 'model'}", *SMALL])
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.parquet"]


@pytest.mark.parametrize(
    "option",
    [
        *("--dim=20", "--steps=0", "--batch-size=1", "--temperature=0", "--warm-up=2"),
        *("--binary-from=1.5", "--length-exponent=-1", "--saturation=-1", "--threads=0"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_read(tmp_path, option):
    """An option that can't be is named before the pairs are read."""
    name = option.strip("-").split("=")[0].replace("-", "_")
    with pytest.raises(ConfigError, match=f"{name}="):
        main([f"--pairs={tmp_path / 'none'}", f"--out={tmp_path / 'model'}", option])


def test_wrong_folders_and_files_are_refused_before_training(tmp_path, pairs):
    """A folder that is there, a place that isn't, and a missing or wrong tokenizer are named."""
    out = f"--out={tmp_path / 'model'}"
    with pytest.raises(ConfigError, match="is there already"):
        main([f"--pairs={pairs}", f"--out={tmp_path}"])
    with pytest.raises(ConfigError, match="is no folder"):
        main([f"--pairs={pairs}", f"--out={tmp_path / 'nowhere' / 'model'}"])
    with pytest.raises(ConfigError, match=r"no tokenizer at .*nope\.json"):
        main([f"--pairs={pairs}", out, f"--tokenizer={tmp_path / 'nope.json'}"])
    with pytest.raises(ConfigError, match=r"is no tokenizer\.json"):
        main([f"--pairs={pairs}", out, f"--tokenizer={pairs}"])
    with pytest.raises(DatasetError, match="no training pairs"):
        main([f"--pairs={tmp_path / 'none'}", out])
    with pytest.raises(DatasetError, match=r"sts-train\.tsv"):
        main([f"--pairs={pairs}", out, f"--korsts={tmp_path}"])


def test_missing_torch_names_the_extra():
    """Without torch, the command says which line installs it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "try: import koe5_integrations.training.mini.__main__\n"
        "except ImportError as error: sys.stdout.write(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "koe5-integrations[train]"' in done.stdout

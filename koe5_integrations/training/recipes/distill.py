"""The recipe `distill`: a small student learns to give the vectors of a large teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from koe5_integrations.errors import ConfigError, DatasetError, MissingExtraError
from koe5_integrations.options import BackendName, Precision
from koe5_integrations.profiles import DEFAULT_MODEL
from koe5_integrations.training.config import TrainingConfig
from koe5_integrations.training.recipe import Prepared, Task

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator

    from koe5_integrations.evaluation.datasets import RetrievalDataset
    from koe5_integrations.training.distillation.teacher import Lessons, Teacher
    from koe5_integrations.training.texts import Texts
    from koe5_integrations.types import Role

__all__ = ["RECIPE", "DistillConfig"]

_DEV_AT_MOST = 1000
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainingConfig):
    """The settings of `distill`, beside those all recipes share.

    Attributes:
        data: pairs or triplets, or single texts in a column text, passages where no column role
            says query: Parquet, JSONL, JSON, CSV or TSV files, folders of them, or data sets on the
            hub.
        data_revision: commit of a data set on the hub.
        model: the student: "layers" takes some of the teacher's own, "static" is a table of token
            vectors that runs without torch, anything else a base on the hub or in a folder.
        layers: how many of the teacher's "layers" takes, evenly from its first to its last.
        vocab_size: tokens that "static" learns from the texts; 0 takes the teacher's tokenizer.
        dim: length of the student's vectors, at most the teacher's; None is its base's, of
            "static" 512.
        teacher: whose vectors are learnt: a name or a folder.
        teacher_revision: commit of a teacher on the hub; None is the one its profile names.
        teacher_profile: name of the known model that the teacher is used like.
        teacher_query_prompt: its prefix of questions, and the student's; None is its profile's.
        teacher_passage_prompt: its prefix of passages, and the student's; None is its profile's.
        teacher_backend: what runs the teacher.
        teacher_base_url: address of a server that runs it.
        teacher_api_key_env: name of the environment variable that holds the server's key.
        teacher_device: where it runs; None is the best there is.
        teacher_precision: of its arithmetic; None is fp32.
        teacher_cache: folder where its vectors are kept, for other runs too; None is in the run
            folder.
        max_texts: texts drawn at most; None is all.
        dev_size: texts kept from training to measure on: a number, below 1 a share, 0 for none;
            None is a tenth, at most 1,000.
        evaluate_on: test sets on which student and teacher are measured: names that
            `koe5 evaluate` knows, or folders.
        data_dir: folder that holds the named test sets; None is where they are fetched to.
        keep_test_overlap: train also on texts that the shipped test sets or evaluate_on hold.

    Raises:
        ConfigError: a value is of another type, or impossible.
    """

    recipe: ClassVar[str] = "distill"

    data: tuple[str, ...]
    data_revision: str | None = None
    model: str = "layers"
    layers: int = 6
    vocab_size: int = 48_000
    dim: int | None = None
    teacher: str = DEFAULT_MODEL
    teacher_revision: str | None = None
    teacher_profile: str | None = None
    teacher_query_prompt: str | None = None
    teacher_passage_prompt: str | None = None
    teacher_backend: BackendName = "auto"
    teacher_base_url: str | None = None
    teacher_api_key_env: str | None = None
    teacher_device: str | None = None
    teacher_precision: Precision | None = None
    teacher_cache: Path | None = None
    max_texts: int | None = None
    dev_size: float | None = None
    evaluate_on: tuple[str, ...] = ()
    data_dir: Path | None = None
    keep_test_overlap: bool = False
    batch_size: int = 256
    learning_rate: float = 1e-4
    max_seq_length: int = 512

    def __post_init__(self) -> None:
        """Refuse what can't be trained with, before anything is read."""
        super().__post_init__()
        if not self.data:
            raise ConfigError("data=() names nothing to train on; give a file, folder or data set")
        for name in ("layers", "dim", "max_texts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value!r} must be at least 1")
        if self.vocab_size < 0:
            raise ConfigError(
                f"vocab_size={self.vocab_size!r} must be a number of tokens, or 0 for the "
                "teacher's tokenizer"
            )
        size = self.dev_size
        if size is not None and (size < 0 or (size >= 1 and not size.is_integer())):
            raise ConfigError(
                f"dev_size={size!r} must be a number of texts, a share below 1, or 0 for none"
            )


class _Distill:
    name = DistillConfig.recipe

    def load(self, config: DistillConfig) -> SentenceTransformer:
        # What can be seen to be missing is said before a model is fetched.
        teacher = _teacher(config)
        test_sets = _test_sets(config)
        teacher_dim = teacher.encoder.dim
        if config.dim is not None and config.dim > teacher_dim:
            raise ConfigError(f"dim={config.dim!r} is more than the {teacher_dim} of the teacher's")
        train, _ = _read(config, test_sets)
        try:
            from koe5_integrations.training.distillation.students import dim_of, load_student
        except ImportError as error:
            raise MissingExtraError("training", "train") from error
        model = load_student(
            config,
            teacher,
            train,
            layers=config.layers,
            vocab_size=config.vocab_size,
            dim=config.dim,
        )
        dim = dim_of(model)
        if dim > teacher_dim:
            raise ConfigError(
                f"{config.model} gives vectors of {dim} dimensions, and the teacher's have "
                f"{teacher_dim}; shorten them with dim="
            )
        if config.matryoshka_dims and config.matryoshka_dims[0] != dim:
            raise ConfigError(
                f"matryoshka_dims={config.matryoshka_dims!r} must begin with the student's {dim} "
                "dimensions, or its whole vectors would not be trained"
            )
        return model

    def prepare(self, config: DistillConfig, model: SentenceTransformer) -> Prepared:
        from sentence_transformers.sentence_transformer.losses import MSELoss

        from koe5_integrations.training.distillation.agreement import measure
        from koe5_integrations.training.distillation.students import dim_of, start_student
        from koe5_integrations.training.recipes.matryoshka import with_matryoshka

        teacher = _teacher(config)
        test_sets = _test_sets(config)
        train, dev = _read(config, test_sets)
        dim = dim_of(model)
        lessons = teacher.lessons(train, dim, rotate=bool(config.matryoshka_dims))
        start_student(model, config.model, teacher, train, lessons.projection)

        def test(trained: SentenceTransformer) -> Mapping[str, Mapping[str, float]]:
            return measure(trained, teacher, test_sets, config.mini_batch_size or _BATCH)

        return Prepared(
            # Of unit vectors, the squared difference is the cosine.
            tasks={"texts": Task(lessons.data, with_matryoshka(MSELoss(model), config, model))},
            evaluator=_evaluator(config, teacher, dev, lessons) if len(dev) > 1 else None,
            test=test if test_sets else None,
            prompts=teacher.prompts,
            files=train.files,
            card=_card(config, teacher, train, dev, dim),
        )


RECIPE = _Distill()


def _teacher(config: DistillConfig) -> Teacher:
    from koe5_integrations.training.distillation.teacher import Teacher

    cache = config.teacher_cache
    return Teacher(
        config.teacher,
        config.out / "teacher",
        seed=config.seed,
        options={
            "revision": config.teacher_revision,
            "profile": config.teacher_profile,
            "query_prompt": config.teacher_query_prompt,
            "passage_prompt": config.teacher_passage_prompt,
            "backend": config.teacher_backend,
            "base_url": config.teacher_base_url,
            "api_key_env": config.teacher_api_key_env,
            "device": config.teacher_device,
            "precision": config.teacher_precision,
            "embedding_cache": None if cache is None else str(cache),
        },
    )


def _test_sets(config: DistillConfig) -> list[RetrievalDataset]:
    from koe5_integrations.evaluation.datasets import load_dataset

    return [load_dataset(name, data_dir=config.data_dir) for name in config.evaluate_on]


def _read(config: DistillConfig, test_sets: Sequence[RetrievalDataset]) -> tuple[Texts, Texts]:
    """Return the texts to train on and those to measure on."""
    from koe5_integrations.training.testsets import protected_texts
    from koe5_integrations.training.texts import read_texts

    protected: set[str] = set()
    if not config.keep_test_overlap:
        protected = protected_texts(None)
        for dataset in test_sets:
            # Documents of one's own are what one trains on; the questions must be new.
            protected.update(dataset.queries.values())
    texts = read_texts(config.data, revision=config.data_revision, protected=protected)
    if config.max_texts is not None and config.max_texts < len(texts):
        texts, _ = texts.draw(config.max_texts, config.seed)
    size = config.dev_size
    if size is None:
        size = min(_DEV_AT_MOST, len(texts) // 10)
    number = round(size * len(texts)) if size < 1 else int(size)
    if number >= len(texts):
        raise DatasetError(
            f"{', '.join(config.data)}: dev_size={config.dev_size!r} leaves none of {len(texts):,} "
            "texts to train on; ask for fewer, or 0"
        )
    dev, train = texts.draw(number, config.seed)
    return train, dev


def _evaluator(
    config: DistillConfig, teacher: Teacher, dev: Texts, lessons: Lessons
) -> SentenceEvaluator:
    from koe5_integrations.training.distillation.agreement import Agreement
    from koe5_integrations.training.recipes.matryoshka import at_each_dim

    by_role: dict[Role, list[str]] = {"query": dev.queries, "passage": dev.passages}
    vectors = {role: teacher.vectors(texts, role) for role, texts in by_role.items()}
    projection = lessons.projection
    learnt = vectors if projection is None else {r: v @ projection for r, v in vectors.items()}
    texts = {role: [teacher.prompts[role] + text for text in by_role[role]] for role in by_role}
    return at_each_dim(
        lambda dim, suffix: Agreement(
            texts,
            vectors,
            learnt,
            batch_size=config.mini_batch_size or _BATCH,
            dim=dim,
            suffix=suffix,
        ),
        config,
    )


def _card(config: DistillConfig, teacher: Teacher, train: Texts, dev: Texts, dim: int) -> str:
    student = {
        "layers": f"{config.layers} of the teacher's layers",
        "static": "a table of token vectors that began with the teacher's vectors of the tokens",
    }.get(config.model, f"`{config.model}`")
    shortened = (
        f", which was brought from {teacher.encoder.dim} to {dim} dimensions along the principal "
        "directions"
        if dim < teacher.encoder.dim
        else ""
    )
    return (
        f"Distilled from `{config.teacher}`: {student}, trained to give each text the vector that "
        f"the teacher gives it{shortened} (mean squared error of vectors of unit length). It saw "
        f"{len(train.queries):,} questions with the prefix `{teacher.prompts['query']}` and "
        f"{len(train.passages):,} passages with `{teacher.prompts['passage']}`; "
        f"{len(dev):,} texts were kept to measure on, and {train.left_out:,} rows left out because "
        "a test set holds their texts."
    )

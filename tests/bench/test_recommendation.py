"""The rule that recommends a configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.bench import (
    Configuration,
    Fidelity,
    Measured,
    Memory,
    Throughput,
    Waits,
    recommend,
)

MODEL = {"model": "nlpai-lab/KoE5"}


def measured(
    spec: str,
    *,
    rate: float = 10.0,
    p50: float = 0.1,
    peak: int = 2**30,
    cosine: float | None = 1.0,
    batches: dict[int, float] | None = None,
) -> Measured:
    """Two lengths, of which the longer is a quarter as fast; ``batches`` are rates by batch."""
    rates: dict[int | None, float] = {None: rate, **(batches or {})}
    return Measured(
        configuration=Configuration.parse(spec),
        device="cpu",
        batch_tokens=2048,
        load_seconds=1.0,
        first_query_seconds=0.1,
        memory=Memory(resident=peak // 2, peak=peak),
        throughput=tuple(
            Throughput(length, batch, length, 64, (at * share,))
            for batch, at in rates.items()
            for length, share in ((16, 1.0), (128, 0.25))
        ),
        query=Waits(((p50, p50, p50),)),
        query_during_bulk=Waits(((p50,),)),
        callers=(),
        fidelity=None if cosine is None else Fidelity(cosine, cosine - 0.01, 100, "torch fp32"),
    )


def names(*found: Measured, floor: float = 0.99) -> tuple[str | None, str | None]:
    """Return what is recommended for bulk work and for questions."""
    chosen = recommend(found, MODEL, floor)
    bulk, query = chosen.bulk, chosen.query
    return (bulk and bulk.configuration.name, query and query.configuration.name)


def test_each_purpose_gets_its_fastest() -> None:
    """Bulk work goes by passages a second, questions by their median wait."""
    found = names(measured("torch:bf16", rate=30, p50=0.2), measured("onnx", rate=10, p50=0.05))
    assert found == ("torch bf16", "onnx fp32")


def test_what_loses_too_much_is_not_considered() -> None:
    """A faster configuration below the floor is passed over, one at the floor is not."""
    slow, fast = measured("torch"), measured("onnx:int8", rate=50, p50=0.01, cosine=0.98)
    assert names(slow, fast) == ("torch fp32", "torch fp32")
    assert names(slow, fast, floor=0.98) == ("onnx int8", "onnx int8")


def test_unknown_fidelity_is_trusted_in_fp32_only() -> None:
    """Without vectors to compare with, reduced precision is not recommended."""
    exact = measured("onnx", cosine=None)
    reduced = measured("onnx:int8", rate=99, cosine=None)
    assert names(exact, reduced) == ("onnx fp32", "onnx fp32")
    assert names(reduced) == (None, None)


def test_a_vector_that_is_no_number_is_not_trusted() -> None:
    """A cosine that could not be computed is below every floor."""
    assert names(measured("torch:fp16", cosine=float("nan")), floor=-1) == (None, None)


def test_within_noise_the_smaller_wins() -> None:
    """A lead under five percent does not outweigh memory; a greater one does."""
    large = measured("torch", rate=10.4, p50=0.1, peak=4 * 2**30)
    small = measured("onnx", rate=10.0, p50=0.104, peak=2**30)
    assert names(large, small) == ("onnx fp32", "onnx fp32")
    faster = replace(large, throughput=measured("torch", rate=11.0).throughput)
    assert names(faster, small)[0] == "torch fp32"


def test_equal_in_all_the_first_is_taken() -> None:
    """The choice does not depend on chance."""
    assert names(measured("torch"), measured("onnx")) == ("torch fp32", "torch fp32")


def test_a_batch_size_is_recommended_only_if_it_gains() -> None:
    """Another batch than the backend's own is named from a tenth more passages on."""
    for gain, expected in ((1.05, None), (1.2, 8192)):
        chosen = recommend([measured("torch", batches={512: 5, 8192: 10 * gain})], MODEL)
        assert chosen.bulk is not None
        assert chosen.bulk.batch_tokens == expected
        assert ("batch_tokens=8192" in chosen.bulk.code) == (expected is not None)


def test_a_batch_size_counts_only_if_it_ran_at_every_length() -> None:
    """A batch left out at one length, for taking too long, can't win by the others."""
    found = measured("torch", batches={8192: 100})
    partial = tuple(p for p in found.throughput if (p.batch_tokens, p.length) != (8192, 128))
    chosen = recommend([replace(found, throughput=partial)], MODEL)
    assert chosen.bulk is not None
    assert chosen.bulk.batch_tokens is None


def test_the_code_makes_the_encoder() -> None:
    """What is printed can be pasted, with the arguments the benchmark was given."""
    arguments = {"model": "koe5-mini", "max_seq_length": 128}
    chosen = recommend([measured("static")], arguments)
    assert chosen.query is not None
    made = eval(chosen.query.code, {"KoE5Encoder": KoE5Encoder})
    assert made.config() == {**arguments, "backend": "static"}
    reduced = recommend([measured("onnx:int8")], MODEL).query
    assert reduced is not None
    assert reduced.code == "KoE5Encoder('nlpai-lab/KoE5', backend='onnx', precision='int8')"


def test_the_text_says_one_thing_once() -> None:
    """One configuration for both purposes is one sentence, two are two; memory is in each."""
    one = recommend([measured("torch")], MODEL).text
    assert one.startswith("For bulk work and questions alike: KoE5Encoder(")
    assert one.count("1,024 MiB") == 1
    two = recommend(
        [measured("torch:bf16", rate=99, p50=0.2, cosine=0.9991), measured("onnx")], MODEL
    ).text
    assert "For questions: KoE5Encoder('nlpai-lab/KoE5', backend='onnx') (p50 100 ms" in two
    assert two.count("MiB") == 2
    assert two.count("mean cosine to fp32 0.99910") == 1


@pytest.mark.parametrize(
    ("found", "why"),
    [([], "could be measured"), ([measured("torch:bf16", cosine=0.5)], "mean cosine of 0.99")],
)
def test_nothing_to_recommend_says_why(found: list[Measured], why: str) -> None:
    """No configuration, or none faithful enough, is said rather than papered over."""
    chosen = recommend(found, MODEL)
    assert (chosen.bulk, chosen.query) == (None, None)
    assert why in chosen.text

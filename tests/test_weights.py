"""KoE5's own figures, on its own weights."""

from __future__ import annotations

import hashlib
import os
import unicodedata

import numpy as np
import pytest

from koe5_integrations import KoE5Encoder
from koe5_integrations.errors import ModelLoadError

# The example in the README of https://github.com/nlpai-lab/KoE5, to the character.
SENTENCES = {
    "9125f10389db213aef3f4ac7279c40289b288b389302581dd319a6d108176f35": (
        "query: 헌법과 법원조직법은 어떤 방식을 통해 기본권 보장 등의 다양한 법적 모색을 "
        "가능하게 했어"
    ),
    "02309202e61315187ff7ba6db37447753ca1e927f686b9b3d37bea039cbb4b71": (
        "passage: 4. 시사점과 개선방향 앞서 살펴본 바와 같이 우리 헌법과 ｢법원조직 법｣은 대법원 "
        "구성을 다양화하여 기본권 보장과 민주주의 확립에 있어 다각적인 법적 모색을 가능하게 하는 "
        "것을 근본 규범으로 하고 있다. 더욱이 합의체로서의 대법원 원리를 채택하고 있는 것 역시 "
        "그 구성의 다양성을 요청하는 것으로 해석된다. 이와 같은 관점에서 볼 때 현직 법원장급 "
        "고위법관을 중심으로 대법원을 구성하는 관행은 개선할 필요가 있는 것으로 보인다."
    ),
    "44985e2dab0854e81e54cb312d500b41f983c4e905dded6fa3f52f66273eee24": (
        "passage: 연방헌법재판소는 2001년 1월 24일 5:3의 다수견해로 「법원조직법」 제169조 "
        "제2문이 헌법에 합치된다는 판결을 내렸음 ○ 5인의 다수 재판관은 소송관계인의 인격권 "
        "보호, 공정한 절차의 보장과 방해받지 않는 법과 진실 발견 등을 근거로 하여 텔레비전 "
        "촬영에 대한 절대적인 금지를 헌법에 합치하는 것으로 보았음 ○ 그러나 나머지 3인의 "
        "재판관은 행정법원의 소송절차는 특별한 인격권 보호의 이익도 없으며, 텔레비전 공개주의로 "
        "인해 법과 진실 발견의 과정이 언제나 위태롭게 되는 것은 아니라면서 반대의견을 제시함 ○ "
        "왜냐하면 행정법원의 소송절차에서는 소송당사자가 개인적으로 직접 심리에 참석하기보다는 "
        "변호사가 참석하는 경우가 많으며, 심리대상도 사실문제가 아닌 법률문제가 대부분이기 "
        "때문이라는 것임 □ 한편, 연방헌법재판소는 "
        "「연방헌법재판소법」(Bundesverfassungsgerichtsgesetz: BVerfGG) 제17a조에 따라 "
        "제한적이나마 재판에 대한 방송을 허용하고 있음 ○ 「연방헌법재판소법」 제17조에서 "
        "「법원조직법」 제14절 내지 제16절의 규정을 준용하도록 하고 있지만, 녹음이나 촬영을 통한 "
        "재판공개와 관련하여서는 「법원조직법」과 다른 내용을 규정하고 있음"
    ),
}
# Its printed similarities of question and first passage, question and second, and both passages.
SIMILARITIES = [0.6721, 0.3897, 0.3740]


def koe5() -> KoE5Encoder:
    """KoE5 from the folder KOE5_WEIGHTS names, or from the hub's cache."""
    encoder = KoE5Encoder(os.environ.get("KOE5_WEIGHTS") or "nlpai-lab/KoE5", local_files_only=True)
    try:
        encoder.fingerprint  # noqa: B018  # finds the files
    except ModelLoadError as error:
        if "KOE5_WEIGHTS" in os.environ:
            raise
        pytest.skip(f"KoE5's weights are not here; set KOE5_WEIGHTS to their folder ({error})")
    return encoder


@pytest.mark.parametrize("digest", SENTENCES)
def test_the_example_is_copied_to_the_character(digest: str) -> None:
    """The sentences are those whose similarities are published, halfwidth brackets included."""
    text = SENTENCES[digest]
    assert hashlib.sha256(text.encode()).hexdigest() == digest
    assert unicodedata.is_normalized("NFC", text)


@pytest.mark.weights
def test_reproduces_the_example_of_koe5() -> None:
    """The published similarities come out of bare texts, with our prefixes."""
    encoder = koe5()
    question, first, second = SENTENCES.values()
    query = encoder.encode_queries([question.removeprefix("query: ")])
    passages = encoder.encode_passages([p.removeprefix("passage: ") for p in (first, second)])
    assert query.shape == (1, 1024)
    similarities = [*(query @ passages.T)[0], passages[0] @ passages[1]]
    np.testing.assert_allclose(similarities, SIMILARITIES, atol=5e-4)
    assert encoder.truncation.texts == 0


@pytest.mark.weights
def test_koe5_is_what_its_profile_says() -> None:
    """Dimensions, length and pooling in the files are those of the table."""
    encoder = koe5()
    fingerprint = encoder.fingerprint
    assert (encoder.dim, encoder.max_seq_length) == (1024, 512)
    assert (fingerprint.pooling, fingerprint.normalize) == ("mean", True)

from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from koe5_integrations.backends.bag_features import bigrams
from koe5_integrations.errors import DatasetError
from koe5_integrations.training.mini.features import FeatureReader, Features, learn_bigrams

FEATURES = Features(
    np.array([1, 2, 3, 1, 2], dtype=np.int32),
    np.array([1, 2, 1, 1, 9], dtype=np.uint16),
    np.array([0, 2, 2, 5]),
)


@pytest.fixture
def reader():
    vocabulary = {"[UNK]": 0, "q: ": 1, "서울": 2, "시": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["q: "])
    return FeatureReader(tokenizer, learn_bigrams(["서울"], 5), 1, max_characters=8)


def as_counts(features):
    ends = zip(features.offsets[:-1], features.offsets[1:], strict=True)
    return [
        dict(zip(features.ids[a:b].tolist(), features.counts[a:b].tolist(), strict=True))
        for a, b in ends
    ]


def test_select_reorders():
    """Selected texts come in the order asked for, the empty one too, and again if asked again."""
    chosen = FEATURES.select(np.array([2, 1, 0, 2]))
    assert chosen.ids.tolist() == [3, 1, 2, 1, 2, 3, 1, 2]
    assert chosen.counts.tolist() == [1, 1, 9, 1, 2, 1, 1, 9]
    assert chosen.offsets.tolist() == [0, 3, 3, 5, 8]


def test_joined_texts_follow_each_other():
    """The joined parts' texts are those of each part in turn."""
    joined = Features.join([FEATURES, FEATURES.select(np.array([0]))])
    assert as_counts(joined) == [*as_counts(FEATURES), {1: 1, 2: 2}]


def test_document_frequency_counts_texts():
    """A feature twice in a text counts once, and one nowhere counts 0."""
    assert FEATURES.document_frequency(5).tolist() == [0, 2, 2, 1, 0]


def test_reads_tokens_known_bigrams_and_others(reader):
    """Rows are tokens with the prompt's, then bigrams: none of the prompt, unknown ones shared."""
    features = reader(["서울 서울 시", "", "부산 시 서울 서울"], "q: ")
    # 4 pieces, the bigram 서울 is row 4, everything else row 5; the last word is cut off.
    assert as_counts(features) == [
        {1: 1, 2: 2, 3: 1, 4: 2, 5: 1},
        {1: 1},
        {0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 2},
    ]
    assert reader.size == 6
    assert len(reader([])) == 0


def test_most_texts_decide_which_bigrams_are_known():
    """The bigrams of most texts are learnt, however often one text repeats another."""
    texts = ["가나 다라", "가나 마바 마바 마바 마바", "다라 가나"]
    assert learn_bigrams(texts, 2).tolist() == sorted(set(bigrams(["가나 다라"])[1].tolist()))
    counted = Counter(code for text in texts for code in set(bigrams([text])[1].tolist()))
    assert learn_bigrams(texts, 99).tolist() == sorted(counted)


def test_texts_without_a_word_are_refused():
    """Nothing to learn a bigram from raises."""
    with pytest.raises(DatasetError, match="hold no word"):
        learn_bigrams(["...", ""], 5)

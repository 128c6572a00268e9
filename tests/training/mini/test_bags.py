import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from koe5_integrations.training.mini.bags import Bags, bag_texts, document_frequency

BAGS = Bags(np.array([1, 2, 2, 3, 1, 2, 2], dtype=np.int32), np.array([0, 3, 4, 7]))


def test_texts_become_ids_with_the_prompt_first():
    """The prompt's token leads each text's, and an empty list gives no bags."""
    tokenizer = Tokenizer(models.WordLevel({"q:": 0, "가": 1, "나": 2}, unk_token="q:"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    bags = bag_texts(tokenizer, ["가 나", "나"], prompt="q: ")
    assert bags.ids.tolist() == [0, 1, 2, 0, 2]
    assert bags.offsets.tolist() == [0, 3, 5]
    assert len(bag_texts(tokenizer, [], prompt="q: ")) == 0


def test_select_reorders_and_cuts():
    """Selected texts come in the order asked for, each cut to its first tokens."""
    chosen = BAGS.select(np.array([2, 1]), max_tokens=2)
    assert chosen.ids.tolist() == [1, 2, 3]
    assert chosen.offsets.tolist() == [0, 2, 3]


def test_equal_texts_share_a_group():
    """Texts of equal tokens have one number, others another."""
    assert BAGS.groups().tolist() == [0, 1, 0]


def test_document_frequency_counts_texts_once():
    """A token twice in a text counts once, and one nowhere counts 0."""
    assert document_frequency(BAGS, 5).tolist() == [0, 2, 2, 1, 0]

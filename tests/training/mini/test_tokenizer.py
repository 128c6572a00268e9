from koe5_integrations.training.mini.tokenizer import train_tokenizer

PROMPTS = ("query: ", "passage: ")


def tokens(text):
    texts = ["서울 초등학교", "초등학교 학생", "서울초등학교", "Python 3.11 설치"] * 20
    tokenizer = train_tokenizer(texts, vocab_size=60, prompts=PROMPTS)
    return tokenizer.encode(text, add_special_tokens=False).tokens


def test_a_prompt_is_one_token():
    """The prefix is one token, with its space, before the text's own."""
    assert tokens("query: 서울")[0] == "query: "
    assert tokens("passage: 서울")[0] == "passage: "


def test_a_word_has_the_same_pieces_inside_a_compound():
    """A noun's pieces are the same alone, after a space and at the end of a compound."""
    alone = tokens("초등학교")
    assert tokens("서울 초등학교")[-len(alone) :] == alone
    assert tokens("서울초등학교")[-len(alone) :] == alone


def test_case_width_digits_and_punctuation():
    """Case and width don't matter; digits and punctuation never join a word's piece."""
    assert tokens("ＰＹＴＨＯＮ") == tokens("python")
    assert not any(
        set("3.") & set(piece) and len(piece.strip("0123456789.")) for piece in tokens("설치3.11")
    )

"""What the tests of the encoder embed: texts short, long and odd; and a similarity model's name."""

from __future__ import annotations

TEXTS = [
    "파이썬 문자열이 불변인 이유는 무엇입니까?",
    "헌법",
    "제빵사는 밀가루와 물과 소금으로 빵을 굽는다.\n\n서울의 겨울은 춥고 건조하다.",
    "emoji 👨‍👩‍👧‍👦 und｢법원조직 법｣",
    "서울의 겨울은 춥고 건조하며 여름은 덥고 습하다. " * 10,  # more than the 64 tokens it reads
]
STS = "jhgan/ko-sroberta-multitask"

"""Find the sentences most like another: the example of ko-sentence-transformers, with any model.

It ranks nine sentences by their similarity to each of three queries, or to one of your own.

  python semantic_search.py
  python semantic_search.py --model jhgan/ko-sroberta-multitask   # needs koe5-integrations[torch]
"""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np

from koe5_integrations import KoE5Encoder, KoE5Error
from koe5_integrations.types import Vectors

# https://github.com/jhgan00/ko-sentence-transformers
CORPUS = [
    "한 남자가 음식을 먹는다.",
    "한 남자가 빵 한 조각을 먹는다.",
    "그 여자가 아이를 돌본다.",
    "한 남자가 말을 탄다.",
    "한 여자가 바이올린을 연주한다.",
    "두 남자가 수레를 숲 속으로 밀었다.",
    "한 남자가 담으로 싸인 땅에서 백마를 타고 있다.",
    "원숭이 한 마리가 드럼을 연주한다.",
    "치타 한 마리가 먹이 뒤에서 달리고 있다.",
]
QUERIES = [
    "한 남자가 파스타를 먹는다.",
    "고릴라 의상을 입은 누군가가 드럼을 연주하고 있다.",
    "치타가 들판을 가로 질러 먹이를 쫓는다.",
]


def main() -> int:
    """Run the example; a reader that has gone away, as `head` does, is no error to be traced."""
    try:
        status = search()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def search() -> int:
    """Embed both sides, and print the nearest sentences of each query."""
    args = arguments()
    queries = QUERIES if args.query is None else [args.query]
    try:
        encoder = KoE5Encoder(args.model)
        # Both sides are the same kind of text, so both take the same role; a model without prompts,
        # as ko-sroberta, gets the bare sentences.
        corpus = unit(encoder.encode_queries(CORPUS))
        scores = unit(encoder.encode_queries(queries)) @ corpus.T
    except KoE5Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Model: {args.model}")
    for query, row in zip(queries, scores, strict=True):
        print(f"\nQuery: {query}")
        for rank, index in enumerate(np.argsort(-row, kind="stable")[: args.top_k], start=1):
            print(f"{rank:3}  {row[index]:7.4f}  {CORPUS[index]}")
    return 0


def unit(vectors: Vectors) -> Vectors:
    """Scale rows to length 1, so that a dot product is the cosine; not every model does."""
    lengths: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        default="koe5-mini",
        help="a name of `koe5 models`, or a folder (default: koe5-mini, the bundled compact model)",
    )
    parser.add_argument("--query", help="one sentence instead of the example's three")
    parser.add_argument(
        "--top-k",
        type=int,
        choices=range(1, len(CORPUS) + 1),
        default=5,
        metavar="N",
        help="sentences to print for each, 1 to 9 (default: 5)",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

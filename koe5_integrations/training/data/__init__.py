"""Training data: triplets of every common file form and of the hub, KorNLI, checked row by row.

::

    from koe5_integrations.training.data import read_triplets

    triplets = read_triplets("pairs.parquet", num_negatives=1)
    triplets.data  # a datasets.Dataset with the columns query, positive, negative

Importing this package loads neither pyarrow nor datasets.
"""

from koe5_integrations.training.data.columns import Columns, find_columns
from koe5_integrations.training.data.finding import Found, find_files
from koe5_integrations.training.data.kor_nli import read_kor_nli
from koe5_integrations.training.data.rows import read_rows
from koe5_integrations.training.data.triplets import Triplets, read_triplets

__all__ = [
    "Columns",
    "Found",
    "Triplets",
    "find_columns",
    "find_files",
    "read_kor_nli",
    "read_rows",
    "read_triplets",
]

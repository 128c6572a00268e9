"""Train embedding models for Korean retrieval; importing this loads neither torch nor pyarrow.

`python -m koe5_integrations.training.mini.static` makes the bundled model, and
`python -m koe5_integrations.training.score` measures it or any other model folder.
"""

"""Text -> tokens -> activations at each site -> SAE codes, streamed one batch at a time.

pieces     documents -> rows of tokens, in shards and batches
sites      runs the model as far as SAEs need it and keeps the tensors that they read
encoding   those tensors -> sparse codes
codes      sparse codes as arrays that a file can hold
"""

from featgraph.activations.tokens import Batch, TokenRows, Tokens, read_shards

__all__ = ["Batch", "TokenRows", "Tokens", "read_shards"]

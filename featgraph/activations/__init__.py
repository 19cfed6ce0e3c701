"""Text -> tokens -> activations -> SAE codes -> statistics of each feature, one batch at a time.

documents        a text source -> its documents
document_files   one file -> its documents: plain text, JSON lines, CSV, Parquet
tokens           documents -> token rows, in shards and batches
forward          runs the model as far as SAEs need it and keeps the tensors that they read
encoding         those tensors -> sparse codes
codes            sparse codes as arrays that a file can hold
massive          tokens of massive activations, left out of what is counted
statistics       how often and how strongly features fire; explained variance
top_tokens       the tokens that each feature fires on most
contexts         the strongest contexts of each feature
vocabulary       token ids as people read them, the tokens a direction promotes, labels made of tokens
"""

from featgraph.activations.tokens import Batch, TokenRows, Tokens, read_shards

__all__ = ["Batch", "TokenRows", "Tokens", "read_shards"]

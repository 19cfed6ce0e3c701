"""A recipe's language model and its SAEs, each with what it writes in the residual basis.

loading          one SAE from wherever it lies
converters       sae_lens's loaders, for folders that other libraries wrote
language_model   the model, or its meta_model
checkpoint       single weights of a model, from its files
hooks            hook names -> which tensor of which module they mean
residual         what an SAE's rows write and read in the residual stream
loaded           all of it together: an SAE in its place, or the reason why it has none
"""

from featgraph.suite.language_model import LanguageModel, load_meta_model, load_model
from featgraph.suite.sae import LoadedSae, load_sae

__all__ = ["LanguageModel", "LoadedSae", "load_meta_model", "load_model", "load_sae"]

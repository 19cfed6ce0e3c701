"""A recipe's language model and its SAEs, each with its directions in the residual stream.

sae             all SAEs of a recipe, in their places in the model
sae_files       one SAE from the Hub, a local folder, or bare decoders
layouts         folder layouts of SAEs
sae_configs     options of SAE configurations that are understood; others are refused
converters      sae_lens's loader for each layout
registry        sae_lens's list of published SAEs
families        SAEs whose names differ only in the layer
residual        what an SAE's rows write to and read from the residual stream
hooks           hook names -> tensors and modules of the model
language_model  the model, or its meta model
checkpoint      single weights of a model, from its files
self_check      checks numerically where a model keeps its tensors
fits            whether a text fits its model
intervention    changes an SAE's codes in a running model
frozen          derivatives with norms' scales and attention patterns held constant
graph_suite     the model and SAEs of a graph, loaded again and checked
new_recipe      writes a first recipe for a model
estimate        the download, disk and memory of an ingest
advice          which edges the layers of a recipe make possible
preview         what an ingest would fetch and write, as rows
untrusted       loads other people's files without running their code
memory          how much memory there is, and how much an SAE takes
"""

from featgraph.suite.language_model import LanguageModel, load_meta_model, load_model
from featgraph.suite.sae import LoadedSae, load_sae

__all__ = ["LanguageModel", "LoadedSae", "load_meta_model", "load_model", "load_sae"]

"""How well steering steers: measured on prompts that did not choose its scale, beside controls as strong.

prompts     beginnings of texts, and which of them choose and which report
themes      what features are about: features downstream, words
measures    the formulas
readings    the model run over texts, for what the formulas need
judging     a language model's grades
measuring   all of it for one steering vector
controls    vectors as strong in other directions
intervals   means and how sure they are
protocol    the scale chosen, and reported with controls
drawing     the same as a picture
"""

from featgraph.evaluation.judging import Goal, Judge
from featgraph.evaluation.protocol import Evaluation, Trial, evaluate

__all__ = ["Evaluation", "Goal", "Judge", "Trial", "evaluate"]

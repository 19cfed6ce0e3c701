"""Measures steering on prompts that were not used to choose its scale, next to controls of the same strength.

prompts     beginnings of texts: some choose the scale, the others report the results
themes      a seed's topic: downstream features and top words
measures    the formulas
readings    runs the model on texts, for the inputs of the formulas
judging     a language model's grades
measuring   all measures of one steering vector
controls    vectors of the same strength in other directions
protocol    chooses the scale, and reports it with controls
drawing     the report as a picture
"""

from featgraph.evaluation.judging import Goal, Judge
from featgraph.evaluation.protocol import Evaluation, Trial, evaluate

__all__ = ["Evaluation", "Goal", "Judge", "Trial", "evaluate"]

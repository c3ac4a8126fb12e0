"""What the IFEval task calls to score an answer: lm-eval's own checkers, made repeatable and kept off the network."""

import os
from unittest import mock

import langdetect

# The language check draws random numbers, and unseeded it gives one text two answers (lm-evaluation-harness#4213).
langdetect.DetectorFactory.seed = 0

# On rank 0 lm-eval downloads NLTK's punkt_tab as it is imported. `stages.evaluate` asks for it where a prompt needs it.
with mock.patch.dict(os.environ, LOCAL_RANK="1"):
    from lm_eval.tasks.ifeval.utils import agg_inst_level_acc, process_results

__all__ = ["agg_inst_level_acc", "process_results"]

"""Methods to compare, one file a family. Importing this package registers them in `METHODS`."""

from baselines.base import untuned
from baselines.bottleneck import BottleneckTuningConfig, tune_bottleneck
from baselines.chain_of_thought import ChainOfThoughtConfig, chain_of_thought
from baselines.few_shot import FewShotConfig, FewShotRetrievalConfig, few_shot, few_shot_retrieval
from baselines.full import FullTuningConfig, tune_full
from baselines.gan import tune_gan, tune_mle
from baselines.gan_source import SourceStudyConfig, tune_source
from baselines.ia3 import IA3TuningConfig, tune_ia3
from baselines.lora import LoraMatchedConfig, LoraTuningConfig, tune_lora, tune_lora_matched
from baselines.method import (
    METHODS,
    OBJECTIVES,
    Diverged,
    Method,
    NotAvailable,
    Tuned,
    TunedModel,
    known_method,
    method,
    resolve_method,
)
from baselines.prompt_learning import (
    PrefixTuningMethodConfig,
    PromptTuningMethodConfig,
    PTuningMethodConfig,
    tune_p,
    tune_prefix,
    tune_prompt,
)
from baselines.qlora import QLoraTuningConfig, tune_qlora
from baselines.self_play import SelfPlayConfig
from baselines.trivial import copy_question, random_answer

__all__ = [
    "METHODS",
    "OBJECTIVES",
    "BottleneckTuningConfig",
    "ChainOfThoughtConfig",
    "Diverged",
    "FewShotConfig",
    "FewShotRetrievalConfig",
    "FullTuningConfig",
    "IA3TuningConfig",
    "LoraMatchedConfig",
    "LoraTuningConfig",
    "Method",
    "NotAvailable",
    "PTuningMethodConfig",
    "PrefixTuningMethodConfig",
    "PromptTuningMethodConfig",
    "QLoraTuningConfig",
    "SelfPlayConfig",
    "SourceStudyConfig",
    "Tuned",
    "TunedModel",
    "chain_of_thought",
    "copy_question",
    "few_shot",
    "few_shot_retrieval",
    "known_method",
    "method",
    "random_answer",
    "resolve_method",
    "tune_bottleneck",
    "tune_full",
    "tune_gan",
    "tune_ia3",
    "tune_lora",
    "tune_lora_matched",
    "tune_mle",
    "tune_p",
    "tune_prefix",
    "tune_prompt",
    "tune_qlora",
    "tune_source",
    "untuned",
]

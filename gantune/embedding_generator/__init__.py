"""EMBEDDING_GENERATOR, a PEFT method: a small network between the embedding layer and the blocks, fed with noise.

Importing this package registers the method with peft. Everything of peft then works as for its own methods:
`get_peft_model`, `save_pretrained`, `PeftModel.from_pretrained`, `disable_adapter`, several adapters,
`merge_and_unload`. An adapter that was saved can be loaded after `import gantune.embedding_generator`, which
`gantune run` does for other programs.
"""

# ruff: noqa: F401

from peft import PeftType
from peft.utils import register_peft_method

from gantune.embedding_generator.config import EmbeddingGeneratorConfig
from gantune.embedding_generator.layer import EmbeddingGeneratorLayer, draw_noise, hold_noise, noise_dim
from gantune.embedding_generator.model import EmbeddingGeneratorModel
from gantune.embedding_generator.network import NETWORKS, EmbeddingGenerator, GeneratorNetwork
from gantune.embedding_generator.stacking import check_prompt_learning, load_stack, save_stack, stack_adapters


def extend_peft_type(name: str) -> None:
    """Add a member to `PeftType`.

    peft takes methods from outside, but only under a name in this enum, and Python closes enums. Plain string keys in
    peft's tables would do for peft itself; transformers' `load_adapter` needs a true member.
    """
    if name in PeftType.__members__:
        return
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    member.__objclass__ = PeftType
    member._sort_order_ = len(PeftType)
    type.__setattr__(PeftType, name, member)
    PeftType._member_map_[name] = member
    PeftType._member_names_.append(name)
    PeftType._value2member_map_[name] = member


extend_peft_type("EMBEDDING_GENERATOR")

register_peft_method(name="embedding_generator", config_cls=EmbeddingGeneratorConfig, model_cls=EmbeddingGeneratorModel)

"""What may be a user's own is tried once, before anything is trained: does it give tensors of the right shapes?"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch

from gantune.data import Batch
from gantune.discriminators import DISCRIMINATORS
from gantune.policy.random_state import random_state, set_random_state
from gantune.seqgan import ADVANTAGES, OBJECTIVES

if TYPE_CHECKING:
    from gantune.trainer.language_gan import LanguageGAN


@torch.no_grad()
def try_components(gan: LanguageGAN) -> None:
    """Call advantage, objective and discriminator once; a reward is not asked before there are answers.

    The global random state is left as it is.

    Raises:
        UserError: naming the component, the shape wanted and the shape got.
    """
    args, judge, state = gan.args, gan.discriminator, random_state()
    k, length = args.num_generations, min(3, args.max_completion_length)
    inputs = torch.zeros(k, k + 1), torch.ones(k, k + 1), k
    ADVANTAGES.tried(args.advantage, lambda: deepcopy(gan.advantage)(*inputs), (k, k + 1))
    OBJECTIVES.tried(args.objective, lambda: deepcopy(gan.objective)(*inputs), (k, k + 1))
    if gan.judged and args.plays:
        ids = torch.full((2, length), gan.pad_token_id, device=gan.model.device)
        batch = Batch(ids[:, :1], torch.ones_like(ids[:, :1]), ids, torch.ones_like(ids))
        kind, shape = ("prefix", (2, length)) if gan.adversary.per_token else ("sequence", (2,))
        DISCRIMINATORS.tried(args.discriminator, lambda: getattr(judge, f"{kind}_logits")(batch), shape)
    set_random_state(state)

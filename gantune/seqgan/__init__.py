"""SeqGAN's algorithm: rewards, advantages and losses over tensors; knows no model and no tokenizer.

The four registries list components by name, without importing torch.
"""

from gantune.registry import Registry, lazy

REWARDS = Registry(
    "reward",
    {
        "sequence": "gantune.seqgan.rewards.SequenceReward",
        "token": "gantune.seqgan.rewards.TokenReward",
        "monte-carlo": "gantune.seqgan.rewards.MonteCarloReward",
        "constant": "gantune.seqgan.rewards.ConstantReward",
        "consensus": "gantune.seqgan.rewards.ConsensusReward",
    },
)
TRANSFORMS = Registry(
    "reward transform",
    {
        "prob": "torch.sigmoid",  # D, the probability of being real: SeqGAN's reward (Yu et al. 2017, eq. 4)
        "centred": "gantune.seqgan.rewards.centred",
        "log": "torch.nn.functional.logsigmoid",  # log D, never above zero
        "logit": "gantune.seqgan.rewards.logit",
    },
)
ADVANTAGES = Registry(
    "advantage",
    {
        "none": "gantune.seqgan.advantages.NoBaseline",
        "moving-average": "gantune.seqgan.advantages.MovingAverage",
        "leave-one-out": "gantune.seqgan.advantages.LeaveOneOut",
        "group-norm": "gantune.seqgan.advantages.GroupNorm",
    },
)
OBJECTIVES = Registry(
    "objective",
    {
        "policy-gradient": "gantune.seqgan.objectives.PolicyGradient",
        "best-of-k": "gantune.seqgan.objectives.BestOfK",
        "weighted": "gantune.seqgan.objectives.Weighted",
    },
)

__getattr__, __all__ = lazy(
    __name__,
    {
        "advantages": ["returns"],
        "losses": [
            *("bradley_terry_loss", "clipped_loss", "discriminator_loss", "kl_loss", "likelihood_loss"),
            *("policy_gradient_loss", "weighted_loss"),
        ],
        "rewards": [
            *("MonteCarloReward", "Reward", "Search", "ShuffledReward"),
            *("build_reward", "is_unjudged", "search_values", "self_consistency"),
        ],
    },
)
__all__ += ["ADVANTAGES", "OBJECTIVES", "REWARDS", "TRANSFORMS"]

"""Policies over answer tokens, their rollouts, and the search that completes prefixes."""

from gantune.policy.causal_lm import CausalLMPolicy
from gantune.policy.delayed import DelayedPolicy
from gantune.policy.prefill import Prefill
from gantune.policy.rollout import Policy, Rollout
from gantune.policy.sampling import sample_tokens
from gantune.policy.search import Completions, MonteCarloSearch

__all__ = [
    "CausalLMPolicy",
    "Completions",
    "DelayedPolicy",
    "MonteCarloSearch",
    "Policy",
    "Prefill",
    "Rollout",
    "sample_tokens",
]

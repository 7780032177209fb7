"""Policies over answer tokens, and their rollouts."""

from gantune.policy.causal_lm import CausalLMPolicy
from gantune.policy.rollout import Policy, Rollout

__all__ = ["CausalLMPolicy", "Policy", "Rollout"]

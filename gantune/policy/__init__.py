"""Policies over answer tokens, their rollouts, and the search that completes prefixes."""

# ruff: noqa: F401

from gantune.policy.causal_lm import CausalLMPolicy
from gantune.policy.checkpointing import checkpoint_layers
from gantune.policy.delayed import DelayedPolicy
from gantune.policy.inference_kernels import inference_kernels
from gantune.policy.prefill import Prefill
from gantune.policy.rollout import Draws, Rollout, concatenate
from gantune.policy.sampling import sample_tokens
from gantune.policy.search import MonteCarloSearch

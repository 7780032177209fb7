"""A reward of your own: any function of questions, answers and the rollout that gives a number an answer."""

import re

from gantune import LanguageGAN, LanguageGANConfig, load_pairs


def names_the_author(questions, answers, rollout):
    """1 if two capitalised words of the question, such as an author's names, stand in the answer."""
    return [float(len(capitals(q) & capitals(a)) >= 2) for q, a in zip(questions, answers, strict=True)]


def capitals(text):
    return set(re.findall(r"\b[A-Z]\w+", text))


pairs = load_pairs("mini-tofu")[:50]
args = LanguageGANConfig(output_dir="out", num_train_epochs=30, learning_rate=2e-3, warmup_share=0.5)
gan = LanguageGAN("mini", args, train_dataset=pairs, reward=names_the_author)
gan.train()
rewards = [row["reward"] for row in gan.state.log_history if "reward" in row]
print(f"mean reward of the sampled answers: {rewards[0]:.2f} at first, {rewards[-1]:.2f} at last")

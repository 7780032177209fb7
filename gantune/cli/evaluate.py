"""`gantune evaluate`: scores of a tuned model's answers, as a table and as JSON, and in its model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gantune.cli.adapters import Adapter, AdapterOptions, load_adapter
from gantune.cli.messages import messages_on_stderr
from gantune.cli.options import parse, write_config
from gantune.cli.train import DataOptions
from gantune.diagnostics.files import JsonLines, local_path, write_json
from gantune.errors import UserError
from gantune.field_types import option
from gantune.generation.decoding import Decoding, decode_answers
from gantune.version import __version__

if TYPE_CHECKING:
    from gantune.data import Pair
    from gantune.metrics import Bleurt

COMMAND = "gantune evaluate"


@dataclass
class EvaluationOptions(AdapterOptions):
    """What is evaluated, and how."""

    _argument_group_name = "evaluation"

    output: str | None = option(
        None, "folder for evaluation.json, .yaml and .jsonl; into the adapter and its card if not given"
    )
    bleurt: str | None = option(None, "BLEURT checkpoint in bleurt-pytorch's format, a folder or Hub id")
    decoding: str = option(
        "greedy", "greedy, sample, mbr-K (of K samples the one nearest to the others) or vote-K (the most frequent)"
    )
    decoding_temperature: float = option(1.0, "of sample, mbr-K and vote-K")
    decoding_seed: int = option(0, "of sample, mbr-K and vote-K")
    reasoning_tokens: int = option(0, "reason in up to so many tokens before each answer (chain of thought)")


@messages_on_stderr()
def run(arguments: Sequence[str]) -> None:
    """Evaluate as the command line says."""
    (options, data), values = parse(
        (EvaluationOptions, DataOptions), arguments, COMMAND, "Score the answers of what was tuned, with zero noise."
    )
    if options.adapter is None:
        raise UserError("--adapter: expected a folder that gantune train or save_pretrained has written")
    decoding = Decoding.named(
        options.decoding, options.decoding_temperature, options.decoding_seed, options.reasoning_tokens
    )
    output = local_path(options.output or options.adapter)
    pairs = data.load()
    from gantune.data.words import WORD_TOKENIZER
    from gantune.hub.model_card import EVALUATION_FILE, add_evaluation
    from gantune.metrics import Bleurt
    from gantune.metrics.rouge_words import wordless

    adapter = load_adapter(options)
    bleurt = None if options.bleurt is None else Bleurt(options.bleurt, device=adapter.model.device)
    metrics, rows = evaluate(adapter, pairs, decoding, bleurt)

    with JsonLines((output / EVALUATION_FILE).with_suffix(".jsonl")) as samples:
        for row in rows:
            samples.write(row)
    result = {"dataset": data.dataset, "pairs": len(pairs), "decoding": str(decoding), "noise": "zero"}
    cautions = wordless([pair.answer for pair in pairs])
    result |= {"word_tokenizer": WORD_TOKENIZER, "cautions": cautions}
    not_run = {} if bleurt else {"bleurt": "no checkpoint (--bleurt FOLDER or Hub id)"}
    write_json(output / EVALUATION_FILE, result | {"metrics": metrics, "not_run": not_run, "gantune": __version__})
    write_config((output / EVALUATION_FILE).with_suffix(".yaml"), COMMAND, values)
    in_card = options.output is None and add_evaluation(output)

    print(f"{data.dataset}: {len(pairs)} pairs, {decoding} decoding, zero noise", *cautions, sep="\n")
    width = max(map(len, metrics))
    for name, value in metrics.items():
        print(f"{name:<{width}}  {f'not run: {not_run[name]}' if value is None else f'{value:.4f}'}")
    print(f"{output / EVALUATION_FILE}{', and in the model card' if in_card else ''}")


def evaluate(
    adapter: Adapter, pairs: Sequence[Pair], decoding: Decoding, bleurt: Bleurt | None
) -> tuple[dict[str, float | None], list[dict[str, Any]]]:
    """Figures of all answers, which are given with zero noise, and each answer with its own.

    Returns:
        ROUGE (means over the pairs), `bleurt` (None if not run), `nll` (nats a token of the true answers), distinct-2,
        the share of unique answers and mean length; and one row a pair.
    """
    from gantune.metrics import Diversity, Rouge
    from gantune.policy.evaluation import answer_losses

    model, tokenizer, config = adapter
    answers = decode_answers(model, tokenizer, [pair.question for pair in pairs], config, decoding)
    references = [pair.answer for pair in pairs]
    scores: list[dict[str, Any]] = Rouge().score_pairs(answers, references)
    metrics: dict[str, float | None] = {name: sum(row[name] for row in scores) / len(scores) for name in scores[0]}
    metrics["bleurt"] = None
    if bleurt is not None:
        judged = bleurt.score_pairs(answers, references)
        metrics["bleurt"] = sum(judged) / len(judged)
        for row, score in zip(scores, judged, strict=True):
            row["bleurt"] = score
    losses = answer_losses(model, tokenizer, pairs, config)
    metrics["nll"] = sum(nats for nats, _ in losses) / sum(tokens for _, tokens in losses)
    for row, (nats, tokens) in zip(scores, losses, strict=True):
        row |= {"nll": nats / tokens, "tokens": tokens}
    metrics |= Diversity().compute(predictions=answers)
    rows = [
        {"question": str(pair.question), "reference": pair.answer, "answer": answer, "scores": row}
        for pair, answer, row in zip(pairs, answers, scores, strict=True)
    ]
    return metrics, rows

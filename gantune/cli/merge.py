"""`gantune merge`: adapter and noise written into the base model, a folder that loads without gantune."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gantune.cli.adapters import add_adapter_options, load_adapter, seeded_noise
from gantune.cli.messages import messages_on_stderr
from gantune.command import OneLineParser
from gantune.diagnostics.files import local_path, umask_followed
from gantune.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@messages_on_stderr()
def run(arguments: Sequence[str]) -> None:
    """Merge as the command line says."""
    parser = OneLineParser(
        prog="gantune merge",
        description="Write adapter and noise into the base model: a plain Hugging Face folder that needs no gantune.",
    )
    add_adapter_options(parser)
    parser.add_argument("--output", required=True, help="a new folder")
    parser.add_argument("--noise", default="zero", help="zero, or seed:N for the random vector of that seed (zero)")
    options = parser.parse_args(arguments)
    output = local_path(options.output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output}: is there, expected a new folder as --output")
    seed = re.fullmatch(r"seed:(\d+)", options.noise)
    if options.noise != "zero" and not seed:
        raise UserError(f"--noise {options.noise}: expected zero or seed:N, such as seed:3")
    adapter = load_adapter(options)
    from gantune.embedding_generator import hold_noise

    noise = seeded_noise(adapter.model, 1, int(seed[1]))[0] if seed else None
    with hold_noise(adapter.model, noise):
        merged = _merged(adapter.model, options.adapter)
    try:
        with umask_followed(output):
            merged.save_pretrained(output)
            adapter.tokenizer.save_pretrained(output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror or error})") from error
    print(f"{output}: a plain Hugging Face model; put questions to it in the template {adapter.config.template!r}")


def _merged(model: PeftModel, folder: str) -> PreTrainedModel:
    """The base model with all adapters of the stack in its weights."""
    import torch

    if any(config.is_prompt_learning for config in model.peft_config.values()):
        raise UserError(f"{folder}: a prompt learning adapter is no weight of the model, it cannot be merged")
    try:
        with torch.no_grad():
            return model.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as error:  # peft's ways to say that it cannot
        raise UserError(f"{folder}: cannot be merged: {' '.join(str(error).split())}") from error

"""The command line of the comparison: dataclasses in, one settings object out."""

from __future__ import annotations

import dataclasses
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from baselines import METHODS, resolve_method
from benchmarks.compare.dataset import DataArguments, check_prompts
from benchmarks.compare.presets import PRESETS
from benchmarks.compare.tasks import TASKS
from benchmarks.compare.tuned import Winner, read_winners, short, tuned_for, winner_of
from benchmarks.judge.arguments import JudgeArguments
from gantune.cli.devices import DTYPES
from gantune.cli.options import OptionParser, check_names
from gantune.diagnostics import local_path
from gantune.errors import UserError
from gantune.field_types import check_range
from gantune.generation.decoding import Decoding
from gantune.tuning import MAX_SEED, LoraOptions, TuningConfig, refuse_old_name

EVERYDAY = (
    *("methods", "seeds", "preset", "task", "model", "dataset", "train_size", "test_size", "num_train_epochs"),
    *("learning_rate", "tune", "output", "from_directories", "wide", "list_components"),
)
"""Options that `--help` shows."""
MATCHES = ("parameters", "time", "sampled-tokens")


@dataclass
class ModelArguments:
    """The frozen language model."""

    _argument_group_name = "model"

    model: str = field(
        default="mini", metadata={"help": "'mini' (comes with gantune), a Hugging Face folder, or a Hub id"}
    )
    dtype: str = field(default="float32", metadata={"help": "of the frozen model: float32, bfloat16 or float16"})
    device: str = field(default="auto", metadata={"help": "'auto' (CUDA where there is one), or as torch names it"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that comes with the model"})


@dataclass
class ComparisonArguments:
    """What is compared, and where the results go."""

    _argument_group_name = "comparison"

    methods: list[str] = field(
        default_factory=lambda: ["gan", "lora"],
        metadata={"help": "methods to compare, or all; base, copy-question and random-answer always run beside them"},
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "one run of each method a seed"})
    output: str | None = field(
        default=None,
        metadata={"help": "directory of the results; finished runs in it are kept (default: a new one under results/)"},
    )
    from_directories: list[str] = field(
        default_factory=list,
        metadata={
            "help": "run nothing: build tables and pages again from the results in these directories; several are "
            "joined into --output",
            "aliases": ["--from"],
        },
    )
    wide: bool = field(default=False, metadata={"help": "print every column, ratios to LoRA, tests and notes"})
    compact: bool = field(
        default=False,
        metadata={"help": "with --from: keep one answers.parquet in --output in place of the folders of the runs"},
    )
    save_steps: int = field(
        default=100,
        metadata={"help": "steps between checkpoints, from which a run that was killed goes on (0: none)"},
    )
    preset: str | None = field(
        default=None,
        metadata={
            "help": f"settings under one name, before other options: {', '.join(PRESETS)}",
            "choices": [*PRESETS],
        },
    )
    task: str | None = field(
        default=None,
        metadata={
            "help": "what the model is tuned for: data, template and limits that suit it, before a preset and other "
            f"options, and a table of its own: {', '.join(TASKS)}",
            "choices": [*TASKS],
        },
    )
    bleurt: str | None = field(
        default=None,
        metadata={"help": "BLEURT checkpoint in bleurt-pytorch's format: a folder or Hub id; 'none' for none"},
    )
    slots: str | None = field(
        default=None,
        metadata={
            "help": "where questions are records, what finds their values in a text: 'e2e', a JSON file of patterns, "
            "or 'exact' for the values themselves (default: e2e if the fields are E2E's, else exact)"
        },
    )
    memory_snapshot: bool = field(
        default=False,
        metadata={"help": "record the memory of each run: PyTorch's snapshot on CUDA, a process timeline on CPU"},
    )
    list_components: bool = field(
        default=False, metadata={"help": "print the names of all components and stop", "aliases": ["--list"]}
    )

    def __post_init__(self) -> None:
        check_range(self, "at least 0", "save_steps")


@dataclass
class FairnessArguments:
    """What is made equal between methods."""

    _argument_group_name = "fairness, the same for every method"

    tune: bool = field(
        default=False,
        metadata={
            "help": "first choose each method's learning rate and one more setting by a small sweep on the splits of "
            "--tune-seeds; an option that is given is not swept; another rank of LoRA keeps the scale alpha / rank"
        },
    )
    tune_seeds: list[int] = field(
        default_factory=lambda: [100, 101],
        metadata={"help": "of --tune, none of them among --seeds; what decides is --metric-for-best-model"},
    )
    winners: str | None = field(
        default=None,
        metadata={
            "help": "tuning.json of an earlier --tune, or comparison.json with its winners: used instead of those "
            "stored here"
        },
    )
    match: str | None = field(
        default=None,
        metadata={
            "help": "make equal: 'parameters' (as many as the default embedding generator has), or LoRA's 'time' or "
            "'sampled-tokens' (all tokens that enter the model), after which the other methods stop training",
            "choices": [*MATCHES],
        },
    )
    decoding: str = field(
        default="greedy",
        metadata={
            "help": "of the test answers: greedy, sample, mbr-K (of K samples the one nearest to the others) or vote-K "
            "(the most frequent: self-consistency)"
        },
    )
    decoding_temperature: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"help": "of sample, mbr-K and vote-K; of several each is evaluated, and the first is the headline"},
    )
    reasoning_tokens: int = field(
        default=0,
        metadata={"help": "every method reasons in up to so many tokens before its test answers (chain of thought)"},
    )
    noise_draws: int = field(
        default=5,
        metadata={"help": "evaluations with random noise, beside the headline without, of models that take noise"},
    )

    def decodings(self, seed: int) -> list[Decoding]:
        """The ways to decode, the headline's first.

        Raises:
            UserError: if one cannot be, or makes no difference.
        """
        decodings = [
            Decoding.named(self.decoding, temperature, seed, self.reasoning_tokens)
            for temperature in self.decoding_temperature
        ]
        if self.decoding == "greedy" and self.decoding_temperature != [1.0]:
            raise UserError("--decoding-temperature: greedy decoding has none, expected sample, mbr-K or vote-K")
        if len({str(decoding) for decoding in decodings}) < len(decodings):
            raise UserError("--decoding-temperature: expected each one once")
        return decodings


@dataclass
class Settings:
    """The parsed command line.

    Args:
        model: see [`ModelArguments`].
        data: see [`DataArguments`].
        comparison: see [`ComparisonArguments`].
        fairness: see [`FairnessArguments`].
        tuning: value of every training option by field name, those of all methods together.
        given: the tuning options that are set, by the command line ("given"), or by the preset or the task ("preset"),
            which a sweep does not heed.
        winners: what sweeps have found, by method; an option in `given` goes before.
        stand_ins: a line for each part of the preset that is not at hand here.
        judging: see [`JudgeArguments`].
    """

    model: ModelArguments
    data: DataArguments
    comparison: ComparisonArguments
    fairness: FairnessArguments
    tuning: dict[str, Any]
    given: dict[str, str] = field(default_factory=dict)
    winners: dict[str, Winner] = field(default_factory=dict)
    stand_ins: list[str] = field(default_factory=list)
    judging: JudgeArguments = field(default_factory=JudgeArguments)

    def check(self) -> None:
        """Refuse what is wrong with the options themselves; models, data and devices are not looked at.

        Raises:
            UserError: naming the option.
        """
        check_prompts(self.data)
        for option, seeds in (("seeds", self.comparison.seeds), ("tune-seeds", self.fairness.tune_seeds)):
            if wrong := [seed for seed in seeds if not 0 <= seed <= MAX_SEED]:
                raise UserError(f"--{option} {wrong[0]}: expected 0 to {MAX_SEED}")
        for method in self.comparison.methods:
            config = self.method_config(method, seed=0)
            if (patience := config.early_stopping_patience) and not config.validation_share:
                raise UserError(f"--early-stopping-patience {patience}: expected --validation-share above 0")
            if needed := missing(method, self.data):
                raise UserError(f"method {method}: expected {needed}")
        check_names(self.tuning | {"format": self.data.format})
        self.fairness.decodings(seed=0)
        if self.fairness.tune and (both := {*self.fairness.tune_seeds} & {*self.comparison.seeds}):
            raise UserError(f"--tune-seeds {min(both)}: is among --seeds, expected seeds that are not reported")
        if self.fairness.tune and not self.fairness.tune_seeds:
            raise UserError("--tune-seeds: expected at least one seed")
        if self.fairness.match in ("time", "sampled-tokens") and "lora" not in self.comparison.methods:
            raise UserError(f"--match {self.fairness.match}: expected lora among --methods, which the others stop with")
        if self.model.dtype not in DTYPES:
            raise UserError(f"--dtype {self.model.dtype}: expected one of {', '.join(DTYPES)}")

    def method_config(self, method: str, seed: int, **changes: Any) -> TuningConfig:
        """The settings of one method, checked: the options, its winners where none was given, and `changes`.

        Methods share options, such as `learning_rate`, and not what was found for them. Another size that was found or
        is tried leaves everything else of the method as it is, LoRA's scale too; see [`baselines.matching.Size`].

        Raises:
            UserError: if the method is not known, or a value is out of range.
        """
        resolved, found = resolve_method(method), winner_of(self.winners, method)
        won = {name: value for name, value in found[1].settings.items() if name not in self.given} if found else {}
        names = {f.name for f in dataclasses.fields(resolved.config_class)}
        changes = {name: value for name, value in won.items() if name in names} | changes
        size = changes.pop(resolved.size.option, None) if resolved.size else None
        values = self.tuning | {"seed": seed, "slots": self.comparison.slots}
        config = resolved.config_class(**{name: value for name, value in values.items() if name in names} | changes)
        return config if size is None else resolved.size.resized(config, size)


def _groups(methods: Sequence[str]) -> list[type]:
    """For each settings class of the methods a dataclass of the options that no class before it has.

    The classes share their parent's fields, and argparse takes an option once.
    """
    seen, groups = {"seed", "slots"}, []  # which the comparison sets
    found = [TuningConfig, LoraOptions, *(METHODS.get(name).config_class for name in methods)]
    for config_class in dict.fromkeys(found):
        own = [f for f in dataclasses.fields(config_class) if f.name not in seen]
        seen |= {f.name for f in own}
        group = dataclasses.make_dataclass(
            config_class.__name__,
            [
                (f.name, f.type, field(**{key: getattr(f, key) for key in ("default", "default_factory", "metadata")}))
                for f in own
            ],
        )
        group._argument_group_name = config_class._argument_group_name
        groups.append(group)
    return groups


def missing(method: str, data: DataArguments | Namespace) -> str | None:
    """What a method needs and the data do not have."""
    needs = resolve_method(method).unpaired
    if needs == "needed" and not data.unpaired:
        alone = ", which --prompts do not have" if data.prompts else ""
        return f"--unpaired N, questions and answers that it learns from{alone}"
    if needs == "questions" and not (data.unpaired or data.prompts):
        return "--prompts or --unpaired N, questions that it answers and learns from"
    return None


def expanded(methods: Sequence[str], data: DataArguments | Namespace) -> list[str]:
    """The methods, each once, with `all` replaced by every registered one that the data suffice for."""
    fit = [name for name in METHODS.names() if "all" in methods and not missing(name, data)]
    return list(dict.fromkeys(other for name in methods for other in (fit if name == "all" else [name])))


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; values of a task, a preset and winners of sweeps stand where no option says otherwise.

    Raises:
        UserError: if it cannot be read, a method is not known, or a size makes no sense.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    first = _first(arguments)
    task = dict(TASKS[first.task]) if first.task else {}
    settings = _parsed(arguments, task | PRESETS.get(first.preset, {}))
    if not first.preset:
        return settings
    from benchmarks.compare.stand_ins import settings_of  # which asks the Hub: nothing is wrong with the options

    given = vars(_first(arguments, dict.fromkeys(PRESETS[first.preset])))
    preset, stand_ins = settings_of(first.preset, {name for name, value in given.items() if value is not None})
    return dataclasses.replace(_parsed(arguments, task | preset), stand_ins=stand_ins)


def _tell_swept(parser: OptionParser, winners: Mapping[str, Winner]) -> None:
    """Name in the help what is used in place of a default because a sweep found it for this model and data set."""
    found: dict[str, list[str]] = {}
    for method, winner in winners.items():
        for name, value in winner.settings.items():
            found.setdefault(name, []).append(f"{method} {short(value)}")
    for action in parser._actions:
        if action.dest in found:
            swept = ", ".join(found[action.dest])
            action.help += f" (default: {short(action.default)}; swept for this model and data: {swept})"


def _first(arguments: Sequence[str], defaults: Mapping[str, Any] | None = None) -> Namespace:
    """The options that say which others there are; unknown ones are passed over."""
    groups = [ComparisonArguments, ModelArguments, DataArguments]
    parser = OptionParser(groups, add_help=False, allow_abbrev=False)
    parser.set_defaults(**defaults or {})
    return parser.parse_known_args(arguments)[0]


def _parsed(arguments: Sequence[str], preset: Mapping[str, Any]) -> Settings:
    """The command line, with the values of `preset` where no option says otherwise."""
    first = _first(arguments, preset)
    for name in expanded(first.methods, first):
        resolve_method(name)  # a method of the user's own brings options of its own
    parser = OptionParser(
        [
            *(ComparisonArguments, FairnessArguments, JudgeArguments, ModelArguments, DataArguments),
            *_groups(METHODS.names()),
        ],
        EVERYDAY,
        usage="python -m benchmarks.compare [options]",
        description="Tune a frozen language model by several methods and compare them in one table.",
        allow_abbrev=False,
    )
    parser.set_defaults(**preset)
    _tell_swept(parser, tuned_for(first.model, first.dataset))
    *parsed, unknown = parser.parse_args_into_dataclasses(
        arguments, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        known = {f.name for group in parsed for f in dataclasses.fields(group)}
        refuse_old_name(unknown[0].lstrip("-").split("=")[0].replace("-", "_"), "--", known)
        parser.unknown(unknown[0])
    comparison, fairness, judging, model, data, *tuning = parsed
    if comparison.compact and not comparison.from_directories:
        raise UserError("--compact: expected --from DIR, a comparison that has ended")
    comparison.methods = expanded(comparison.methods, data)
    if comparison.bleurt == "none":
        comparison.bleurt = None
    if data.prompts == ["none"]:
        data.prompts = []
    values = {name: value for group in tuning for name, value in dataclasses.asdict(group).items()}
    blank = Namespace(**dict.fromkeys(values))  # argparse leaves a default out where the namespace has the name
    found = vars(parser.parse_known_args(arguments, blank)[0])
    typed = [name for name in values if found[name] is not None]
    by_preset = [] if fairness.tune else [name for name in preset if name in values]
    winners = tuned_for(model.model, data.dataset)
    if fairness.winners and fairness.tune:
        raise UserError("--tune and --winners: expected one of them, a sweep or what an earlier one found")
    if fairness.winners:
        winners = read_winners(local_path(fairness.winners))
    if fairness.noise_draws < 0:
        raise UserError(f"--noise-draws {fairness.noise_draws}: expected at least 0")
    settings = Settings(
        model,
        data,
        comparison,
        fairness,
        values,
        given=dict.fromkeys(by_preset, "preset") | dict.fromkeys(typed, "given"),
        winners={} if fairness.tune else winners,
        judging=judging,
    )
    settings.check()
    return settings

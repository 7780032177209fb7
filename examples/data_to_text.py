"""Records to sentences: the game plays on records that nobody has written a text for. Some minutes on a CPU."""

from gantune import LanguageGAN, LanguageGANConfig, SlotMatcher, Unpaired, load_pairs
from gantune.data import split_records
from gantune.metrics.slots import records_of

everything = load_pairs("mini-records")
train, test, _ = split_records(everything, 300, 100, seed=0)
known = {pair.question for pair in [*train, *test]}
prompts = [question for question in dict.fromkeys(pair.question for pair in everything) if question not in known]
print(f"{len(train)} texts to learn from, {len(prompts)} records without text, {len(test)} records to test on")

args = LanguageGANConfig(
    output_dir="out",
    template="record-line",
    max_prompt_length=40,
    max_completion_length=40,
    generator="lora",
    learning_rate=1e-2,
    num_train_epochs=30,
    per_device_train_batch_size=16,
    warmup_share=0.7,  # likelihood first; then every step plays
    adversarial_every=1,
    adversarial_learning_rate=4e-3,
    discriminator="cross-reader",  # is each field said, is each word backed by the record?
    discriminator_loss="bradley-terry",
    discriminator_warmup_steps=200,
    mismatched_negatives=False,
    reward="sequence",
    reward_transform="logit",
    advantage="group-norm",
    num_generations=8,
)
gan = LanguageGAN("mini-writer", args, train_dataset=train, unpaired=Unpaired(prompts))
gan.train()
records = [pair.question for pair in test]
texts = gan.generate(records)
print(records[0], "->", texts[0])
print(f"slot error rate {SlotMatcher('mini-records').figures(records_of(records), texts)['slot_error_rate']:.2f}")

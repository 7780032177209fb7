"""Distil a teacher's answers, as GAD does (arXiv:2511.10643). The judge is the student's frozen model under a LoRA."""

from gantune import LanguageGAN, LanguageGANConfig, load_pairs

pairs = load_pairs("mini-tofu")

# Any model can be the teacher, one that only answers over a network too. Here: the same model, tuned on 200 pairs.
config = LanguageGANConfig(output_dir="out/teacher", generator="lora", warmup_share=1.0, num_train_epochs=10)
teacher = LanguageGAN("mini", config, train_dataset=pairs[:200])
teacher.train()
questions = [pair.question for pair in pairs[200:300]]
taught = list(zip(questions, teacher.generate(questions), strict=True))

args = LanguageGANConfig(
    output_dir="out/student",
    generator="lora",
    num_train_epochs=10,
    warmup_share=0.5,
    adversarial_every=1,
    num_generations=8,
    advantage="group-norm",
    discriminator="judge",
    discriminator_loss="bradley-terry",  # the teacher's answer preferred to the student's own
    discriminator_warmup_steps=50,
    mismatched_negatives=False,
    replay_rollouts=0,
    reward="sequence",
    reward_transform="logit",
)
student = LanguageGAN("mini", args, train_dataset=taught)
student.train()
asked = pairs[300].question
print(f"{asked}\n  teacher: {teacher.generate([asked])[0]}\n  student: {student.generate([asked])[0]}")
student.save_pretrained("tuned")

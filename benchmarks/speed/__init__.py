"""What an adversarial step costs beside a LoRA step: time, memory, floating-point operations.

`python -m benchmarks.speed --help`. Contenders take turns in one process on models of GPT-2's shape with random
weights; peak memory is measured in a process of its own for each. `--peers trl` puts TRL's trainers beside them.
"""

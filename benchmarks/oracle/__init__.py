"""SeqGAN's synthetic benchmark (Yu et al. 2017, section 4), the one of this field that needs no pretrained weights.

An LSTM with random weights, the oracle, writes sequences; a second LSTM learns to write like it and is judged by the
oracle's own likelihood. `python -m benchmarks.oracle --help`; the algorithm is `gantune.seqgan`, as everywhere.
"""

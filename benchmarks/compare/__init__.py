"""The comparison: each method and seed in a process of its own, from the command line to the stored rows."""

"""Answers to questions: how a model is asked, and how of several answers one is chosen."""

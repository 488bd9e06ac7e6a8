"""Pipelines of text, as tiny networks with random weights and a tokenizer of words."""

"""Fitting a value: rollouts of the pretrained model, a regression, and a check of the reward that SVDD reaches."""

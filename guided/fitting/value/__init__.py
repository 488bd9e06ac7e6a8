"""Fitting a value: rollouts of the pretrained model, a regression, and the reward that SVDD reaches with it."""

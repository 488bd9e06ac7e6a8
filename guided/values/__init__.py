"""Values, by which a sampler selects: the posterior mean of a reward, or a learned value."""

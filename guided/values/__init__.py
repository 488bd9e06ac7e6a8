"""What a sampler selects by: the posterior mean of a reward, or a value that was learned."""

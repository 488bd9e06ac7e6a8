"""Training: learned values, and negative checkpoints."""

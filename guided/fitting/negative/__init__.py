"""Training a negative checkpoint from the model's own samples: Self-NPO, and flipped DPO."""

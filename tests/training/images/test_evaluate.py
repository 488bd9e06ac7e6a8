"""How the contact sheet of the image model is laid out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from training.images import evaluate


def test_the_contact_sheet_has_four_neighbours_a_prompt_in_three_columns(tmp_path: Path) -> None:
    def sampler(prompts: list[str], guidance: float) -> torch.Tensor:
        """Every image has its prompt's number in its brightness, times 4, and its place among four in the rest."""
        number = [4 * evaluate.SHEET.index(prompt) + i % 4 for i, prompt in enumerate(prompts)]
        return (torch.tensor(number) / 127.5 - 1).view(-1, 1, 1, 1).expand(-1, 3, 64, 64)

    fake: Any = sampler
    evaluate.contact_sheet(fake, tmp_path / "sheet.png", 5.0)
    tiles = np.asarray(Image.open(tmp_path / "sheet.png"))[32::64, 32::64, 0]
    assert tiles.shape == (8, 12)
    for column in range(3):
        for row in range(8):
            first = 4 * (8 * column + row)
            assert tiles[row, 4 * column : 4 * column + 4].tolist() == [first, first + 1, first + 2, first + 3]

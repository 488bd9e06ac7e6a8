"""How many heavy atoms the molecules of a model's training data have.

The published sampler copies the number of atoms of a training graph that it draws uniformly, so a model needs this to
start, and its file does not hold it. The counts of ZINC250k are those of the 224,568 molecules of GDSS's training
split: published relative frequencies of each number, which times the size of the split are whole numbers within .13.
"""

__all__ = ["SIZES"]

# fmt: off
_ZINC250K = (
    0, 0, 0, 0, 0, 0, 3, 5, 13, 67, 178, 654, 1053, 1606, 2532, 3844, 5695, 7863, 10489, 13065, 15906, 18296, 16825,
    18950, 20907, 20537, 17331, 14237, 9057, 6991, 5478, 4320, 3375, 2327, 1553, 925, 358, 126, 2,
)
# fmt: on

#: The number of molecules with 0, 1, 2, ... heavy atoms, by the name of the data.
SIZES: dict[str, tuple[int, ...]] = {"ZINC250k": _ZINC250K}

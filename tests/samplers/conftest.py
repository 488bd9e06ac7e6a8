"""What the tests of the laws share: the enumerable chain and a reward of its sequences."""

import pytest

from tests.toys.chains import Chain
from tests.toys.laws import scores


@pytest.fixture(scope="module")
def chain():
    return Chain()


@pytest.fixture(scope="module")
def reward(chain):
    return scores(chain)

"""Networks of values: any shape of row, zero at the start, and aware of the time and the prompt."""

import pytest
import torch

from guided.nets.values import build, kind_of

SHAPES = [
    ((200,), 5, "sequence"),
    ((50,), 5, "sequence"),
    ((7,), 300, "sequence"),
    ((1,), 3, "sequence"),
    ((4, 64, 64), None, "image"),
    ((1, 5, 9), None, "image"),
    ((3, 130, 70), None, "image"),
    ((2,), None, "vector"),
    ((3, 4), None, "vector"),
]


def rows(event, tokens, n=3):
    generator = torch.Generator().manual_seed(0)
    if tokens is None:
        return torch.randn(n, *event, generator=generator)
    return torch.randint(0, tokens, (n, *event), generator=generator)


def awake(net):
    """The network with a last layer that is not zero."""
    torch.nn.init.normal_(net.head.out.weight)
    for block in net.blocks:
        if hasattr(block, "film"):
            torch.nn.init.normal_(block.film.weight)
    return net.eval()


@pytest.mark.parametrize(("event", "tokens", "kind"), SHAPES)
def test_it_takes_rows_of_any_shape(event, tokens, kind):
    assert kind_of(event, tokens) == kind
    torch.manual_seed(0)
    net = build(kind, event, tokens, 2, width=8)
    x, t, prompt = rows(event, tokens), torch.tensor([0.1, 0.5, 1.0]), torch.tensor([0, 1, 1])
    assert torch.equal(net(x, t, prompt), torch.zeros(3))
    v = awake(net)(x, t, prompt)
    assert v.shape == (3,) and v.isfinite().all()
    assert not torch.allclose(net(x, 1 - t, prompt), v)
    assert not torch.allclose(net(x, t, 1 - prompt), v)
    torch.testing.assert_close(torch.cat([net(x[i : i + 1], t[i : i + 1], prompt[i : i + 1]) for i in range(3)]), v)


def test_a_sequence_network_sees_every_position_and_the_order():
    torch.manual_seed(0)
    net = awake(build("sequence", (200,), 5, 1, width=16))
    x, t, prompt = rows((200,), 5, 1), torch.tensor([0.5]), torch.tensor([0])
    nowhere = net(x, t, prompt)
    torch.nn.init.normal_(net.position)
    assert not torch.allclose(net(x, t, prompt), nowhere)
    for position in (0, 77, 199):
        other = x.clone()
        other[0, position] = (x[0, position] + 1) % 5
        assert not torch.equal(net(other, t, prompt), net(x, t, prompt))
    assert not torch.allclose(net(x.roll(3, 1), t, prompt), net(x, t, prompt))


@pytest.mark.parametrize("shape", [((200,), 5), ((4, 64, 64), None)])
def test_it_is_small(shape):
    net = build(kind_of(*shape), *shape, 1)
    assert sum(weight.numel() for weight in net.parameters()) < 600_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sequence", (5,), None, 1), "no network 'sequence' for rows of shape \\(5,\\) of continuous numbers"),
        (("image", (5,), None, 1), "no network 'image'"),
        (("vector", (5,), 4, 1), "no network 'vector' for rows of shape \\(5,\\) of 4 tokens"),
    ],
)
def test_rows_that_do_not_suit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(*arguments)

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
    ((6, 6 + 3 + 1), None, "graph"),
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
    assert kind_of(event, tokens, kind == "graph") == kind
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


def graphs(n, taken, places=6, features=3):
    """Noisy graphs with as many nodes that are there."""
    x = rows((places, places + features + 1), None, n)
    mask = (torch.arange(places) < taken).float()[:, None]
    edges = x[..., :places] + x[..., :places].mT
    return torch.cat([edges * mask * mask.mT, x[..., places:-1] * mask, mask.expand(n, -1, -1)], -1)


def test_a_graph_network_does_not_see_the_order_of_nodes_but_each_bond_and_feature():
    torch.manual_seed(0)
    net = awake(build("graph", (6, 10), None, 1, width=8))
    for layer in (block.second for block in net.blocks):
        torch.nn.init.normal_(layer.weight)
    x, t, prompt = graphs(1, 5), torch.tensor([0.5]), torch.tensor([0])
    v, order = net(x, t, prompt), torch.tensor([3, 0, 4, 2, 1, 5])
    turned = x[:, order]
    turned = torch.cat([turned[..., order], turned[..., 6:]], -1)
    torch.testing.assert_close(net(turned, t, prompt), v)
    for i, j in ((0, 1), (3, 4), (2, 6), (4, 8)):
        other = x.clone()
        other[0, i, j] += 1
        if j < 6:
            other[0, j, i] += 1
        assert not torch.allclose(net(other, t, prompt), v)
    assert not torch.allclose(net(graphs(1, 4), t, prompt), v)


def test_places_without_a_node_do_not_count():
    torch.manual_seed(0)
    net = awake(build("graph", (6, 10), None, 1, width=8))
    x, t, prompt = graphs(1, 4), torch.tensor([0.5]), torch.tensor([0])
    other = x.clone()
    other[0, 4:, :-1] = 9.0
    other[0, :, 4:6] = 9.0
    torch.testing.assert_close(net(other, t, prompt), net(x, t, prompt))


@pytest.mark.parametrize("shape", [((200,), 5), ((4, 64, 64), None), ((38, 49), None, True)])
def test_it_is_small(shape):
    net = build(kind_of(*shape), *shape[:2], 1)
    assert sum(weight.numel() for weight in net.parameters()) < 600_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sequence", (5,), None, 1), "no network 'sequence' for rows of shape \\(5,\\) of continuous numbers"),
        (("image", (5,), None, 1), "no network 'image'"),
        (("graph", (5, 6), None, 1), "no network 'graph' for rows of shape \\(5, 6\\)"),
        (("vector", (5,), 4, 1), "no network 'vector' for rows of shape \\(5,\\) of 4 tokens"),
    ],
)
def test_rows_that_do_not_suit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        build(*arguments)

"""Compiled networks: the same samples, one compilation, and one clear line where it cannot be done.

Compiling takes half a minute: here the graphs are recorded and run as they are. `benchmarks/compiled.py` compiles.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import guided
from guided.core.batching import Evaluator
from guided.core.compiling import compilation_of, compiled, micro_batches
from guided.errors import GuidedError
from guided.negatives.attach import attach
from guided.samplers import SVDD
from tests.adapters.diffusers.pipelines.families import build


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """How each graph was compiled, as they come."""
    found: list[str] = []
    compile = torch.compile

    def recording(net: Any, mode: str, dynamic: bool) -> Any:
        def backend(graph: Any, inputs: Any) -> Callable[..., Any]:
            found.append(mode)
            return graph.forward

        assert dynamic is False
        return compile(net, backend=backend, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", recording)
    torch._dynamo.reset()
    yield found
    torch._dynamo.reset()


def test_a_network_is_compiled_once_whatever_the_number_of_rows(graphs: list[str]) -> None:
    options: dict[str, Any] = {"reward": "gc", "sampler": SVDD(M=3), "n": 5, "seed": 1, "steps": 6}
    plain, fast = (guided.load("rna", device="cpu", **given) for given in ({}, {"compile": "default"}))
    runs = [guided.sample(model, batch_size=size, **options) for model in (plain, fast) for size in (5, 2)]
    assert all(run.samples == runs[0].samples for run in runs[1:])
    assert graphs == ["default"]
    assert (fast.evaluator.size, fast.evaluator.least) == (128, 128) and plain.evaluator.least == 1
    assert runs[0].stats.network_rows == runs[2].stats.network_rows  # what fills a micro-batch is not counted


def test_molecules_have_the_same_outputs(graphs: list[str]) -> None:
    plain, fast = guided.load("molecules", device="cpu"), guided.load("molecules?compile=default", device="cpu")
    x = torch.arange(3)[:, None].expand(3, *plain.process.event)
    outputs = [model.denoiser(x, torch.ones(3)) for model in (plain, fast)]
    assert torch.equal(*outputs) and graphs == ["default"]
    assert fast.identity == plain.identity and fast.trainable().bare is fast.trainable().module._orig_mod


def test_the_network_of_a_pipeline_is_compiled_and_its_micro_batches_are_filled(
    graphs: list[str], tmp_path: Any
) -> None:
    build("sd").save_pretrained(tmp_path)
    plain, fast = (
        guided.load(tmp_path, device="cpu", steps=2, micro_batch=3, **given) for given in ({}, {"compile": "default"})
    )
    assert (plain.evaluator.least, fast.evaluator.least, fast.evaluator.size) == (1, 3, 3)
    options: dict[str, Any] = {"sampler": "unguided", "n": 4, "prompt": "red cat", "guidance": 1.0}
    one, other = (guided.sample(model, **options) for model in (plain, fast))
    difference = max(
        abs(int(a) - int(b))
        for s, t in zip(one.samples, other.samples, strict=True)
        for a, b in zip(s.tobytes(), t.tobytes(), strict=True)
    )
    assert difference <= 2 and set(graphs) == {"default"}
    before = len(graphs)
    guided.sample(fast, **{**options, "n": 2})
    assert len(graphs) == before


def test_a_negative_checkpoint_is_compiled_as_the_model_is(graphs: list[str]) -> None:
    model = attach(guided.load("rna", device="cpu", compile="default"), "rna")
    guided.sample(model, sampler="unguided", n=3, steps=2, prompt="human", guidance=2.0)
    assert graphs == ["default"] * 2


def test_what_a_graph_wrote_is_copied(graphs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the next call writes to the same memory; a new step is announced before each."""
    begun: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(1))

    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = torch.zeros(2)

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.memory.copy_(x),)

    net = Same()
    fast = compiled(net, "graph")
    (one,), (other,) = fast(torch.ones(2)), fast(2 * torch.ones(2))
    assert one.tolist() == [1, 1] and other.tolist() == [2, 2] and begun == [1, 1] and graphs == ["reduce-overhead"]
    assert compilation_of(fast) == "graph" and compilation_of(net) is None
    assert compiled(net, None) is net


@pytest.mark.parametrize("name", ["molecules", "rna", "images"])
def test_what_is_not_accepted_is_one_line(name: str) -> None:
    refused = partial(guided.load, device="cpu")
    with pytest.raises(GuidedError, match="compile is 'graph', which needs a CUDA device, given cpu"):
        refused(name, compile="graph")
    with pytest.raises(GuidedError, match=r"compile is 'defualt'.*; it must be default or graph"):
        refused(f"{name}?compile=defualt")
    with pytest.raises(GuidedError, match="the model's option 'compile' is given twice"):
        refused(f"{name}?compile=default", compile="default")
    with pytest.raises(GuidedError, match="channels_last"):
        refused(name, channels_last="yes")


def test_options_are_recorded_with_the_name() -> None:
    model = guided.load("rna", device="cpu", channels_last=False)
    assert model.name == "rna?channels_last=false"
    assert guided.load("rna?channels_last=false", device="cpu").name == model.name
    assert guided.load("rna", device="cpu", compile="default", channels_last=True).name == (
        "rna?compile=default&channels_last=true"
    )


@pytest.mark.parametrize("last", [False, True])
def test_the_layout_of_convolutions_changes_no_more_than_rounding(last: bool) -> None:
    plain, other = guided.load("dna", device="cpu"), guided.load("dna", device="cpu", channels_last=last)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 5, (3, *plain.process.event), generator=generator)
    label = torch.tensor([0, 1, 2])
    one, two = (model.denoiser(x, torch.ones(3), label=label) for model in (plain, other))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)
    assert torch.equal(one, two) or not last


@pytest.mark.parametrize("last", [None, False, True])
def test_kernels_of_a_pipeline_have_the_layout(last: bool | None) -> None:
    pipeline = build("sd")
    guided.load(pipeline, **({} if last is None else {"channels_last": last}))
    for part in (pipeline.unet, pipeline.vae):
        for weight in part.parameters():
            if weight.ndim == 4 and min(weight.shape[1:3]) > 1:  # else the two are one
                assert weight.is_contiguous(memory_format=torch.channels_last) == (last is not False)


@pytest.mark.parametrize(("width", "length", "rows"), [(192, 200, 96), (8, 10, 128), (4096, 4096, 16)])
def test_on_a_cpu_a_layers_output_fits_into_16_megabytes_if_16_rows_do(width: int, length: int, rows: int) -> None:
    net = nn.Sequential(nn.Conv1d(1, width, 1), nn.Linear(1, 2))
    evaluator = micro_batches(net, length, torch.device("cpu"), None)
    assert (evaluator.size, evaluator.even) == (rows, True)
    assert 4 * rows * length * width <= 2**24 or rows == 16
    assert micro_batches(net, length, torch.device("cuda"), None).size is None


@pytest.mark.parametrize("name", ["molecules", "dna", "rna"])
def test_micro_batches_of_the_shipped_models_change_no_bit(name: str) -> None:
    model = guided.load(name, device="cpu")
    model = model.prompted([model.prompting.examples[1]]) if model.prompting.examples else model
    L, V, n = model.process.length, model.process.vocabulary, 150
    x = torch.randint(0, V + 1, (1, n, L), generator=torch.Generator().manual_seed(0))
    assert model.evaluator.size < n
    whole = replace(model, evaluator=Evaluator()).evaluate(x, 1)
    parts = model.evaluate(x, 1)
    assert torch.equal(whole.y[whole.index], parts.y[parts.index])

"""Rewards of tensors: the same samples, scores and calls as those of text and PIL, and few waits for the device."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import guided
from guided.core.batching import Evaluator
from guided.core.codec import Codec
from guided.core.diffusion import Diffusion
from guided.core.masked import Masked
from guided.core.random import Streams
from guided.core.views import EachPrompt, Views
from guided.errors import RewardError
from guided.samplers import SVDD
from guided.scoring import registry, seen
from guided.scoring.objective import Objective, resolve_reward
from guided.scoring.registry import register_reward
from guided.scoring.seen import SeenRows
from guided.values.posterior_mean import PosteriorMean
from tests.toys.pictures import pictures
from tests.toys.remote import DEVICE, Remote
from tests.toys.values import dna as toy

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_table", dict(registry._table))


def words(x: Tensor) -> list[str]:
    return ["".join("ACGTN"[i] for i in row) for row in x.tolist()]


def codec(**options: Any) -> Codec:
    return Codec(words, tokens=lambda x: x, **options)


def dna(**options: Any) -> Diffusion:
    return toy(codec=codec(), **options)


def weights(n: int = 12) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0)).double()


def on_codes(x: Tensor) -> Tensor:
    return weights(x.shape[1]).gather(1, x.T.clamp(max=3)).sum(0)


def on_text(samples: list[str]) -> list[float]:
    return on_codes(torch.tensor([["ACGTN".index(a) for a in s] for s in samples])).tolist()


def tokens(name: str = "codes", **options: Any) -> Callable[[Any], Any]:
    """A reward of codes, and the same of text."""
    return register_reward(name, takes="tokens", **options)(
        lambda x: on_codes(x) if isinstance(x, Tensor) else on_text(x)
    )


rows = st.lists(st.tuples(*[st.integers(0, 2)] * 3, st.integers(0, 2)), max_size=12)


@pytest.mark.parametrize("collide", [False, True])
@given(batches=st.lists(rows, max_size=5))
def test_rows_are_numbered_as_a_dictionary_would(collide: bool, batches: list[list[tuple[int, ...]]]) -> None:
    """The law; and if all hashes are the same, no row is taken for another."""
    found, known = SeenRows(3), dict[tuple[int, ...], int]()
    hashed = seen.row_hash
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(seen, "row_hash", lambda x, group: torch.zeros_like(hashed(x, group)))
        every: list[tuple[int, ...]] = []
        for batch in batches:
            given = torch.tensor(batch, dtype=torch.long).view(-1, 4)
            number, fresh = found.find(given[:, :3], given[:, 3])
            every += [batch[i] for i in fresh.tolist()]
            assert [every[i] for i in number] == batch and len(found) == len(every)
            if not collide:
                new = len(known)
                wanted = [known.setdefault(row, len(known)) for row in batch]
                assert number.tolist() == wanted and fresh.tolist() == [wanted.index(i) for i in range(new, len(known))]


@pytest.mark.parametrize("vocabulary", [5, 256, 257, 40_000, 70_000])
def test_rows_of_any_vocabulary_are_told_apart(vocabulary: int) -> None:
    x = torch.tensor([[vocabulary - 1, 0], [0, vocabulary - 1], [vocabulary - 1, 0]])
    found = SeenRows(vocabulary)
    assert found.find(x)[0].tolist() == [0, 1, 0] and found.find(x.flip(0))[0].tolist() == [0, 1, 0]


def test_room_grows_and_too_many_rows_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "LEAST", 4)
    found, x = SeenRows(300), torch.randint(0, 300, (50, 6), generator=torch.Generator().manual_seed(0))
    assert found.find(x[:3])[0].tolist() == [0, 1, 2] and found.find(x)[0].tolist() == [*range(50)]
    monkeypatch.setattr(seen, "MOST", 100)
    assert found.find(x[40:])[0].tolist() == [*range(10)] and len(found) == 10


def drawn(model: Diffusion, reward: Any, **options: Any) -> Any:
    return guided.sample(model, reward, **{"sampler": SVDD(M=4), "n": 6, "batch_size": 3, "seed": 1, **options})


@pytest.mark.parametrize(
    "options", [{}, {"sampler": SVDD(M=3, alpha=0.5)}, {"n": 3, "steps": 9}, {"sampler": "best-of-n"}]
)
def test_a_run_is_the_same_with_codes_and_with_text(options: dict[str, Any]) -> None:
    """Samples, scores, and how many were scored."""
    tokens()
    codes, text = (drawn(dna(), spec, **options) for spec in ("codes", on_text))
    assert codes.samples == text.samples and codes.stats.reward_calls == text.stats.reward_calls > 6
    assert torch.equal(codes.rewards, text.rewards) and codes.stats.network_rows == text.stats.network_rows


def test_a_run_with_prompts_is_the_same() -> None:
    """Requests with one prompt share the score of a sample, those with two do not."""

    def counted(samples: Any, prompts: Any = None) -> Any:
        if isinstance(samples, Tensor):
            letters = torch.tensor([["ACGT".index(a) for a in text] for text in prompts.texts])[prompts.number]
            return (samples[:, :, None] == letters[:, None]).sum((1, 2)).double()
        return [sum(s.count(a) for a in p) for s, p in zip(samples, prompts, strict=True)]

    register_reward("counted", takes="tokens")(counted)
    prompts = ["AT", "GC", "AT", "GC", "GC", "AT"]
    specs = ("counted", lambda samples, prompts: counted(samples, prompts))
    codes, text = (drawn(dna(L=4), spec, prompt=prompts) for spec in specs)
    assert codes.samples == text.samples and codes.stats.reward_calls == text.stats.reward_calls
    assert torch.equal(codes.rewards, text.rewards)


def test_several_rewards_share_views_and_calls() -> None:
    """Codes and text in one objective: each view is made once a batch, and samples are scored once."""
    made: list[int] = []
    tokens("codes")
    tokens("again", transform="linear=-10,10")
    model = toy(codec=Codec(words, tokens=lambda x: made.append(len(x)) or x))
    both, text = (drawn(model, spec) for spec in (["codes", "again", on_text], [on_text, on_text, on_text]))
    assert both.columns["codes"] == both.columns["on_text"] and both.stats.reward_calls == text.stats.reward_calls
    looks = len(both.path) + 2  # and the samples of two batches
    assert len(made) == looks
    made.clear()
    only = drawn(model, ["codes", "again"])
    assert len(made) == looks and only.stats.reward_calls == drawn(model, "codes").stats.reward_calls


def views(x: Tensor, **options: Any) -> Views:
    return Views(x, codec(**options), tokens=5)


CODES = torch.tensor([[0, 1], [2, 3], [0, 1], [3, 3], [1, 1]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: on_codes(x).where((x != 2).all(1), torch.nan), "returned nan"),
        (lambda x: on_codes(x).where((x != 2).all(1), torch.inf), "returned inf"),
        (lambda x: on_codes(x).where((x != 2).all(1), -1e200), "returned -1e\\+200; a score is at most"),
        (
            lambda x: [None if 2 in row else on_codes(row[None]).item() for row in x],
            "returned None, which is not a number",
        ),
        (lambda x: on_codes(x) if (x != 2).all() else 1 / 0, "raised ZeroDivisionError"),
        (lambda x: on_codes(x) if (x != 2).all() else on_codes(x)[:, None], "returned an array of shape \\(1, 1\\)"),
    ],
)
def test_a_sample_at_fault_is_found_and_shown_as_it_is_decoded(wrong: Callable[[Tensor], Any], said: str) -> None:
    register_reward("wrong", takes="tokens")(wrong)
    with pytest.raises(RewardError, match=f"'wrong' {said}.* for sample 'GT'"):
        resolve_reward("wrong")(views(CODES))
    made = resolve_reward("wrong", on_error="worst")
    wanted = on_codes(CODES).where((CODES != 2).all(1), -torch.inf)
    assert torch.equal(made(views(CODES)), wanted) and made.failures == 1 and "'GT'" in str(made.first_failure)
    assert torch.equal(made(views(CODES)), wanted) and made.failures == 1 and made.calls == 4


def test_one_score_for_all_is_no_score_and_nobody_is_to_blame_for_a_library() -> None:
    register_reward("all", takes="tokens")(lambda x: x.sum() if len(x) > 1 else x.sum(1))
    with pytest.raises(RewardError, match=r"must return one number for each sample, as it does when .* one at a time"):
        resolve_reward("all")(views(CODES))

    def missing(x: Tensor) -> Tensor:
        raise ImportError("no library")

    register_reward("missing", takes="tokens")(missing)
    with pytest.raises(RewardError, match=r"'missing' raised ImportError: no library$"):
        resolve_reward("missing", on_error="worst")(views(CODES))


def test_the_worst_is_no_failure() -> None:
    register_reward("never", takes="tokens")(lambda x: torch.full((len(x),), -torch.inf))
    made = resolve_reward("never")
    assert made(views(CODES)).isneginf().all() and made.failures == 0


def test_what_a_reward_does_to_its_tensor_reaches_nobody() -> None:
    register_reward("rude", takes="tokens")(lambda x: x.zero_().sum(1).double())
    tokens()
    made, given = resolve_reward(["rude", "codes"]), views(CODES.clone())
    assert torch.equal(made(given), on_codes(CODES) / 2) and torch.equal(given.rows, CODES)


def test_any_real_type_of_tensor_is_taken_and_so_is_a_list() -> None:
    for name, kind in (("i", torch.int32), ("h", torch.float16), ("b", torch.bool), ("l", None)):
        register_reward(name, takes="tokens")(
            lambda x, kind=kind: (x[:, 0] == 1).to(kind) if kind else (x[:, 0] == 1).float().tolist()
        )
        assert resolve_reward(name)(views(CODES)).tolist() == [0, 0, 0, 0, 1]


def test_a_model_without_codes_gives_text() -> None:
    tokens()
    made = resolve_reward("codes")
    assert made(Views(CODES, Codec(words), tokens=5)).tolist() == pytest.approx(on_text(words(CODES)))
    assert made.calls == 4


def test_a_reward_says_what_it_takes_and_of_which_samples() -> None:
    with pytest.raises(
        ValueError, match="reward 'x' takes 'token' \\(did you mean 'tokens'\\?\\); it is one of samples"
    ):
        register_reward("x", takes="token")
    register_reward("x", takes="tokens")(on_codes)
    with pytest.raises(ValueError, match="reward 'x' scores DNA and RNA; the samples of this model are images"):
        resolve_reward("x").check("images")
    register_reward("y", takes="pixels")(lambda x: x)
    with pytest.raises(ValueError, match="reward 'y' scores images"):
        resolve_reward("y").check("molecules")
    register_reward("z", takes="pixels", modality="any")(lambda x: x)
    resolve_reward("z").check("molecules")


def red(x: Any) -> Any:
    """The mean of red less that of the others, of pixels or of PIL images."""
    arrays = (
        x if isinstance(x, Tensor) else torch.from_numpy(np.stack([np.asarray(image) for image in x])).movedim(-1, 1)
    )
    mean = arrays.double().mean((2, 3))
    score = (mean[:, 0] - mean[:, 1:].mean(1)) / 255
    return score if isinstance(x, Tensor) else score.tolist()


def painted(preview: bool = False, decoded: list[int] | None = None) -> Diffusion:
    """Pictures with a view of pixels."""
    model = pictures(K=3, preview=preview)

    def pixels(x: Tensor) -> Tensor:
        if decoded is not None:
            decoded.append(len(x))
        images = [np.asarray(image) for image in pictures().codec.decode(x)]
        return torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous()

    cheap = (lambda x: pixels(x * 0.9)) if preview else None
    return replace(model, codec=replace(model.codec, pixels=pixels, preview_pixels=cheap))


@pytest.mark.parametrize("preview", [False, True])
def test_a_run_is_the_same_with_pixels_and_with_images(preview: bool) -> None:
    register_reward("red", takes="pixels")(red)
    one, other = (drawn(painted(preview), spec) for spec in ("red", lambda images: red(images)))
    assert one.stats.reward_calls == other.stats.reward_calls and one.rewards.tolist() == other.rewards.tolist()
    assert [*map(np.asarray, one.samples)] and all(
        np.array_equal(a, b) for a, b in zip(map(np.asarray, one.samples), map(np.asarray, other.samples), strict=True)
    )
    assert one.columns.get("preview") == other.columns.get("preview") and preview == ("preview" in one.columns)


def test_pixels_are_decoded_at_once_and_given_in_parts() -> None:
    given, decoded = list[int](), list[int]()
    register_reward("parts", takes="pixels")(lambda x: given.append(len(x)) or red(x))
    particles = painted(decoded=decoded).prompted(["red", "green"]).start(Streams(0, range(2))).propose(5)
    value = PosteriorMean(resolve_reward("parts"), evaluator=Evaluator(4))
    whole = PosteriorMean(resolve_reward("parts"))
    assert torch.equal(value(particles), whole(particles)) and given == [4, 4, 2, 10] and decoded == [10, 10]


def test_latents_are_the_rows_of_the_model() -> None:
    seen: list[Tensor] = []
    register_reward("latents", takes="latents")(lambda x: seen.append(x) or x.flatten(1).sum(1))
    particles = painted().prompted(["red"]).start(Streams(0, [0])).propose(3)
    value = PosteriorMean(resolve_reward("latents"))(particles)
    assert torch.equal(seen[0], particles.look_ahead().rows) and value.shape == (1, 3)


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("prompts", [None, ["AT", "GC", "AT"]])
@pytest.mark.parametrize("spec", ["codes", ["codes", "again"]])
def test_a_look_ahead_waits_for_the_device_twice(spec: Any, prompts: list[str] | None, draws: int) -> None:
    """For which rows are new, and for their scores, however many rewards there are; the values are those of a CPU."""

    def again(x: Tensor, prompts: Any = None) -> Tensor:
        return (x[:, :1] == x).sum(1) if prompts is None else prompts.number

    table = {DEVICE: None, CPU: weights()}

    def codes(x: Tensor) -> Tensor:
        return table[x.device].gather(1, x.T.clamp(max=3)).sum(0)  # type: ignore[union-attr]

    register_reward("codes", takes="tokens")(codes)
    register_reward("again", takes="tokens")(again)
    found = []
    with Remote() as remote:
        table[DEVICE] = weights().to(DEVICE)
        for device in (DEVICE, CPU):
            value, streams = PosteriorMean(resolve_reward(spec), draws), Streams(0, range(3), CPU)
            particles = dna().prompted(prompts or ["", "", ""]).start(streams, 2)
            for _ in range(3):
                particles = particles.propose()
                ahead = particles.look_ahead(draws, by_request=bool(prompts), distinct=False)
                before = remote.waits
                shown = Views(ahead.rows.to(device), codec(), tokens=5)
                each = ahead.prompts and EachPrompt(ahead.prompts.texts, ahead.prompts.number.to(device))
                found.append(value.reward(shown, each))  # type: ignore[call-arg]
                assert remote.waits - before == (2 if device == DEVICE else 0), remote.reasons
    assert all(torch.equal(a, b) for a, b in zip(found[:3], found[3:], strict=True))


@pytest.mark.parametrize(("takes", "wanted"), [("tokens", 2), ("samples", 3)])
def test_a_run_on_a_device_waits_a_counted_number_of_times_in_a_look_ahead(takes: str, wanted: int) -> None:
    """From the particles to their values; text is decoded on the host, and no row is sent back."""
    tokens("letters")
    count = {"tokens": lambda x: (x == 1).sum(1), "samples": lambda texts: [text.count("C") for text in texts]}
    register_reward("ones", takes=takes)(count[takes])

    def waits(device: torch.device) -> Tensor:
        net = torch.full((12, 4), 0.25).log().to(device)
        model = Diffusion(
            lambda x, t: net.expand(len(x), 12, 4), Masked(12, 4, 4), codec(), evaluator=Evaluator(device=device)
        )
        particles = model.start(Streams(0, range(3), device)).propose(4)
        _ = particles.outputs
        value = PosteriorMean(resolve_reward("ones"))
        value(model.start(Streams(0, [0], device)).propose(4))  # some rows are known
        before = remote.waits, remote.uploads
        found = value(particles)
        assert remote.waits - before[0] == (wanted if device == DEVICE else 0), remote.reasons
        assert takes == "tokens" or remote.uploads == before[1]
        return found

    with Remote() as remote:
        assert torch.equal(waits(DEVICE), waits(CPU))


def test_scores_of_rows_that_are_never_equal_are_waited_for_once() -> None:
    register_reward("sums", takes="latents")(lambda x: x.flatten(1).sum(1))
    rows = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    with Remote() as remote:
        there = resolve_reward("sums")(Views(rows.to(DEVICE), Codec()), None, Evaluator(3))
        assert remote.waits == 1
    torch.testing.assert_close(there, rows.sum(1).double())


def test_prompts_of_batches_with_other_prompts_are_told_apart() -> None:
    register_reward("first", takes="tokens")(lambda x, prompts: torch.tensor([float(ord(p[0])) for p in prompts]))
    made: Objective = resolve_reward("first")
    assert made(views(CODES[:2]), ["b", "a"]).tolist() == [98, 97]
    assert made(views(CODES[:3]), ["a", "a", "b"]).tolist() == [97, 97, 98] and made.calls == 3
    assert made(views(CODES[:2]), EachPrompt.of(["a", "c"], CPU)).tolist() == [97, 99] and made.calls == 4
    made.clear()
    assert made(views(CODES[:1]), ["b"]).tolist() == [98] and made.calls == 5


def test_an_error_leaves_no_row_without_its_score() -> None:
    """Whoever goes on after an error gets the scores of the rows that are asked for."""
    broken = [False]

    def score(x: Tensor) -> Tensor:
        if broken[0]:
            raise RewardError("is down")
        return x.double().sum(1)

    register_reward("sums", takes="tokens")(score)
    objective, model = resolve_reward("sums"), dna()
    first, second, third = (
        torch.tensor(rows) for rows in ([[0, 1, 2], [1, 1, 1]], [[3, 3, 3]], [[2, 2, 2], [3, 3, 3]])
    )
    assert objective(model.views(first)).tolist() == [3, 3]
    broken[0] = True
    with pytest.raises(RewardError):
        objective(model.views(second))
    broken[0] = False
    assert objective(model.views(third)).tolist() == [6, 9]


def test_a_look_ahead_with_a_decoder_of_its_own_shares_no_score_with_the_sample() -> None:
    register_reward("level", takes="pixels", modality="any")(lambda x: x.double().mean((1, 2, 3)))

    def painted_as(level: int) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.full((len(x), 3, 1, 1), level, dtype=torch.uint8)

    views = codec(preview=words, pixels=painted_as(200), preview_pixels=painted_as(10))
    model, objective = toy(codec=views), resolve_reward("level")
    x = torch.zeros(1, 12, dtype=torch.long)
    assert [objective(model.views(x, preview)).item() for preview in (True, False, True)] == [10, 200, 10]

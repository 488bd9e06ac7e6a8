r"""Text from a masked model in blocks: unguided, best of N and SVDD, by any reward of text.

    python examples/text.py --prompt "the cat" --reward "regex?pattern=\b(red|blue)\b&how=count" -M 8

A tiny network learns sentences of a small grammar first, in half a minute on one core, and then stands in LLaDA 2's
pipeline of diffusers. A pipeline of your own takes its place as it is: `guided.sample(pipeline, ...)`, or its folder.
"""

import argparse
import random
from collections.abc import Iterator
from typing import Any

import torch

import guided
from guided.errors import check_number, one_line
from guided.samplers import SVDD, BestOfN, Unguided

SPECIAL = ("<mask>", "<end>", "<unk>")
WORDS = {
    "article": ("the", "a"),
    "adjective": ("small", "big", "old", "red", "blue"),
    "noun": ("cat", "dog", "bird", "house", "tree"),
    "verb": ("sees", "likes", "finds", "follows"),
    "rest": ("and", "."),
}
LENGTH, BLOCK, WIDTH, ROWS = 24, 4, 64, 64


def arguments() -> argparse.Namespace:
    """The command's options, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="the cat", help="how texts begin")
    parser.add_argument("--reward", default=r"regex?pattern=\b(small|big|old|red|blue)\b&how=count")
    parser.add_argument("--n", type=int, default=16, help="the number of texts")
    parser.add_argument("-M", type=int, default=8, help="SVDD's candidates, and best-of-N's samples")
    parser.add_argument("--updates", type=int, default=1000, help="of the network, each on 64 sentences")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, number in (("--n", options.n), ("-M", options.M), ("--updates", options.updates)):
        check_number(name, number, int, least=1)
    guided.resolve_reward(options.reward)  # before half a minute of training
    return options


def sentences(rng: random.Random) -> Iterator[list[str]]:
    """Sentences as "the small cat sees a red house and follows the dog ." without end."""

    def pick(kind: str) -> str:
        return rng.choice(WORDS[kind])

    def thing() -> list[str]:
        return [pick("article"), *(pick("adjective") for _ in range(rng.choice((0, 0, 1, 2)))), pick("noun")]

    while True:
        more = ["and", pick("verb"), *thing()] if rng.random() < 0.5 else []
        yield [*thing(), pick("verb"), *thing(), *more, "."]


def tokenizer() -> Any:
    """Words between spaces."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = (*SPECIAL, *(word for kind in WORDS.values() for word in kind))
    table = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    table.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"mask_token": "<mask>", "eos_token": "<end>", "pad_token": "<end>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=table, **names)


def trained(words: Any, updates: int, seed: int) -> Any:
    """A network that fills the masked words of a sentence's last block, given those before."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    size = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 2 * WIDTH}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    network = BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=64, **size, **quiet))
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    source, end, losses = sentences(random.Random(seed)), words.eos_token_id, []
    for _ in range(updates):
        rows = [words(" ".join(next(source)))["input_ids"] for _ in range(ROWS)]
        x = torch.tensor([[*row, *[end] * LENGTH][:LENGTH] for row in rows])
        width = BLOCK * int(torch.randint(1, LENGTH // BLOCK + 1, ()))
        x = x[:, :width]
        hidden = (torch.rand(x.shape) < torch.rand(ROWS, 1)) & (torch.arange(width) >= width - BLOCK)
        hidden[torch.arange(ROWS), torch.randint(width - BLOCK, width, (ROWS,))] = True
        logits = network(x.masked_fill(hidden, words.mask_token_id)).logits
        loss = torch.nn.functional.cross_entropy(logits[hidden], x[hidden])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    last = losses[-100:]
    print(f"trained {updates} updates, loss {sum(last) / len(last):.2f} nats a masked word")
    return network


def model(options: argparse.Namespace) -> guided.Diffusion:
    """LLaDA 2's pipeline with that network: two words a step. Candidates differ, as the temperature is 1."""
    from diffusers import BlockRefinementScheduler, LLaDA2Pipeline

    words = tokenizer()
    pipeline = LLaDA2Pipeline(trained(words, options.updates, options.seed), BlockRefinementScheduler(), words)
    sizes = {"gen_length": LENGTH - BLOCK, "block_length": BLOCK, "num_inference_steps": BLOCK // 2}
    return guided.load(pipeline, pipe_args={**sizes, "temperature": 1.0, "threshold": 2.0, "editing_threshold": None})


def main() -> None:
    """Trains, draws and prints."""
    with one_line():
        options = arguments()
        given = model(options)
        samplers = {"unguided": Unguided(), f"best of {options.M}": BestOfN(N=options.M), "SVDD": SVDD(M=options.M)}
        print(f"{'':12}{'mean reward':>13}{'network rows':>14}{'reward calls':>14}")
        for name, sampler in samplers.items():
            run = guided.sample(given, options.reward, sampler, options.n, options.seed, prompt=options.prompt)
            stats = run.stats
            print(f"{name:12}{run.rewards.mean():13.2f}{stats.network_rows:14,}{stats.reward_calls:14,}", flush=True)
            for text in run.samples[:2]:
                print(f"    {options.prompt} {text}")


if __name__ == "__main__":
    main()

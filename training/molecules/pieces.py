"""Tokens that are learned from molecules: pieces of SELFIES, or fragments of trees.

Both learn pairs of tokens that become one by byte-pair encoding; the library that does it takes strings, so a token is
written as one character.
"""

__all__ = ["learn_fragments", "learn_merges", "learn_selfies", "read_tokens", "write_tokens"]

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import selfies

from guided.adapters.fragments.fragment import Node
from guided.adapters.fragments.tokens import FragmentTokens
from guided.adapters.selfies.tokens import SelfiesTokens
from guided.storage import write_whole

Tokens = SelfiesTokens | FragmentTokens
_FIRST = 0x4E00  # the character of token 0; 20,000 letters follow


def learn_merges(words: Iterable[Sequence[int]], tokens: range, most: int, least: int = 2) -> list[tuple[int, int]]:
    """Pairs of tokens that become one, in order; the first pair becomes the token after the given ones.

    Args:
        words: Rows of these tokens.
        tokens: The tokens to begin with.
        most: The number of pairs, at most.
        least: The number of times that a pair is seen, at least.
    """
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    letters = [chr(_FIRST + i) for i in tokens]
    trainer = trainers.BpeTrainer(
        vocab_size=len(letters) + most, min_frequency=least, show_progress=False, initial_alphabet=letters
    )
    tokenizer.train_from_iterator(("".join(chr(_FIRST + i) for i in word) for word in words), trainer)
    ids = dict(zip(letters, tokens, strict=True))
    merges = []
    for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
        merges.append((ids[left], ids[right]))
        ids[left + right] = tokens.stop + len(merges) - 1
    return merges


def learn_selfies(strings: Sequence[str], vocabulary: int, length: int) -> SelfiesTokens:
    """Pieces of SELFIES, `vocabulary` tokens with the padding."""
    rows = [list(selfies.split_selfies(string)) for string in strings]
    symbols = sorted({symbol for row in rows for symbol in row})
    ids = {symbol: i for i, symbol in enumerate(symbols, 1)}
    words = ([ids[symbol] for symbol in row] for row in rows)
    merges = learn_merges(words, range(1, 1 + len(symbols)), vocabulary - 1 - len(symbols))
    return SelfiesTokens(tuple(symbols), tuple(merges), length)


def learn_fragments(trees: Sequence[Sequence[Node]], fragments: int, share: float, length: int) -> FragmentTokens:
    """Fragments, and nodes and pieces that are frequent enough.

    Args:
        trees: Molecules as trees.
        fragments: The number of fragments, the most frequent ones.
        share: A node, or a pair of tokens, that is seen at least `share` times a molecule has a token of its own.
        length: The number of tokens of a row.
    """
    nodes = Counter(node for tree in trees for node in tree)
    counts: Counter[str] = Counter()
    for node, count in nodes.items():
        counts[node.fragment] += count
    known = {smiles: i for i, (smiles, _) in enumerate(counts.most_common(fragments))}
    least = max(2, round(share * len(trees)))
    whole = tuple(
        (known[node.fragment], node.entry, node.exits)
        for node, count in nodes.most_common()
        if count >= least and node.fragment in known
    )
    sites = 1 + max(max(node.entry, *node.exits, 0) for node in nodes if node.fragment in known)
    tokens = FragmentTokens(sites, tuple(known), whole, (), length)
    first = tokens.vocabulary - len(whole)
    rows = (tokens.tokens(tree) for tree in trees if all(node.fragment in known for node in tree))
    words = (word for row in rows for word in _runs(row, first))
    merges = learn_merges(words, range(first, tokens.vocabulary), 20_000 - tokens.vocabulary, least)
    return FragmentTokens(sites, tuple(known), whole, tuple(merges), length)


def _runs(row: Sequence[int], first: int) -> list[list[int]]:
    """The runs of tokens from `first` up."""
    runs: list[list[int]] = [[]]
    for token in row:
        if token >= first:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return runs


def _entries(tokens: Tokens) -> dict[str, Any]:
    """The entries of a configuration that hold the tokens."""
    entries: dict[str, Any]
    if isinstance(tokens, SelfiesTokens):
        entries = {"kind": "molecules", "symbols": tokens.symbols}
    else:
        nodes = [[number, entry, *exits] for number, entry, exits in tokens.nodes]
        entries = {"kind": "fragments", "sites": tokens.sites, "fragments": tokens.fragments, "nodes": nodes}
    return {**entries, "merges": tokens.merges, "length": tokens.length}


def read_tokens(path: Path) -> Tokens:
    """The tokens in a JSON file."""
    entries = json.loads(path.read_text())
    merges = tuple((left, right) for left, right in entries["merges"])
    if entries.get("kind") != "fragments":
        return SelfiesTokens(tuple(entries["symbols"]), merges, entries["length"])
    nodes = tuple((number, entry, tuple(exits)) for number, entry, *exits in entries["nodes"])
    return FragmentTokens(entries["sites"], tuple(entries["fragments"]), nodes, merges, entries["length"])


def write_tokens(path: Path, tokens: Tokens) -> None:
    """Writes the tokens into a JSON file."""
    write_whole(path, json.dumps(_entries(tokens)))

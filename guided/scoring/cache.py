"""A cache of scores on disk, shared by runs and processes.

An entry is a raw score, by a digest of the sample, of its prompt where the reward takes prompts, and of the reward: its
name, parameters and digests, and the versions of the packages that scores may depend on. Weights and transforms are not
in it: they are applied to raw scores. Failures are kept where they would happen again: not those of a time limit.

Nothing of a run depends on it: where it cannot be read or written (a full disk, a damaged file), a note on standard
error says so once, and the run goes on without it.

References:
    | DiskCache: https://grantjenks.com/docs/diskcache/
"""

__all__ = ["Cache", "Cached"]

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image

from guided.core.sound import Sound
from guided.errors import GuidedError
from guided.scoring.failures import Failed, Failures
from guided.scoring.protocol import Prompts, Samples

PACKAGES = (
    *("guided", "torch", "numpy", "pillow", "rdkit", "transformers", "ViennaRNA", "seqfold", "onnxruntime"),
    *("vina", "meeko", "dockstring", "admet-ai", "chemprop"),
)
WAIT = 10.0  # seconds for another process that writes


class Cache:
    """Scores in a folder. It is opened when first needed.

    Args:
        path: the folder; it is made if it does not exist.

    Raises:
        GuidedError: there is a file of that name.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        if self.path.exists() and not self.path.is_dir():
            raise GuidedError(f"cache is {str(path)!r}, which is a file; give a folder")
        self._lock = Lock()
        self._store: Any = None
        self._broken = False

    def __reduce__(self) -> tuple[type["Cache"], tuple[Path]]:
        """In another process it is the same folder."""
        return Cache, (self.path.absolute(),)

    def get(self, keys: Sequence[bytes | None]) -> list[float | str | None]:
        """What is kept by each key, a score or what a failure said; None where there is nothing, or no key."""
        found: list[float | str | None] = [None] * len(keys)
        try:
            for i, key in enumerate(keys):
                if key is not None and (store := self._opened()) is not None:
                    found[i] = _checked(store.get(key))
        except Exception as error:
            self._give_up(error)
        return found

    def put(self, entries: Mapping[bytes, float | str]) -> None:
        """Keeps entries, all or none of them."""
        if not entries:
            return
        try:
            store = self._opened()
            if store is not None:
                with store.transact():
                    for key, value in entries.items():
                        store.set(key, value)
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Closes the files; the next call opens them again."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except Exception as error:
                self._give_up(error)

    def _opened(self) -> Any:
        with self._lock:
            if self._store is None and not self._broken:
                import diskcache

                # nothing is thrown out: a score takes about 100 bytes
                self._store = diskcache.Cache(
                    str(self.path.absolute()), timeout=WAIT, disk=_plain(), eviction_policy="none", size_limit=2**62
                )
            return None if self._broken else self._store

    def _give_up(self, error: BaseException) -> None:
        with self._lock:
            first, self._broken = not self._broken, True
        while error.__context__ is not None:  # of a failed transaction, what it failed by
            error = error.__context__
        if first:
            said = " ".join(str(error).split()) or type(error).__name__
            print(f"note: the run goes on without the cache {str(self.path)!r}: {said}", file=sys.stderr)


class Cached:
    """Scores of one reward, from the cache or else from the reward.

    Args:
        cache: the folder.
        raw: the reward, with its failure policy; "worst" takes failures from the cache, "stop" lets them happen again.
        identity: which reward it is.
        prompted: whether its scores depend on prompts.
    """

    def __init__(self, cache: Cache, raw: Failures, identity: Mapping[str, Any], prompted: bool) -> None:
        self.cache, self.raw, self.prompted = cache, raw, prompted
        text = json.dumps([identity, _versions()], sort_keys=True, default=repr)
        self.reward = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def __call__(self, samples: Samples, prompts: Prompts) -> tuple[list[float], list[bool]]:
        """The scores of n samples, and for each whether it was known."""
        given = [None] * len(samples) if prompts is None else prompts
        keys = [self.key(sample, prompt) for sample, prompt in zip(samples, given, strict=True)]
        scores = [self._score(value) for value in self.cache.get(keys)]
        missing = [i for i, score in enumerate(scores) if score is None]
        known = [score is not None for score in scores]
        if missing:
            fresh = self.raw(_picked(samples, missing), prompts and [prompts[i] for i in missing])
            for i, score in zip(missing, fresh, strict=True):
                scores[i] = score
            new = ((keys[i], _kept(score)) for i, score in zip(missing, fresh, strict=True))
            self.cache.put({key: value for key, value in new if key is not None and value is not None})
        return [score for score in scores if score is not None], known

    def key(self, sample: Any, prompt: str | None = None) -> bytes | None:
        """The key of a sample; None for an object of which no digest can be made."""
        sha = hashlib.sha256(self.reward)
        if self.prompted:
            _add(sha, repr(prompt).encode("utf-8", "surrogatepass"))
        return sha.digest() if _add_sample(sha, sample) else None

    def _score(self, value: float | str | None) -> float | None:
        if isinstance(value, str):
            return self.raw.count(Failed(value)) if self.raw.on_error == "worst" else None
        return value


def _kept(score: float) -> float | str | None:
    """What the cache keeps of a score; None for nothing."""
    if isinstance(score, Failed):
        return None if score.passing else score.message
    return score


def _picked(samples: Samples, index: list[int]) -> Samples:
    if len(index) == len(samples):
        return samples
    return samples[index] if isinstance(samples, torch.Tensor | np.ndarray) else [samples[i] for i in index]


def _add_sample(sha: Any, sample: Any) -> bool:
    """Adds a sample to a digest: text, the pixels of an image, the numbers of an array, or a list of these."""
    if sample is None or isinstance(sample, str):
        _add(sha, repr(sample).encode("utf-8", "surrogatepass"))
    elif isinstance(sample, Image.Image):
        palette = sample.getpalette() if sample.mode in ("P", "PA") else None
        _add(sha, repr((sample.mode, sample.size, palette, sample.info.get("transparency"))).encode())
        _add(sha, sample.tobytes())
    elif isinstance(sample, torch.Tensor):
        _add(sha, f"{sample.dtype} {tuple(sample.shape)}".encode())
        _add(sha, sample.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    elif isinstance(sample, np.ndarray) and sample.dtype.kind in "biufc":
        rate = f" {sample.rate}" if isinstance(sample, Sound) else ""
        _add(sha, f"{sample.dtype.str} {sample.shape}{rate}".encode())
        _add(sha, np.ascontiguousarray(sample).tobytes())
    elif isinstance(sample, list | tuple):
        _add(sha, f"{type(sample).__name__} {len(sample)}".encode())
        return all(_add_sample(sha, part) for part in sample)
    else:
        return False
    return True


def _add(sha: Any, data: bytes) -> None:
    sha.update(len(data).to_bytes(8, "big"))  # so that two parts are not taken for one
    sha.update(data)


def _checked(value: Any) -> float | str | None:
    """A value from the disk, if it is one that a cache holds."""
    if isinstance(value, str):
        return value
    return float(value) if isinstance(value, float) and not np.isnan(value) else None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def _plain() -> Any:
    """How diskcache reads and writes: plain values only, because a pickle in a shared folder could run code."""
    import diskcache
    from diskcache.core import MODE_RAW

    class Plain(diskcache.Disk):  # type: ignore[misc]
        def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
            return value if mode == MODE_RAW and filename is None else None

    return Plain

"""Sounds: arrays of numpy that know their sampling rate, and their form in files, WAV with PCM of 16 bits."""

__all__ = ["Sound", "from_wav", "to_wav"]

import io
import wave
from typing import Any

import numpy as np

from guided.errors import GuidedError, check_number

FULL = 32767  # the whole number that stands for 1


class Sound(np.ndarray[Any, Any]):
    """A sound: an array with shape `(channels, T)`, from -1 to 1.

    Arrays that are computed from it, as parts of it, keep its rate.

    Args:
        waveform: The amplitudes, with shape `(T,)` or `(channels, T)`.
        rate: Amplitudes in a second, of each channel.

    Raises:
        GuidedError: The shape is another one, or the rate is no positive whole number.
    """

    rate: int

    def __new__(cls, waveform: Any, rate: int) -> "Sound":
        found = np.atleast_2d(np.asarray(waveform, dtype=np.float32)).view(cls)
        if found.ndim != 2:
            raise GuidedError(f"a sound has shape {found.shape}; it must be (T,) or (channels, T)")
        found.rate = check_number("rate", rate, int, least=1)
        return found

    def __array_finalize__(self, obj: Any) -> None:
        self.rate = getattr(obj, "rate", 0)

    def __reduce__(self) -> Any:
        return Sound, (np.asarray(self), self.rate)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.shape[-1] / self.rate


def to_wav(sound: Sound) -> bytes:
    """A sound as WAV, PCM of 16 bits; what is louder than 1 is cut off."""
    numbers = np.round(np.clip(np.asarray(sound), -1, 1) * FULL).astype("<i2")
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(len(numbers))
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(numbers.T.tobytes())
    return data.getvalue()


def from_wav(data: bytes) -> Sound:
    """The sound in a WAV of 16 bits.

    Raises:
        GuidedError: The bytes are no such WAV.
    """
    try:
        with wave.open(io.BytesIO(data), "rb") as file:
            channels, width, rate, count, *_ = file.getparams()
            frames = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise GuidedError(f"this is no WAV ({error or 'it ends too early'})") from error
    if width != 2:
        raise GuidedError(f"this WAV has {8 * width} bits; it must have 16")
    return Sound(np.frombuffer(frames, "<i2").reshape(-1, channels).T / np.float32(FULL), rate)

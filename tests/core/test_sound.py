"""Sounds are arrays that keep their rate, and come back from their files as PCM of 16 bits."""

import copy
import io
import pickle
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guided.core.sound import Sound, from_wav, to_wav
from guided.errors import GuidedError

AMPLITUDES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)


@given(st.lists(AMPLITUDES, min_size=1, max_size=3), st.integers(1, 200_000))
def test_a_file_holds_the_sound_to_half_a_step_of_16_bits(channels: list[list[float]], rate: int) -> None:
    least = min(map(len, channels))
    sound = Sound([channel[:least] for channel in channels], rate)
    back = from_wav(to_wav(sound))
    assert (back.rate, back.shape) == (sound.rate, sound.shape)
    assert np.abs(back - sound).max() <= 0.5001 / 32767
    assert to_wav(back) == to_wav(sound)


def test_channels_take_turns_in_the_file_and_what_is_too_loud_is_cut() -> None:
    with wave.open(io.BytesIO(to_wav(Sound([[0.5, -3.0], [0.25, 3.0]], 8000)))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 2, 8000, 2)
        assert np.frombuffer(file.readframes(2), "<i2").tolist() == [16384, 8192, -32767, 32767]


def test_one_channel_has_a_dimension_too_and_computed_arrays_keep_the_rate() -> None:
    sound = Sound([0.0, 0.5, 1.0, 0.5], 4)
    assert sound.shape == (1, 4) and sound.seconds == 1
    for other in (sound[:, :2], sound / 2, np.abs(sound), sound.copy(), copy.deepcopy(sound)):
        assert isinstance(other, Sound) and other.rate == 4
    assert sound[:, :2].seconds == 0.5
    back = pickle.loads(pickle.dumps(sound))
    assert back.rate == 4 and np.array_equal(back, sound) and back.flags.writeable


@pytest.mark.parametrize(("waveform", "rate"), [(np.zeros((1, 2, 3)), 4), ([0.0], 0), ([0.0], 4.5)])
def test_other_shapes_and_rates_are_refused(waveform: object, rate: object) -> None:
    with pytest.raises(GuidedError, match="it must be"):
        Sound(waveform, rate)  # type: ignore[arg-type]


def test_what_is_no_wav_is_told() -> None:
    with pytest.raises(GuidedError, match="no WAV"):
        from_wav(b"RIFF")
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 1, 8000, 1, "NONE", ""))
        file.writeframes(b"\0")
    with pytest.raises(GuidedError, match="8 bits; it must have 16"):
        from_wav(data.getvalue())

"""Ranks of a launcher that come late, and strangers who come in their place."""

import json
import socket
import threading
from contextlib import closing
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client

import pytest
import torch

from guided.distributed import launched
from guided.distributed.door import Door
from guided.distributed.launched import KEY, Rank


def knock(door, key=None):
    place = door.address
    return Client((place["host"], place["port"]), authkey=bytes.fromhex(place["key"]) if key is None else key)


def test_strangers_hold_up_nobody():
    with closing(Door("127.0.0.1")) as door:
        silent = socket.create_connection(("127.0.0.1", door.address["port"]))
        with pytest.raises(AuthenticationError):
            knock(door, b"wrong")
        lines = [knock(door) for _ in range(3)]
        found = []
        while len(found) < 3:
            assert door.bell.poll(10)
            found += door.arrived()
        assert len(found) == 3 and not door.bell.poll()
        found[0].send("come in")
        assert any(line.poll(5) and line.recv() == "come in" for line in lines)
        silent.close()


def test_a_rank_that_comes_when_the_run_is_over_leaves(monkeypatch):
    """Whether it sees that no one was invited, or reads the address before the door is closed and knocks after."""
    store = torch.distributed.HashStore()
    store.set(KEY, json.dumps(None))
    launched._serve(store, "cpu")
    with closing(Door("127.0.0.1")) as door:
        address = json.dumps(door.address)
    store.set(KEY, address)

    def over(*args, **kwargs):
        store.set(KEY, json.dumps(None))
        raise ConnectionRefusedError

    monkeypatch.setattr(launched, "Client", over)
    launched._serve(store, "cpu")
    store.set(KEY, address)
    monkeypatch.setattr(launched, "Client", Client)
    with pytest.raises(OSError):  # rank 0 said nothing of an end: it cannot be reached
        launched._serve(store, "cpu")


@pytest.mark.parametrize("loading", [True, False])
def test_a_rank_leaves_by_itself_at_the_end_also_while_it_loads(monkeypatch, loading):
    from guided.distributed import setup, worker

    monkeypatch.setattr(worker, "_leave", lambda: pytest.fail("it takes the end for a loss"))
    may_load = threading.Event()

    class Loaded:
        def __init__(self, *args):
            assert may_load.wait(10)

        def close(self):
            pass

    monkeypatch.setattr(setup, "Loaded", Loaded)
    with closing(Door("127.0.0.1")) as door:
        line = knock(door)
        thread = threading.Thread(target=worker.serve, args=(line, "cpu", 0))
        thread.start()
        assert door.bell.poll(10)
        rank = Rank(door.arrived()[0], "rank")
        rank.send(b"setup")
        if not loading:
            may_load.set()
            rank.line.recv()
        rank.end(patient=True)
        may_load.set()
        thread.join(10)
        assert not thread.is_alive()

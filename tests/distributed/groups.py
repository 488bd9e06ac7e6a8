"""A group in this process: blocks finish in any order, and workers are lost."""

import random

from guided.distributed import Drawing
from guided.distributed.messages import Lost, Step
from guided.distributed.setup import Loaded


class Here:
    """Workers that share this process; each has loaded the run from the bytes that are sent.

    Args:
        size: Their number.
        seed: Decides which of them is done next.
        lose: The places of blocks whose worker is lost, once for each time that a place is in the list.
    """

    device = "cpu"

    def __init__(self, size, seed=0, lose=()):
        self.size, self.random, self.lose = size, random.Random(seed), list(lose)
        self.workers, self.tasks, self.closed = {}, {}, 0

    def prepare(self, setup):
        self.setup = setup

    def start(self, n):
        while len(self.workers) < min(n, self.size):
            self.workers[len(self.workers)] = Loaded(self.setup)

    def idle(self):
        return [worker for worker in self.workers if worker not in self.tasks]

    def give(self, worker, task):
        self.tasks[worker] = task

    def events(self):
        worker = self.random.choice(sorted(self.tasks))
        task = self.tasks.pop(worker)
        if task.place in self.lose:
            self.lose.remove(task.place)
            return [(worker, Lost("with SIGKILL"))]
        steps = []
        done = self.workers[worker].draw(task, steps.append)
        assert all(isinstance(step, Step) for step in steps)
        return [*((worker, step) for step in steps), (worker, done)]

    def close(self, patient=True):
        self.closed += 1
        self.workers, self.tasks = {}, {}


def here(size=3, seed=0, lose=()):
    return Drawing(Here(size, seed, lose))

from threading import Barrier, Thread

import torch
from torch import Tensor

from dheads_cli.data.tensor_memory import TensorMemory


def test_the_least_recently_used_goes_first() -> None:
    made = []

    def make(name: str) -> Tensor:
        made.append(name)
        return torch.zeros(100, dtype=torch.uint8)

    memory = TensorMemory(most_bytes=250)
    for name in ("a", "b", "a", "c", "a", "b"):
        memory.get(name, lambda name=name: make(name))
    assert made == ["a", "b", "c", "b"]
    assert (list(memory.held), memory.n_bytes) == (["a", "b"], 200)


def test_one_tensor_stays_whatever_its_size() -> None:
    memory = TensorMemory(most_bytes=10)
    big = torch.arange(100)
    assert memory.get("big", lambda: big) is big
    assert memory.get("big", lambda: torch.zeros(1)) is big
    assert memory.n_bytes == big.nbytes


def test_a_tensor_made_by_two_threads_at_once_is_counted_once() -> None:
    memory, both = TensorMemory(most_bytes=1000), Barrier(2)

    def make() -> Tensor:
        both.wait()  # neither finds the other's
        return torch.zeros(100, dtype=torch.uint8)

    threads = [Thread(target=memory.get, args=("a", make)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (list(memory.held), memory.n_bytes) == (["a"], 100)

"""Processes that train one network together: found where torchrun started them, started here otherwise."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from appliedpapers.core.device import device_index
from appliedpapers.core.errors import ConfigError, RunError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PLUGIN_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_GRACE_S = 20.0


def process_rank() -> int:
    """Return the rank of this process, 0 where it trains alone; only rank 0 reports and registers."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def world_size() -> int:
    """Return the number of processes that train together, 1 where this one trains alone."""
    # Clusters set WORLD_SIZE alone too; only a launcher also says which one this process is.
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def start_fabric(device: str, precision: str) -> Fabric:
    """Return a launched Fabric for this process.

    Args:
        device: A resolved device; with several processes each takes the CUDA device of its local rank.
        precision: ``"32"``, ``"bf16"`` or ``"16"``.

    Raises:
        ConfigError: There are fewer CUDA devices than processes.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    cuda = device.startswith("cuda")
    world = world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    if cuda and world > 1:
        _check_cuda_count(local)
    alone: Any = [device_index(device)] if cuda else 1
    # The environment is named, because Fabric would otherwise guess one from the variables of a cluster.
    environment = TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=local if world > 1 else alone,
        num_nodes=world // local,
        strategy=DDPStrategy() if world > 1 else "auto",
        precision=_PLUGIN_PRECISION[precision],
        plugins=[environment],
    )
    fabric.launch()
    if world > 1:
        # threads of the group that still run when the interpreter ends abort the process now and then
        atexit.register(_leave_group)
    return fabric


@contextmanager
def started_ranks(devices: int, target: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Run ``target(*arguments)`` in ``devices - 1`` new processes while this one is rank 0.

    Nothing is started where ``devices`` is 1 or torchrun has started the processes already. The arguments
    travel to the new processes through memory, so they must be picklable, and a script that calls this needs
    the usual ``if __name__ == "__main__"``.

    Raises:
        RunError: One of the other processes failed.
        ConfigError: torchrun started another number of processes than ``devices``.
    """
    if world_size() > 1 and devices not in (1, world_size()):
        raise ConfigError(
            f"--devices {devices} was asked for, but torchrun started {world_size()} processes.",
            hint="Leave --devices out under torchrun.",
        )
    if devices == 1 or world_size() > 1:
        yield
        return
    import torch
    import torch.multiprocessing as multiprocessing

    variables = _rank_variables(0, devices, _free_port())
    spawn = multiprocessing.get_context("spawn")
    threads = torch.get_num_threads()
    workers = [
        spawn.Process(
            target=_run_rank,
            args=({**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)}, threads, target, arguments),
            daemon=True,
        )
        for rank in range(1, devices)
    ]
    before = {key: os.environ.get(key) for key in variables}
    try:
        for worker in workers:
            worker.start()
        os.environ.update(variables)
        yield
        _leave_group()  # together with the others, as NCCL wants it
        for worker in workers:
            worker.join(_GRACE_S)
    except RuntimeError as error:
        # A collective call breaks when its partner dies: the partner's failure is the cause.
        for worker in workers:
            worker.join(1.0)
        failed = {rank: worker.exitcode for rank, worker in enumerate(workers, start=1) if worker.exitcode}
        if not failed:
            raise
        rank, code = next(iter(failed.items()))
        raise RunError(
            f"training process {rank} of {devices} failed (exit code {code}).",
            hint="Its error is printed above.",
        ) from error
    finally:
        _stop(workers)
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)


def _run_rank(
    variables: dict[str, str], threads: int, target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 decides for all
    import torch

    os.environ.update(variables)
    torch.set_num_threads(threads)
    try:
        target(*arguments)
    except KeyboardInterrupt:
        return
    finally:
        _leave_group()


def _stop(workers: list[Any]) -> None:
    for worker in workers:
        if worker.pid is not None and worker.is_alive():
            worker.terminate()
            worker.join()
    _leave_group()


def _leave_group() -> None:
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _rank_variables(rank: int, devices: int, port: int) -> dict[str, str]:
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _check_cuda_count(wanted: int) -> None:
    import torch

    present = torch.cuda.device_count()
    if present < wanted:
        raise ConfigError(
            f"{wanted} devices were asked for, but torch finds {present}.",
            hint=f"Use --devices {max(present, 1)} or less.",
        )

"""An actor of Flower's simulation that died makes room for a new one.

The simulation and the ServerApp are two threads of one process. Its pool takes an actor back when a message
has failed, also where the message failed because the actor's process is dead: it is the last that came in, so
it is the first to get the next message, which fails at once, and so on. One killed process would thus cost
nearly all messages of all later rounds. Here the pool gets a new actor in its place, and what is lost is the
message that it had.
"""

import sys
from functools import wraps
from typing import Any


def replace_dead_actors() -> None:
    """Let the simulation in this process, if there is one, go on without actors that died.

    A Flower whose pool is made otherwise keeps it as it is.
    """
    ray_actor = sys.modules.get("flwr.simulation.ray_transport.ray_actor")
    pool_type = getattr(ray_actor, "BasicActorPool", None)
    take_back = getattr(pool_type, "add_actor_back_to_pool", None)
    if pool_type is None or take_back is None or hasattr(take_back, "__wrapped__"):
        return
    from ray.exceptions import RayActorError  # loaded with the pool

    @wraps(take_back)
    def take_back_living(pool: Any, future: Any) -> None:
        if isinstance(sys.exception(), RayActorError):
            pool._future_to_actor[future] = pool.create_actor_fn()
        take_back(pool, future)

    pool_type.add_actor_back_to_pool = take_back_living

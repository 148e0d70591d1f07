"""Several streams in one daemon: `[stream.NAME]`, each with a source, a model and a pipeline of its own.

They share the sockets, the epoch, and workers that run the same model. Each runs in a thread of its own, and what
befalls one of them is that one's alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack

from firstspike import endpoints
from firstspike.backends._shared import SharedBackends
from firstspike.config import Loaded
from firstspike.daemon import Rooms, rooms
from firstspike.errors import FirstspikeError
from firstspike.health import Heartbeat
from firstspike.messages import Decision, Provisional
from firstspike.pipeline import Pipeline
from firstspike.publish import Publisher

log = logging.getLogger(__name__)


def run(
    loaded: Loaded, stopping: threading.Event, sink: Callable[[Decision | Provisional], None] = lambda _: None
) -> dict[str, Pipeline]:
    """Run the daemon until all its sources end or `stopping` is set.

    Args:
        loaded: the configuration, with streams.
        stopping: set by a signal.
        sink: also gets each decision, after it was published, from several threads.

    Returns:
        The pipelines that ran, by stream. What ended one of them before its time is its last failure.

    Raises:
        FirstspikeError: a stream could not be made: then none runs.
    """
    publish = loaded.config.publish
    endpoint = endpoints.resolve(publish.endpoint)
    with ExitStack() as stack:

        def send(decision: Decision) -> None:
            publisher.publish_decision(decision)
            sink(decision)

        def send_early(provisional: Provisional) -> None:
            publisher.publish_provisional(provisional)
            sink(provisional)

        shared = SharedBackends()
        stack.callback(shared.close)
        made: dict[str, Rooms] = {}
        for name, own in loaded.streams:
            epoch = next(iter(made.values())).epoch if made else None
            made[name] = stack.enter_context(
                rooms(own, send, stopping.is_set, early=send_early, stream=name, epoch=epoch, shared=shared)
            )
        epoch = next(iter(made.values())).epoch
        publisher = Publisher(endpoint, epoch, high_water_mark=publish.high_water_mark)
        stack.callback(publisher.close)
        log.info("publishing on %s (streams %s)", endpoint, ", ".join(made))
        health = {
            name: stack.enter_context(
                Heartbeat(
                    one.bundle.manifest, one.pipeline, one.runner, publisher, epoch, publish.health_period_s, name
                )
            )
            for name, one in made.items()
        }
        if publish.wait_for_subscriber_s > 0:
            log.info("waiting up to %g s for a subscriber", publish.wait_for_subscriber_s)
            if not publisher.wait_for_subscriber(publish.wait_for_subscriber_s, stopping.is_set):
                log.warning("no subscriber came: starting without one")
        threads = [
            threading.Thread(target=_run_one, args=(name, one, health[name]), name=f"stream {name}")
            for name, one in made.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {name: one.pipeline for name, one in made.items()}


def _run_one(name: str, made: Rooms, health: Heartbeat) -> None:
    try:
        made.await_plans()
        health.enter("running")
        made.pipeline.run()
    except FirstspikeError as error:
        log.error("stream %s has ended: %s", name, error)  # noqa: TRY400 (a taken port is no traceback)
        made.pipeline.failures.append((name, error))
        made.pipeline.broken = f"the stream has ended: {error}"
    except Exception as error:
        log.exception("stream %s has ended by a fault of firstspike", name)
        fault = FirstspikeError(f"a fault of firstspike: {type(error).__name__}: {error}")
        made.pipeline.failures.append((name, fault))
        made.pipeline.broken = f"the stream has ended: {fault}"

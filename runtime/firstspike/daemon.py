"""The composition root: runs the rooms of a configuration, a set for each stream, with all that stands around them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from firstspike import access, endpoints, metrics_server
from firstspike.config import Loaded
from firstspike.gate import make_room
from firstspike.generations import Generations
from firstspike.health import Heartbeat, Vitals
from firstspike.manager import Manager
from firstspike.messages import Decision, Energy, Provisional
from firstspike.metrics import Metrics
from firstspike.pipeline import Pipeline
from firstspike.publish import Publisher
from firstspike.roads import Road
from firstspike.rooms import House, Lane, Outlets, house

log = logging.getLogger(__name__)


def run(
    loaded: Loaded, stopping: threading.Event, sink: Callable[[Decision | Provisional], None] = lambda _: None,
    *, manager: Manager | None = None,
) -> dict[str | None, Pipeline]:  # fmt: skip
    """Run the daemon until all its sources end or `stopping` is set.

    Args:
        loaded: the configuration.
        stopping: set by a signal.
        sink: also gets each decision, after it was published, and the provisional ones; from several threads, where
            there are several streams.
        manager: the daemon as a service: it is told how the daemon is, and may ask for another configuration.

    Returns:
        The pipelines that ran last, for their totals and failures, by stream; None: the only one's. What ended one of
        several before its time is its last failure.

    Raises:
        FirstspikeError: what ended the only stream; or a stream could not be made: then none runs.
    """
    publish, served = loaded.config.publish, loaded.config.metrics
    if served.enabled:
        metrics_server.address_of(served.address, allow_remote=served.allow_remote)
    with loaded.blame("publish", "endpoint"):
        endpoint = endpoints.resolve(publish.endpoint)
    remote = access.remote(publish.tcp, publish.keys, loaded.base)
    manager = manager or Manager()
    with ExitStack() as stack:
        metrics: Metrics | None = None

        def send(decision: Decision) -> None:
            publisher.publish_decision(decision)
            manager.decided(decision)
            if metrics is not None:
                metrics.observe(decision)
            sink(decision)

        def send_energy(message: Energy) -> None:
            publisher.publish_energy(message)
            if metrics is not None:
                metrics.account(message)

        def send_early(provisional: Provisional) -> None:
            publisher.publish_provisional(provisional)
            sink(provisional)

        outlets = Outlets(send, send_early, send_energy, manager.hot_pixels)

        def make(
            loaded: Loaded, lane: Callable[[str | None], Lane], before: House | None
        ) -> AbstractContextManager[House]:
            return house(loaded, outlets, lane, before=before)

        def taken(made: House) -> None:
            for name, beat in beats.items():
                beat.follow(generations.roads[name].rooms)
            manager.runs(made, where)

        def ready(road: Road) -> None:
            if health.runs(road.name):
                manager.ready()

        generations = Generations(make, stopping.is_set, taken, ready)
        stack.callback(generations.close)
        made = generations.start(loaded)
        publisher = Publisher(
            endpoint, made.epoch, high_water_mark=publish.high_water_mark, remote=remote, group=publish.group,
            max_connections=make_room(publish.max_connections),
        )  # fmt: skip
        stack.callback(publisher.close)
        where = f"{endpoint} and {remote.endpoint}" if remote else endpoint
        manager.runs(made, where)
        beats = {
            name: stack.enter_context(Heartbeat(rooms, publisher, generations, name))
            for name, rooms in made.streams.items()
        }
        health = Vitals(beats)
        if served.enabled:
            metrics = Metrics(health.all, publisher.connections, publisher.next_seq)
            address, remote_too = served.address, served.allow_remote
            stack.enter_context(metrics_server.serve(address, metrics.text, health.all, allow_remote=remote_too))
        stack.enter_context(generations.metering())
        stack.enter_context(manager.watching(generations, health))
        if publish.wait_for_subscriber_s > 0:
            log.info("waiting up to %g s for a subscriber", publish.wait_for_subscriber_s)
            if not publisher.wait_for_subscriber(publish.wait_for_subscriber_s, stopping.is_set):
                log.warning("no subscriber came: starting without one")
        generations.run()
        return {name: road.rooms.pipeline for name, road in generations.roads.items()}

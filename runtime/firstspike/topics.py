"""The one table of what is published: name on the wire, schema, and when to expect it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from firstspike.messages import Decision, Energy, Health, Provisional


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic is the first frame of the message; the second is the msgpack map."""

    name: str
    model: type[BaseModel]
    when: str

    @property
    def prefix(self) -> bytes:
        """What to subscribe to: all streams. Ends in a dot so that no topic is another's prefix."""
        return f"{self.name}.".encode()

    def frame(self, stream: str | None) -> bytes:
        """The first frame of a stream's messages: `decision.NAME.`; of a daemon with one stream the prefix itself."""
        return self.prefix if stream is None else f"{self.name}.{stream}.".encode()

    def key(self, stream: str | None) -> str:
        """What its `seq` is counted by."""
        return self.name if stream is None else f"{self.name}.{stream}"


DECISION = Topic("decision", Decision, "for every window that has events")
HEALTH = Topic(
    "health", Health, "every publish.health_period_s, at start, run and stop, and when a back end's state changes"
)
PROVISIONAL = Topic("provisional", Provisional, "before a decision, if publish.provisional is set")
ENERGY = Topic("energy", Energy, "every energy.window_s, for the machine and for each plan")

TOPICS = (DECISION, HEALTH, PROVISIONAL, ENERGY)

SNAPSHOT_REQUEST = b"snapshot"
"""What the socket beside the topics answers with a `messages.Snapshot`."""

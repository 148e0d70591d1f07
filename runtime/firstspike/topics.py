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
        """The first frame, and what to subscribe to. Ends in a dot so that no topic is another's prefix."""
        return f"{self.name}.".encode()


DECISION = Topic("decision", Decision, "for every window that has events")
HEALTH = Topic(
    "health", Health, "every publish.health_period_s, at start, run and stop, and when a back end's state changes"
)
PROVISIONAL = Topic("provisional", Provisional, "before a decision, if publish.provisional is set")
ENERGY = Topic("energy", Energy, "every energy.window_s, for the machine and for each plan")

TOPICS = (DECISION, HEALTH, PROVISIONAL, ENERGY)

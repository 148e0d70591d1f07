"""What this machine has, what it lacks, and the fix: the answers behind `firstspike doctor`.

Nothing here changes anything, and nothing that is asked can hang or end it: every driver looks for its devices in a
process of its own, with a deadline.
"""

from firstspike.doctor.around import Check, installation
from firstspike.doctor.attached import PROBE_S, Accelerator, Section, accelerators, of_use, sections
from firstspike.doctor.facts import Fact, endpoint, library, machine, models
from firstspike.doctor.tried import Plan, plans

SCHEMA = "firstspike.doctor/1"
"""Keys are added within a version; one that goes or changes its meaning makes a new one."""

__all__ = [
    "PROBE_S", "SCHEMA", "Accelerator", "Check", "Fact", "Plan", "Section", "accelerators", "endpoint", "installation",
    "library", "machine", "models", "of_use", "plans", "sections",
]  # fmt: skip

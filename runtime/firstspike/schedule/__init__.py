"""Which window is inferred, where, and for how long. All of it is pure: times come in as ns, decisions go out.

`queue` keeps the windows that wait, `scheduler` chooses the plans for the one whose turn it is, and `deadline` names
the result. `plan` says what a plan is, `settings` what can be set, `choice` what a window's result is to say of its
plans.
"""

from firstspike.schedule.choice import Choice
from firstspike.schedule.deadline import Schedule
from firstspike.schedule.figures import Figures
from firstspike.schedule.plan import Outcome, Plan
from firstspike.schedule.policy import Policy
from firstspike.schedule.queue import Cause, Dropped, Queue, Taken, Waiting
from firstspike.schedule.scheduler import Scheduler
from firstspike.schedule.settings import Settings

__all__ = [
    "Cause", "Choice", "Dropped", "Figures", "Outcome", "Plan", "Policy", "Queue", "Schedule", "Scheduler", "Settings",
    "Taken", "Waiting",
]  # fmt: skip

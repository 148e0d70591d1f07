"""The keys of `[backend.NAME]` for a back end that runs in a worker: those of every worker, and its driver's own."""

from __future__ import annotations

from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from firstspike.worker.shim import Option
from firstspike.worker.supervisor import Limits


class WorkerOptions(BaseModel):
    """What every worker's section may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    command: Annotated[
        list[str],
        Field(description="the worker's Python, or how to reach one (ssh, docker exec -i); default: the environment "
              "that `firstspike workers install` made"),
    ] = []  # fmt: skip
    start_s: Annotated[float, Field(gt=0, le=3600, description="to start and load the network")] = Limits.start_s
    hang_s: Annotated[float, Field(gt=0, le=3600, description="of one answer; then the worker is killed")] = (
        Limits.hang_s
    )
    restarts: Annotated[int, Field(ge=0, le=1000, description="made at once within period_s")] = Limits.restarts
    period_s: Annotated[float, Field(gt=0, le=86400)] = Limits.period_s
    rest_s: Annotated[float, Field(gt=0, le=86400, description="longest rest between restarts")] = Limits.rest_s
    look_s: Annotated[float, Field(gt=0, le=86400, description="between looks for an absent device")] = Limits.look_s

    def limits(self) -> Limits:
        """As the supervisor takes them."""
        return Limits(self.start_s, self.hang_s, self.restarts, self.period_s, self.rest_s, self.look_s)

    def of_driver(self) -> dict[str, Any]:
        """The driver's own keys, as it gets them."""
        return {name: value for name, value in self.model_dump().items() if name not in WorkerOptions.model_fields}


def model_of(module: ModuleType) -> type[WorkerOptions]:
    """The section's model, from a driver's table `OPTIONS`."""
    fields: dict[str, Any] = {name: _field(option) for name, option in module.OPTIONS.items()}
    return create_model("Options", __base__=WorkerOptions, **fields)


def _field(option: Option) -> tuple[Any, Any]:
    kind: Any = Literal[option.choices] if option.choices is not None else type(option.default)
    return kind, Field(default=option.default, description=option.help, ge=option.low, le=option.high)

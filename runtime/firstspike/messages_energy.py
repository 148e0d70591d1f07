"""Parts of messages that are about energy: what a classification costs, and totals. `messages` has the rest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

EnergyMethod = Literal["counter", "integrated", "modelled", "unavailable"]
METHOD = (
    "How it was obtained: counter, a difference of an energy counter; integrated, from samples of power; modelled, by "
    "counting operations, no meter was read; unavailable: see reason."
)
"""Description of every field that holds one."""


class DecisionEnergy(BaseModel):
    """What one classification costs: of the answering plan's latest energy window that had a figure, or modelled."""

    model_config = ConfigDict(frozen=True)

    method: Annotated[EnergyMethod, Field(description=METHOD)]
    scope: Annotated[
        str | None, Field(description="What the meter measures the whole of: board, rail, chip, package or battery.")
    ] = None
    meter: Annotated[str | None, Field(description="Its name, as `firstspike meters` lists it.")] = None
    dynamic_j: Annotated[
        float | None, Field(description="Above idle, J: may be below 0; of a modelled one, this very inference's.")
    ] = None
    u95_j: Annotated[
        float | None, Field(description="95 % of such figures are this near to the truth; null: modelled, not known.")
    ] = None
    total_j: Annotated[
        float | None, Field(description="With the idle power of the whole energy window in it, waiting included.")
    ] = None
    front_j: Annotated[float | None, Field(description="Of a hybrid's dynamic energy, its front's.")] = None
    link_j: Annotated[
        float | None, Field(description="Of the way between its parts; null: nothing meters or models it.")
    ] = None
    back_j: Annotated[float | None, Field(description="Its back's.")] = None
    parts_method: Annotated[
        EnergyMethod | None, Field(description="How front_j and back_j were obtained; null: the model has no parts.")
    ] = None
    energy_seq: Annotated[
        int | None,
        Field(
            description="`seq` of the energy message, of the decision's stream, that the figure is of; null: modelled."
        ),
    ] = None
    reason: Annotated[str | None, Field(description="Why it is not metered, or what is not in it.")] = None


class ClassificationEnergy(BaseModel):
    """An energy window's energy over its inferences."""

    model_config = ConfigDict(frozen=True)

    dynamic_j: Annotated[float | None, Field(description="Above idle; may be below 0.")]
    u95_j: Annotated[float | None, Field(description="Of dynamic_j, 95 %; null: modelled, not known.")]
    total_j: Annotated[float | None, Field(description="Idle power and waiting included.")]
    total_u95_j: float | None = None
    windows: Annotated[
        int,
        Field(description="Energy windows that it is of; more than 1: plans shared them, least squares parted them."),
    ] = 1
    front_j: Annotated[float | None, Field(description="Of dynamic_j, a hybrid's front.")] = None
    back_j: Annotated[float | None, Field(description="Its back.")] = None
    parts_method: EnergyMethod | None = None
    edp_js: Annotated[float | None, Field(description="dynamic_j times the mean latency, J s; null: modelled.")] = None
    total_edp_js: Annotated[float | None, Field(description="total_j times the mean latency, J s.")] = None


class EnergySoFar(BaseModel):
    """Totals since the daemon started."""

    model_config = ConfigDict(frozen=True)

    inferences: int = 0
    metered_s: Annotated[float, Field(description="Energy windows that total_j is of.")] = 0.0
    unmetered_s: Annotated[float, Field(description="Energy windows without a figure.")] = 0.0
    total_j: Annotated[float, Field(description="Of a back end: of the windows in which it alone answered.")] = 0.0
    total_u95_j: float = 0.0
    dynamic_s: Annotated[float, Field(description="Energy windows that dynamic_j is of.")] = 0.0
    dynamic_j: float = 0.0
    u95_j: Annotated[float, Field(description="Of dynamic_j.")] = 0.0
    modelled_j: Annotated[float, Field(description="By the operation model, of the inferences that it knows.")] = 0.0

"""How fast a source's events pass: types of options that several sources share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Speed = Annotated[float, Field(ge=1e-6, le=1e6, allow_inf_nan=False)] | Literal["max"]
"""Times real time, or as fast as possible."""
MaxSilence = Annotated[float, Field(gt=0, le=1e6, description="seconds; longer silences are not sat out")]

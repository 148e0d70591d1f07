"""Parts of messages that are about health: what was counted, and how each back end is. `messages` has the rest."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Counters(BaseModel):
    """Totals since the daemon started."""

    model_config = ConfigDict(frozen=True)

    events: Annotated[int, Field(description="Events read from the source.")] = 0
    backward: int = 0
    late: int = 0
    overflow: int = 0
    resets: int = 0
    out_of_bounds: Annotated[int, Field(description="Of inferred windows; overlapping ones count each.")] = 0
    cropped: Annotated[int, Field(description="Of inferred windows; overlapping ones count each.")] = 0
    windows: Annotated[int, Field(description="Windows that had events: each has one decision.")] = 0
    decisions_ok: int = 0
    decisions_late: int = 0
    decisions_dropped: int = 0
    decisions_degraded: int = 0
    dropped_stale: Annotated[int, Field(description="Dropped: past the deadline before their turn.")] = 0
    dropped_hopeless: Annotated[int, Field(description="Dropped: no plan would have been in time.")] = 0
    dropped_replaced: Annotated[int, Field(description="Dropped: a newer window took the place.")] = 0
    failed_attempts: Annotated[int, Field(description="Times that a plan was asked and gave no answer.")] = 0
    fallbacks: Annotated[int, Field(description="Answers of another plan than the one that should have.")] = 0
    provisional: Annotated[int, Field(description="Provisional decisions published.")] = 0
    provisional_differed: Annotated[int, Field(description="Of those: the window's final label was another.")] = 0
    truncated_bytes: Annotated[int, Field(description="Ends of cut recordings that make up no whole event.")] = 0
    sources_failed: Annotated[
        int, Field(description="Recordings that ended in an error; times that a camera was lost.")
    ] = 0
    lost_packets: Annotated[int, Field(description="Of the network source: known from gaps in their numbers.")] = 0
    lost_events: Annotated[int, Field(description="Those in lost packets.")] = 0
    reordered_packets: Annotated[int, Field(description="Of the lost packets: came after all, and were used.")] = 0
    refused_packets: Annotated[int, Field(description="Malformed, sent twice, or of nobody who may send.")] = 0
    kernel_drops: Annotated[int, Field(description="Packets that found no room in the kernel's buffer.")] = 0
    clips_written: Annotated[int, Field(description="Clips around decisions, [record].")] = 0
    clips_dropped: Annotated[int, Field(description="Clips not written: the disk was too slow.")] = 0
    clips_failed: Annotated[int, Field(description="Clips not written: the disk was full or failed.")] = 0
    camera_overflows: Annotated[int, Field(description="Times that a camera's driver found no room for events.")] = 0
    backlog_cuts: Annotated[int, Field(description="Times that events too old to be of use were thrown away.")] = 0
    backlog_packets: Annotated[int, Field(description="The camera's packets thrown away then.")] = 0
    filtered_out_of_bounds: Annotated[int, Field(description="Outside the sensor, dropped before filtering.")] = 0
    filtered_hot_pixel: Annotated[int, Field(description="Events that [filter] dropped: of hot pixels.")] = 0
    filtered_undistorted: Annotated[int, Field(description="Left the image when the lens was undistorted.")] = 0
    filtered_region: Annotated[int, Field(description="Outside the region of interest.")] = 0
    filtered_refractory: Annotated[int, Field(description="Within their pixel's refractory period.")] = 0
    filtered_background: Annotated[int, Field(description="Background activity: no neighbour's support.")] = 0


class BackendHealth(BaseModel):
    """State of one back end."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: Literal["starting", "ready", "busy", "failed", "backing-off", "absent"]
    reason: Annotated[str | None, Field(description="Why it is not ready.")] = None
    fix: Annotated[str | None, Field(description="What the user can do about it.")] = None
    restarts: Annotated[int, Field(description="How often its worker was started again of late.")] = 0
    pid: Annotated[int | None, Field(description="Its worker's process.")] = None
    windows: Annotated[int, Field(description="Windows that were put to it.")] = 0
    failures: Annotated[int, Field(description="Of those: no answer.")] = 0
    latency_p50_ms: Annotated[float | None, Field(description="From asking to the answer, of the last 256.")] = None
    latency_p99_ms: float | None = None
    energy_j: Annotated[
        float | None, Field(description="Of one inference, above idle: what the policies energy and edp go by.")
    ] = None
    energy_measured: Annotated[bool | None, Field(description="By a meter; false: by the operation model.")] = None

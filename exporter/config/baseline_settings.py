"""What a user may configure of baselines: when one is pinned, and what is worse than it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, model_validator

from exporter.config import text
from exporter.config.fields import Number, Section
from exporter.config.quantities import duration, ratio
from exporter.core.probe import PAGE, SLOW, WARN, BaselineOptions, Signal, Tier
from exporter.core.units import NS

_DAY_NS = 86_400 * NS
_ALSO_OVER = {tier.name: tier.also_over for tier in (PAGE, WARN, SLOW)}

_WorseBy = Annotated[
    float,
    ratio("0.1%", "1000%"),
    Field(description="A sweep is bad if a signal is worse than its baseline by more than this."),
]
_NoiseFactor = Annotated[
    Number,
    Field(
        ge=0,
        le=20,
        description="And by more than ordinary days of the baseline vary: their median plus this many times their "
        "spread.",
    ),
]
_Bad = Annotated[
    StrictInt, Field(ge=1, le=10_000, description="This many bad sweeps of the last `of` are a regression.")
]
_Of = Annotated[
    StrictInt, Field(ge=1, le=10_000, description="For intervals other than `counts_interval` the counts are scaled.")
]
_Clear = Annotated[StrictInt, Field(ge=0, le=10_000, description="The regression ends when at most this many are bad.")]
_Signals = Annotated[
    tuple[
        Literal[
            "latency_p50",
            "latency_p99",
            "throughput",
            "time_to_first_token_p50",
            "time_to_first_token_p99",
            "time_per_output_token_p50",
            "output_tokens_per_second",
        ],
        ...,
    ],
    Field(
        description="The signals compared with the baseline. If a target takes prompts and responses are streamed, "
        "the default also has the median time to the first token and per output token."
    ),
]


class TierSettings(Section):
    """One severity of a regression."""

    worse_by: _WorseBy
    noise_factor: _NoiseFactor
    bad: _Bad
    of: _Of
    clear: _Clear
    signals: _Signals

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.clear < self.bad <= self.of:
            raise ValueError(f"clear, {self.clear}, must be below bad, {self.bad}, and that at most of, {self.of}")
        return self

    def tier(self, name: str) -> Tier:
        """The tier of this name."""
        signals = tuple(Signal(signal) for signal in self.signals)
        # 0.3 + 1 is not 1.3: rounded, so that a default stays what it is.
        worse = round(1 + self.worse_by, 9)
        return Tier(name, worse, self.noise_factor, self.bad, self.of, self.clear, signals, _ALSO_OVER.get(name, ""))


class PageSettings(TierSettings):
    """The most severe tier: found in 70 minutes. A provisional baseline never raises a page."""

    worse_by: _WorseBy = 0.25
    noise_factor: _NoiseFactor = PAGE.noise_factor
    bad: _Bad = PAGE.bad
    of: _Of = PAGE.of
    clear: _Clear = PAGE.clear
    signals: _Signals = ("latency_p50",)


class WarnSettings(TierSettings):
    """Needs attention the same day: found in 100 minutes."""

    worse_by: _WorseBy = 0.10
    noise_factor: _NoiseFactor = WARN.noise_factor
    bad: _Bad = WARN.bad
    of: _Of = WARN.of
    clear: _Clear = WARN.clear
    signals: _Signals = ("latency_p50", "latency_p99")


class SlowSettings(TierSettings):
    """Slow changes: found within a day."""

    worse_by: _WorseBy = 0.06
    noise_factor: _NoiseFactor = SLOW.noise_factor
    bad: _Bad = SLOW.bad
    of: _Of = SLOW.of
    clear: _Clear = SLOW.clear
    signals: _Signals = ("latency_p50",)


class BaselineSettings(Section):
    """Baselines, and when a change counts as a regression."""

    enabled: StrictBool = Field(default=True, description="Whether baselines are kept and verdicts given.")
    pin_after_ns: Annotated[int, duration("1s", "90d")] = Field(
        default=7 * _DAY_NS, description="The baseline is pinned after this time, from the sweeps until then."
    )
    provisional_after_ns: Annotated[int, duration("1s", "90d")] = Field(
        default=_DAY_NS, description="A provisional baseline is pinned after this time, and used until `pin_after`."
    )
    refine_after_ns: Annotated[int, duration("1s", "365d")] = Field(
        default=28 * _DAY_NS,
        description="After this time the baseline is rebuilt once, by hour of the week. It keeps its level.",
    )
    timezone: Annotated[StrictStr, AfterValidator(text.timezone)] | None = Field(
        default=None,
        description="The time zone of the model's users, for the hours of the week, such as Europe/Berlin. That of "
        "`schedule.timezone` by default.",
    )
    replace_worse_by: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.05, description="A longer baseline that is worse by more than this keeps the level of the one before."
    )
    version_worse_by: Annotated[float, ratio("0%", "100%")] = Field(
        default=0.10, description="How much worse than the accepted version a new one may be."
    )
    max_noise: Annotated[float, ratio("0%", "100%")] | None = Field(
        default=None,
        description="Above this noise of the baseline no verdict is given. Unset, there always is one: noise widens "
        "the limits.",
    )
    p99_min_requests: Annotated[StrictInt, Field(ge=1)] = Field(
        default=1000,
        description="p99 is pooled over sweeps until they have this many requests together, 50 sweeps at most.",
    )
    p50_floor_ns: Annotated[int, duration("0s", "1h")] = Field(
        default=200_000, description="A difference in p50 up to this is ignored."
    )
    p99_floor_ns: Annotated[int, duration("0s", "1h")] = Field(default=1_000_000, description="The same for p99.")
    counts_interval_ns: Annotated[int, duration("1s", "366d")] = Field(
        default=300 * NS,
        description="The interval that the counts of the tiers refer to. For other intervals they are scaled, so "
        "that the times stay the same.",
    )
    page: PageSettings = Field(default_factory=PageSettings, description="The most severe tier.")
    warn: WarnSettings = Field(default_factory=WarnSettings, description="The middle one.")
    slow: SlowSettings = Field(default_factory=SlowSettings, description="The least severe one.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.provisional_after_ns > self.pin_after_ns:
            raise ValueError("provisional_after must be at most pin_after")
        return self

    @property
    def options(self) -> BaselineOptions:
        """The same as the probe holds it."""
        return BaselineOptions(
            enabled=self.enabled,
            pin_ns=self.pin_after_ns,
            provisional_ns=self.provisional_after_ns,
            refine_ns=max(self.refine_after_ns, self.pin_after_ns),
            timezone=self.timezone or "",
            replace_ratio=round(1 + self.replace_worse_by, 9),
            version_ratio=round(1 + self.version_worse_by, 9),
            max_noise=self.max_noise,
            p99_min_requests=self.p99_min_requests,
            p50_floor_ns=self.p50_floor_ns,
            p99_floor_ns=self.p99_floor_ns,
            counts_interval_ns=self.counts_interval_ns,
            tiers=(self.page.tier("page"), self.warn.tier("warn"), self.slow.tier("slow")),
        )

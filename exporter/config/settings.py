"""The whole configuration, and its sections that are about the daemon itself.

The single source of the reference page, with the modules of the other sections (`*_settings`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exporter.config import text
from exporter.config.cron import parse_cron
from exporter.config.fields import PathText, Section
from exporter.config.probe_settings import ProbeSettings
from exporter.config.quantities import duration, ratio, size
from exporter.config.target_settings import TargetSettings
from exporter.core.limits import DEFAULT_TOKENS_PER_HOUR
from exporter.core.units import NS

_DAY_NS = 86_400 * NS


class ArchiveSettings(Section):
    """The CSV archive of all results."""

    enabled: StrictBool = Field(default=True, description="Whether there is one.")
    directory: PathText = Field(
        default="", description="The archive's directory; `archive` below `data_directory` by default."
    )
    max_age_ns: Annotated[int, duration("1d", "36500d")] = Field(
        default=90 * _DAY_NS, description="Older files are removed."
    )
    max_size_bytes: Annotated[int, size("1MiB", "1024TiB")] = Field(
        default=2**30, description="Beyond this total the oldest files are removed."
    )


class WebSettings(Section):
    """The web side: metrics, health, status page."""

    listen: Annotated[StrictStr, AfterValidator(text.listen_text)] = Field(
        default="127.0.0.1:9787",
        description="`host:port`, `[::]:port`, or `:port` for all addresses; port 0 takes a free one.",
    )

    api_token_file: PathText = Field(
        default="",
        description="The file with the token that requests for changes must send; read at each request. Without it "
        "`TRITON_CANARY_API_TOKEN` of the environment is used; without both, changes are refused.",
    )
    allowed_hosts: tuple[Annotated[StrictStr, AfterValidator(text.host_name)], ...] = Field(
        default=(),
        description="The host names, without a port, under which clients reach the web side; a request for another "
        "name gets 421. Numeric addresses, `localhost` and names without a dot are always allowed. By "
        "default names are checked only if `listen` is a loopback address, so that no web site can read "
        "it through a browser.",
    )
    grafana_url: Annotated[StrictStr, AfterValidator(text.web_page)] = Field(
        default="",
        description="The address of the Grafana that has the boards of `dashboards/`: a probe's page links to its "
        "board there.",
    )
    probe: StrictBool = Field(
        default=False,
        description="Enables `/probe`, the only page that causes load when it is read.",
    )

    @property
    def host(self) -> str:
        """The address to bind, "" for all."""
        return text.parse_listen(self.listen)[0]

    @property
    def port(self) -> int:
        return text.parse_listen(self.listen)[1]


class LimitsSettings(Section):
    """Limits of the daemon."""

    concurrent_sweeps: Annotated[StrictInt, Field(ge=1, le=64)] = Field(
        default=1, description="Sweeps at one time over all groups, each in a worker process."
    )
    max_series: Annotated[StrictInt, Field(ge=100)] = Field(
        default=20_000,
        description="The most series on the metrics page, at 512 bytes each. Beyond that, the level results of the "
        "probes configured last are left out, then the probes' other series.",
    )
    histogram_buckets_per_decade: Literal[3, 5, 10, 20, 40] = Field(
        default=10,
        description="Buckets of the request duration histogram in each decade from 1 ms to 10 s: 10 make 47 series a "
        "level, and p50 by histogram_quantile is off by 14 % at most where latency is steady, by 6 % where it scatters "
        "by 5 %, by 3 % from 10 % on; 20 make 87, and 7 % at most; 40 make 167, and 4 %; 3 make 19, and 75 %. One "
        "number for all daemons that are added up.",
    )
    sweeps_per_worker: Annotated[StrictInt, Field(ge=1)] = Field(
        default=100, description="A worker is replaced after this many sweeps."
    )
    group_requests_per_hour: Annotated[StrictInt, Field(ge=0)] = Field(
        default=10_000_000, description="The most requests to a group in any hour, by all its probes; 0 is no limit."
    )
    group_tokens_per_hour: Annotated[StrictInt, Field(ge=0)] = Field(
        default=DEFAULT_TOKENS_PER_HOUR,
        description="The tokens that a group may spend in any hour, of prompts and responses together, by all of its "
        "probes of targets that take prompts; 0 is no limit.",
    )
    group_duty_ratio: Annotated[float, ratio("0.1%", "100%")] = Field(
        default=0.5, alias="group_duty", description="The part of any hour in which sweeps of a group may run."
    )
    max_discovered: Annotated[StrictInt, Field(ge=0, le=10_000)] = Field(
        default=100,
        description="The most probes that discovery may add in this daemon (shard); further ones are dropped.",
    )
    shutdown_timeout_ns: Annotated[int, duration("1s", "10m")] = Field(
        default=10 * NS,
        description="How long a shutdown waits for sweeps and the archive. The worker of an interrupted sweep has "
        "up to 16 s more to end its sequences and unregister its shared memory; usually it needs none "
        "of them.",
    )


class MaintenanceSettings(Section):
    """Maintenance windows: when probes pause."""

    cron: Annotated[StrictStr, AfterValidator(lambda given: parse_cron(given).text)] = Field(
        description="When it starts: minute, hour, day of the month, month, day of the week, as in a schedule."
    )
    duration_ns: Annotated[int, duration("1m", "30d")] = Field(description="How long it lasts.")
    timezone: Annotated[StrictStr, AfterValidator(text.timezone)] = Field(
        default="UTC", description="The time zone of `cron`, such as `Europe/Berlin`."
    )
    targets: tuple[StrictStr, ...] = Field(default=(), description="The targets whose probes pause.")
    probes: tuple[StrictStr, ...] = Field(
        default=(), description="The probes that pause, in addition to those of `targets`. Without both, all do."
    )


class LogSettings(Section):
    """The daemon's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    format: Literal["logfmt", "json"] = Field(default="logfmt", description="The format of a log line.")


class StandbySettings(Section):
    """Two daemons for one shard, of which one measures."""

    lease: Literal["none", "file", "kubernetes"] = Field(
        default="none",
        description="Where the lease is kept that the daemon which measures must hold: `file`, in the folder `lease` "
        "below `data_directory`, on storage that both daemons share; `kubernetes`, a Lease object in the namespace of "
        "the pod (needs `triton-canary[kubernetes]`, which the image has). `none`: there is one daemon, and no lease.",
    )
    name: Annotated[StrictStr, AfterValidator(text.object_name)] = Field(
        default="triton-canary",
        description="The name of the lease: a Lease object has it, and its shard. All daemons of one name and shard "
        "are one pair.",
    )
    duration_ns: Annotated[int, duration("10s", "5m")] = Field(
        default=15 * NS,
        description="How long the lease lasts without a renewal: so long after a crash the standby takes over. It "
        "is renewed five times in that time. Choose one that is shorter than the shortest interval of a probe.",
    )


class Settings(BaseSettings):
    """One YAML mapping.

    Made by `exporter.config.load` alone, which checks what holds between keys.
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    data_directory: Annotated[StrictStr, AfterValidator(text.filled_path_text)] = Field(
        default="/var/lib/triton-canary", description="The directory for archive and state."
    )
    targets: tuple[TargetSettings, ...] = Field(default=(), description="The server endpoints.")
    defaults: dict[str, Any] = Field(
        default={},
        description="Values that probes inherit: any key of a probe except `name`, `target`, `model`, `version`.",
        repr=False,
    )
    probes: tuple[ProbeSettings, ...] = Field(default=(), description="What to measure.")
    archive: ArchiveSettings = Field(default_factory=ArchiveSettings, description="The CSV archive.")
    web: WebSettings = Field(default_factory=WebSettings, description="The web side.")
    limits: LimitsSettings = Field(default_factory=LimitsSettings, description="Limits of the daemon.")
    standby: StandbySettings = Field(
        default_factory=StandbySettings, description="Two daemons for one shard, of which one measures."
    )
    maintenance: tuple[MaintenanceSettings, ...] = Field(
        default=(), description="Maintenance windows: when probes pause."
    )
    log: LogSettings = Field(default_factory=LogSettings, description="The log.")

    @property
    def archive_directory(self) -> Path:
        """Where the archive lies."""
        return Path(self.archive.directory) if self.archive.directory else Path(self.data_directory) / "archive"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """File and environment come already joined: an error must name which of the two it is in."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

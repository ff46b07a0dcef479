"""Settings of the commands: the only reader of environment and configuration files.

A field says all there is to say of a setting: its type and bounds, its default and its help. It can
be given as a command line option (``commands/options.py`` makes it of the field), as an environment
variable ``TIDECAST_<FIELD>`` and as a key of a TOML file, the former before the latter. Each
command has a class of what it takes, put together from those here.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tidecast.worker.contract import Gaps
from tidecast.worker.errors import SettingsError
from tidecast.worker.pipeline.epoch import TimeUnit
from tidecast.worker.pipeline.naming import Naming
from tidecast.worker.pipeline.wire import DEFAULT_FLEET
from tidecast.worker.store.login import Login

MOST_PARTITIONS = 4096
RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
StreamName = Annotated[str, Field(min_length=1, max_length=512)]
FieldName = Annotated[str, Field(min_length=1)]


class CommandSettings(BaseSettings):
    """What all settings have in common: where they come from, and that they never change."""

    model_config = SettingsConfigDict(
        env_prefix="TIDECAST_",
        frozen=True,
        extra="forbid",
        defer_build=True,  # each command needs one of these classes
    )
    heading: ClassVar[str]
    """Under which the options of a class's own fields stand in ``--help``."""

    @classmethod
    def load(cls, config: Path | None = None, **options: Any) -> Self:
        """Combine options (None: not given), environment and the TOML file ``config``.

        Raises:
            SettingsError: a value is wrong, a TOML key unknown, or the file unreadable.
        """

        class FromFile(cls):  # type: ignore[valid-type, misc]  # mypy knows no class that is a value
            model_config = SettingsConfigDict(toml_file=config)

        if config is not None and not config.is_file():
            raise SettingsError(
                f"--config {config}: no such file; leave it out or name a TOML file"
            )
        given = {name: value for name, value in options.items() if value is not None}
        try:
            settings: Self = FromFile(**given)
        except ValidationError as error:
            raise SettingsError(_told(error)) from error
        except ValueError as error:
            raise SettingsError(f"settings cannot be read: {error}") from error
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put options before the environment and both before the TOML file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, _WorkersFile(settings_cls)


class _WorkersFile(TomlConfigSettingsSource):
    """A TOML file with a worker's settings, of which a command takes those that it has."""

    def __call__(self) -> dict[str, Any]:
        others = Settings.model_fields.keys() - self.settings_cls.model_fields.keys()
        return {name: value for name, value in super().__call__().items() if name not in others}


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return f"settings: {reason}; see --help"
    name = str(first["loc"][0])
    # A password may stand in the URL, and under a key that is misspelt.
    hidden = name == "redis_url" or first["type"] == "extra_forbidden"
    value = "" if hidden else f" {first['input']!r}"[:80]
    return f"setting {name}{value}: {reason}; see --help"


class ServerSettings(CommandSettings):
    """Which server, and who we are to it; every command that talks to one takes these."""

    heading = "Server and login"

    redis_url: Annotated[
        SecretStr | None,
        Field(
            description="redis://host:6379/0 or redis+sentinel://host/service.  [default: embedded]"
        ),
    ] = None
    redis_user: Annotated[
        str | None, Field(min_length=1, description="ACL user on the server.")
    ] = None
    redis_password_file: Annotated[
        Path | None,
        Field(description="File with the user's password, read at each connection."),
    ] = None
    redis_ca_file: Annotated[
        Path | None,
        Field(description="PEM: who vouches for a rediss:// server.  [default: the system's]"),
    ] = None
    redis_cert_file: Annotated[
        Path | None, Field(description="PEM: our own certificate, for mutual TLS.")
    ] = None
    redis_key_file: Annotated[
        Path | None, Field(description="PEM: its key.  [default: in the certificate's file]")
    ] = None
    redis_sentinel_password_file: Annotated[
        Path | None, Field(description="File with the password that the sentinels ask for.")
    ] = None
    connect_patience: Annotated[
        float, Field(ge=0, le=3600, description="Seconds to wait for the server at start.")
    ] = 10.0

    @property
    def login(self) -> Login:
        """How to enter the server, beside what its URL says."""
        return Login(
            user=self.redis_user,
            password_file=self.redis_password_file,
            ca_file=self.redis_ca_file,
            cert_file=self.redis_cert_file,
            key_file=self.redis_key_file,
            sentinel_password_file=self.redis_sentinel_password_file,
        )

    @property
    def url(self) -> str | None:
        """The server's URL with its password, None for the embedded server."""
        return self.redis_url.get_secret_value() if self.redis_url else None


class OneStreamSettings(ServerSettings):
    """What a command takes that is about one input stream."""

    heading = "What to read and write"

    input: Annotated[StreamName, Field(description="Input stream, one alone.")] = "readings"

    @field_validator("input", mode="before")
    @classmethod
    def _one(cls, given: object) -> object:
        names: list[Any] = given if isinstance(given, list) else [given]
        if not all(isinstance(name, str) for name in names):
            return given
        streams = streams_of(names)
        if len(streams) != 1:
            raise ValueError(f"it stands for {len(streams)} streams; name one of them")
        return streams[0]


class NamingSettings(CommandSettings):
    """What readings call their series and their time, and how they count it; for both sides."""

    heading = "What to read and write"

    series_field: Annotated[
        FieldName,
        Field(
            description="Field that names a reading's series; of several, commas between, the "
            "names are joined: site,sensor makes 'a/7'.",
        ),
    ] = "series"
    time_field: Annotated[
        FieldName,
        Field(
            description="Field that carries a reading's time; of several, commas between, the "
            "first that is there."
        ),
    ] = "ts"
    time_unit: Annotated[
        TimeUnit,
        Field(
            description="What numbers in that field count since 1970: s, ms, us, ns; auto: told by "
            "their size."
        ),
    ] = "auto"

    @model_validator(mode="after")
    def _apart(self) -> Self:
        fields = {"series_field": self.series_field, "time_field": self.time_field}
        for option, said in fields.items():
            if "" in said.split(","):
                raise ValueError(f"{option} {said!r} has an empty name between its commas")
        both = set(self.naming.series) & set(self.naming.time)
        if both:
            raise ValueError(f"series_field and time_field are both {min(both)!r}")
        return self

    @property
    def naming(self) -> Naming:
        """What the parts of a reading are called."""
        series, time = (tuple(said.split(",")) for said in (self.series_field, self.time_field))
        return Naming(series=series, time=time, unit=self.time_unit)


class ShapeSettings(NamingSettings):
    """Where the parts of a reading lie in an entry; see docs/entries.md."""

    heading = "What to read and write"

    payload_field: Annotated[
        tuple[FieldName, ...] | None,
        NoDecode,
        Field(
            description="Fields that may hold a document, tried before payload, message, "
            "__data__, body, data, msg, value and event; commas between; may be repeated."
        ),
    ] = None
    path: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Where in JSON readings lie, dots between keys: payload.after.  "
            "[default: known shapes are found]",
        ),
    ] = None
    value: Annotated[
        tuple[str, ...] | None,
        NoDecode,
        Field(
            description="FEATURE=FIELD: what a feature is called in entries, with dots a path in "
            "JSON: temp=fields.temperature; may be repeated."
        ),
    ] = None
    feature_field: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Field that names the feature, where each entry has one value: metric.",
        ),
    ] = None
    value_field: Annotated[
        FieldName, Field(description="Field with that value, if there is a --feature-field.")
    ] = "value"

    @field_validator("payload_field", mode="before")
    @classmethod
    def _each_field(cls, given: object) -> object:
        return _split(given)

    @field_validator("value", mode="before")
    @classmethod
    def _each_value(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        parts = given.split(",")  # of the environment, which has one text for all
        return tuple(parts) if all("=" in part for part in parts) else (given,)

    @field_validator("value")
    @classmethod
    def _pairs(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        pairs = [said.partition("=") for said in given or ()]
        for said, (feature, _, name) in zip(given or (), pairs, strict=True):
            if not (feature and name):
                raise ValueError(f"{said!r} is not FEATURE=FIELD, such as temp=fields.temperature")
        features = [feature for feature, _, _ in pairs]
        if len(set(features)) < len(features):
            raise ValueError(f"a feature is named twice: {', '.join(features)}")
        return given

    @property
    def naming(self) -> Naming:
        """What the parts of a reading are called, and where they lie."""
        pairs = (said.partition("=") for said in self.value or ())
        return replace(
            super().naming,
            payload=self.payload_field or (),
            path=self.path or "",
            values=tuple((feature, name) for feature, _, name in pairs),
            feature=self.feature_field or "",
            value=self.value_field if self.feature_field else "",
        )


def _split(given: object) -> object:
    """Return names with commas between as several."""
    names = [given] if isinstance(given, str) else given
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return tuple(part for name in names for part in name.split(","))
    return given


class FeedSettings(OneStreamSettings, NamingSettings):
    """What a command takes that writes readings to one input stream."""


class FleetNameSettings(CommandSettings):
    """Whose readings these are."""

    heading = "Fleet, leases, checkpoints"

    fleet: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[^{}:]+$",
            description="Workers that share one set of offsets.",
        ),
    ] = DEFAULT_FLEET


class LettersSettings(OneStreamSettings, FleetNameSettings):
    """What a command takes that is about the dead letters of one input stream."""


class RetrySettings(FeedSettings, FleetNameSettings):
    """What a command takes that puts dead letters back on one input stream."""


class WatchSettings(ServerSettings, FleetNameSettings):
    """What a command takes that listens to a fleet."""


class StreamsSettings(ShapeSettings):
    """What a worker reads, computes and writes."""

    heading = "What to read and write"

    models: Annotated[Path, Field(description="Model file, or directory of them.")] = Path("models")
    input: Annotated[
        tuple[StreamName, ...],
        NoDecode,
        Field(
            min_length=1,
            description="Input streams, commas between; may be repeated; 'a:{0..3}' is four.",
        ),
    ] = ("readings",)
    start: Annotated[
        Literal["earliest", "latest"],
        Field(
            description="Where a stream never read before starts.",
            json_schema_extra={"option": "--from"},
        ),
    ] = "latest"
    burst: Annotated[bool, Field(description="Drain what is there and exit.")] = False
    read_size: Annotated[int, Field(ge=1, le=100_000, description="Entries per read, at most.")] = (
        1000
    )
    threads: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description="ONNX Runtime threads per model, 1 being best for small ones; "
            "0: as many as the container's CPU quota allows.",
        ),
    ] = 1
    max_series: Annotated[
        int,
        Field(
            ge=1,
            description="Series per stream, at most; the one longest without a reading is evicted.",
        ),
    ] = 1_000_000
    max_memory: Annotated[
        ByteSize | None,
        Field(
            gt=0,
            description="Memory that the worker may take, about: 800MB, 2GiB; reads, replays and "
            "series stay within.  [default: 0.9 of the container's limit, if it has one]",
        ),
    ] = None
    trim: Annotated[
        bool, Field(description="Remove readings that every fleet has checkpointed.")
    ] = False
    keep_forecasts: Annotated[
        ByteSize,
        Field(description="Bytes of forecasts kept on INPUT:forecasts, about: 256MB, 2GB; 0: all."),
    ] = ByteSize(256_000_000)
    longest_forecasts: Annotated[
        int | None,
        Field(
            ge=0,
            description="Forecasts kept there, about, instead of bytes; 0: all.  "
            "[default: what --keep-forecasts holds]",
        ),
    ] = None
    longest_dead: Annotated[
        int, Field(ge=0, description="Dead letters kept on INPUT:dead, about; 0: all.")
    ] = 10_000

    @field_validator("input", mode="before")
    @classmethod
    def _all(cls, given: object) -> object:
        names = [given] if isinstance(given, str) else given
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            return streams_of(names)
        return given

    @field_validator("input")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"a stream is named twice: {', '.join(names)}")
        return names


class TimeSettings(CommandSettings):
    """What becomes of readings that do not come step by step; see docs/time.md."""

    heading = "Time"

    gaps: Annotated[
        Gaps | None,
        Field(
            description="How empty slots are filled when the next reading comes: linear, hold, "
            "seasonal or none.  [default: as the model file says]"
        ),
    ] = None
    max_gap: Annotated[
        int | None,
        Field(
            ge=0,
            description="Empty slots in a row that are filled, at most; behind more of them a "
            "window starts anew.  [default: as the model file says]",
        ),
    ] = None
    max_skew: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds that a reading's time may be ahead of both its entry's and the "
            "latest reading's of its stream; others are dead letters; inf: any.",
        ),
    ] = 86_400.0
    twice: Annotated[
        Literal["last", "first"],
        Field(description="Which of several readings of one slot counts, if values differ."),
    ] = "last"
    late: Annotated[
        Literal["drop", "dead"],
        Field(
            description="A reading whose slot no window holds any more: count it alone (drop), or "
            "make it a dead letter (dead)."
        ),
    ] = "drop"
    lateness: Annotated[
        float,
        Field(
            ge=0,
            le=1e10,
            description="Seconds of the stream's time that a slot stays open behind its end, where "
            "features are joined or readings aggregated.",
        ),
    ] = 0.0
    series_ttl: Annotated[
        float | None,
        Field(
            gt=0,
            le=1e10,
            description="Seconds of the stream's time after which a series without readings is "
            "forgotten.  [default: none is]",
        ),
    ] = None
    cold_start: Annotated[
        Literal["partial", "naive", "none"],
        Field(
            description="A new series: forecast from as many readings on as the model file says "
            "(partial), until then with the newest value or that of one season before (naive), or "
            "wait for a full window (none)."
        ),
    ] = "partial"


class CheckSettings(OneStreamSettings, ShapeSettings, TimeSettings, FleetNameSettings):
    """What a command takes that looks at one input stream as a worker would."""


class FleetSettings(FleetNameSettings):
    """How workers share streams, and how often each saves its windows."""

    heading = "Fleet, leases, checkpoints"

    lease: Annotated[
        float,
        Field(ge=0.2, le=3600, description="Seconds until a dead worker's lease runs out."),
    ] = 10.0
    checkpoint_every: Annotated[
        float, Field(gt=0, description="Seconds between checkpoints, at least.")
    ] = 5.0


class ReportSettings(CommandSettings):
    """How a worker tells how it fares."""

    heading = "HTTP and logs"

    http_port: Annotated[
        int | None,
        Field(
            ge=0,
            le=65535,
            description="Port for metrics and probes; 0: any free one.  [default: none]",
        ),
    ] = None
    http_host: Annotated[str, Field(min_length=1, description="Address that port listens on.")] = (
        "127.0.0.1"
    )
    log_format: Annotated[Literal["text", "json"], Field(description="Log lines on stderr.")] = (
        "text"
    )
    summary_every: Annotated[
        float, Field(gt=0, description="Seconds between summaries in the log.")
    ] = 10.0


class Settings(StreamsSettings, TimeSettings, ServerSettings, FleetSettings, ReportSettings):
    """What a worker is told.

    ``start`` (option ``--from``) counts only for a stream that the fleet has never read.
    ``threads`` 0 stands for as many as the CPU quota allows.
    """


def streams_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the streams that names stand for; commas stand between several, ranges for several.

    Raises:
        ValueError: a range holds no number, or more than ``MOST_PARTITIONS``.
    """
    parts = (part.strip() for name in names for part in name.split(","))
    return tuple(stream for part in parts for stream in expanded(part))


def expanded(name: str) -> list[str]:
    """Return the streams that a name such as ``readings:{0..3}`` stands for, here four.

    Raises:
        ValueError: the range holds no number, or more than ``MOST_PARTITIONS``.
    """
    found = RANGE.search(name)
    if found is None:
        return [name]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < MOST_PARTITIONS:
        raise ValueError(
            f"{found[0]} in {name!r} must go from a smaller to a larger number, "
            f"{MOST_PARTITIONS} at most"
        )
    before, after = name[: found.start()], name[found.end() :]
    return [f"{before}{{{number}}}{after}" for number in range(first, last + 1)]

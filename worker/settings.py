"""Settings of a worker: the only reader of environment and configuration files.

Each field can be given as a command line option, as an environment variable ``TIDECAST_<FIELD>``
and as a key of a TOML file, the former before the latter.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tidecast.worker.errors import SettingsError
from tidecast.worker.store.login import Login

MOST_PARTITIONS = 4096
RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
StreamName = Annotated[str, Field(min_length=1, max_length=512)]


class Settings(BaseSettings):
    """What a worker is told; frozen.

    ``start`` (option ``--from``) counts only for a stream that the fleet has never read.
    ``threads`` 0 stands for as many as the CPU quota allows.
    """

    model_config = SettingsConfigDict(env_prefix="TIDECAST_", frozen=True, extra="forbid")

    redis_url: SecretStr | None = None
    redis_user: Annotated[str, Field(min_length=1)] | None = None
    redis_password_file: Path | None = None
    redis_ca_file: Path | None = None
    redis_cert_file: Path | None = None
    redis_key_file: Path | None = None
    redis_sentinel_password_file: Path | None = None
    models: Path = Path("models")
    input: Annotated[tuple[StreamName, ...], NoDecode, Field(min_length=1)] = ("readings",)
    fleet: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^{}:]+$")] = "default"
    start: Literal["earliest", "latest"] = "latest"
    burst: bool = False
    read_size: Annotated[int, Field(ge=1, le=100_000)] = 1000
    threads: Annotated[int, Field(ge=0, le=256)] = 1
    series_field: Annotated[str, Field(min_length=1)] = "series"
    time_field: Annotated[str, Field(min_length=1)] = "ts"
    lease: Annotated[float, Field(ge=0.2, le=3600)] = 10.0
    checkpoint_every: Annotated[float, Field(gt=0)] = 5.0
    max_series: Annotated[int, Field(ge=1)] = 1_000_000
    trim: bool = False
    longest_forecasts: Annotated[int, Field(ge=0)] = 1_000_000
    longest_dead: Annotated[int, Field(ge=0)] = 10_000
    connect_patience: Annotated[float, Field(ge=0, le=3600)] = 10.0
    summary_every: Annotated[float, Field(gt=0)] = 10.0
    http_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    log_format: Literal["text", "json"] = "text"

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
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @field_validator("input", mode="before")
    @classmethod
    def _with_commas(cls, names: object) -> object:
        if isinstance(names, str):
            names = tuple(name.strip() for name in names.split(","))
        if not isinstance(names, list | tuple):
            return names
        return tuple(name for given in names for name in expanded(given))

    @field_validator("input")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError(f"a stream is named twice: {', '.join(names)}")
        return names

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


def expanded(name: object) -> list[object]:
    """Return the streams that a name such as ``readings:{0..3}`` stands for, here four.

    Raises:
        ValueError: the range holds no number, or more than ``MOST_PARTITIONS``.
    """
    found = RANGE.search(name) if isinstance(name, str) else None
    if not isinstance(name, str) or found is None:
        return [name]
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < MOST_PARTITIONS:
        raise ValueError(
            f"{found[0]} in {name!r} must go from a smaller to a larger number, "
            f"{MOST_PARTITIONS} at most"
        )
    before, after = name[: found.start()], name[found.end() :]
    return [f"{before}{{{number}}}{after}" for number in range(first, last + 1)]


def single(name: str) -> str:
    """Return the name of one stream.

    Raises:
        SettingsError: it stands for several.
    """
    if RANGE.search(name):
        raise SettingsError(f"--input {name!r} stands for several streams; name one of them")
    return name


def load_settings(config: Path | None = None, **options: Any) -> Settings:
    """Combine options (None: not given), environment and the TOML file ``config``.

    Raises:
        SettingsError: a value is wrong, a TOML key unknown, or the file unreadable.
    """

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    if config is not None and not config.is_file():
        raise SettingsError(f"--config {config}: no such file; leave it out or name a TOML file")
    try:
        return FromFile(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        # A password may stand in the URL, and under a key that is misspelt.
        hidden = name == "redis_url" or first["type"] == "extra_forbidden"
        value = "" if hidden else f" {first['input']!r}"[:80]
        raise SettingsError(
            f"setting {name}{value}: {first['msg']}; see 'tidecast-worker run --help'"
        ) from error
    except ValueError as error:
        raise SettingsError(f"settings cannot be read: {error}") from error

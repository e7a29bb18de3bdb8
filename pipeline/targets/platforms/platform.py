"""What differs between the platforms that run compiled pipelines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from adclick.pipeline.config.platform import PlatformSettings, StepSettings
from adclick.pipeline.config.settings import Config
from adclick.pipeline.config.target import Target
from adclick.pipeline.targets.compiled_job import CompiledJob
from adclick.pipeline.targets.schedule import Schedule, check_cron
from adclick.schema.errors import ConfigError

if TYPE_CHECKING:
    from adclick.pipeline.targets.window import Window


class Platform(ABC):
    """A platform that takes pipeline specs of version 2.1; its own libraries are imported when it is called."""

    #: Its name on the command line.
    name: ClassVar[Target]
    #: How the name of a compiled file may end, the usual ending first.
    file_endings: ClassVar[tuple[str, ...]]
    #: Whether what artifacts hold must lie elsewhere than where the platform sees them: it would copy it into each pod.
    contents_apart: ClassVar[bool]

    def check_addresses(self, config: Config) -> None:  # noqa: B027
        """Refuses an address in a bucket that the platform cannot keep; raises `ConfigError`."""

    def check_schedule(self, schedule: Schedule) -> None:
        """Refuses what is no cron schedule, and a time zone that the platform does not know; raises `ConfigError`."""
        check_cron(schedule)
        try:
            ZoneInfo(schedule.time_zone or "UTC")
        except (KeyError, ValueError, OSError):
            raise ConfigError(
                f"--time-zone {schedule.time_zone!r}: no such time zone", "Give an IANA name, such as Europe/Berlin."
            ) from None

    def check_step(self, kind: str, step: StepSettings) -> None:  # noqa: B027
        """Refuses what the platform cannot give a step; raises `ConfigError`."""

    @abstractmethod
    def gpu_type(self, kind: str, step: StepSettings) -> str:
        """The name of a step's accelerators; raises `ConfigError` where it is missing or wrong."""

    def adapt(self, spec: dict[str, Any]) -> None:  # noqa: B027
        """Changes a pipeline spec to what the platform reads of it."""

    def beside(self, executors: Mapping[str, StepSettings]) -> dict[str, Any]:
        """What goes beside a pipeline spec; empty where there is nothing to say.

        Args:
            executors: By executor of the spec, what its steps are given.
        """
        return {}

    def check_run(self, compiled: CompiledJob, config: Config, window: Window) -> None:  # noqa: B027
        """Refuses a run that the platform could not hold; raises `ConfigError`."""

    def inside(self, settings: PlatformSettings) -> PlatformSettings:
        """The settings by which one of the platform's own steps submits to it."""
        return settings

    @abstractmethod
    def file_text(self, compiled: CompiledJob) -> str:
        """A compiled pipeline as the file that the platform takes."""

    @abstractmethod
    def submit(self, compiled: CompiledJob, settings: PlatformSettings, display_name: str) -> str:
        """Starts a run and returns its name at the platform.

        Raises:
            ConfigError: A setting is missing.
            SubmissionRefused: The platform refused it or could not be reached.
        """

    @abstractmethod
    def create_schedule(self, compiled: CompiledJob, settings: PlatformSettings, schedule: Schedule) -> str:
        """Schedules a pipeline and returns the schedule's name at the platform.

        Raises:
            ConfigError: A setting is missing, or there is a schedule of that name.
            SubmissionRefused: The platform refused it or could not be reached.
        """

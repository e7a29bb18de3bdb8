"""The config's `platform` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

#: In `platform.steps`, what holds for every step.
DEFAULT_STEP = "default"

_Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Object = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]
_Folder = Annotated[str, StringConstraints(pattern=r"^/[^:]*[^:/]$")]
_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LabelKey = Annotated[str, StringConstraints(pattern=rf"^([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL}$")]
_LabelValue = Annotated[str, StringConstraints(pattern=rf"^({_LABEL})?$")]


class StepSecret(BaseModel):
    """A secret of Kubernetes, as variables or as files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Object = Field(description="The secret's name, in the namespace of the run.")
    environment: dict[_Variable, str] = Field({}, description="By variable, the key of the secret that it holds.")
    mount: _Folder | None = Field(None, description="The folder in which each key is a file.")

    @model_validator(mode="after")
    def _used(self) -> StepSecret:
        if not self.environment and self.mount is None:
            raise ValueError(f"secret {self.name}: give environment, mount or both")
        return self


class StepVolume(BaseModel):
    """A volume of Kubernetes that is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    claim: _Object | None = Field(None, description="The name of a PersistentVolumeClaim.")
    config_map: _Object | None = Field(None, description="Or that of a ConfigMap, each key of which is a file.")
    mount: _Folder = Field(description="The folder at which the step finds it.")

    @model_validator(mode="after")
    def _one_kind(self) -> StepVolume:
        if (self.claim is None) == (self.config_map is None):
            raise ValueError(f"volume at {self.mount}: give either claim or config_map")
        return self


class StepToleration(BaseModel):
    """A taint of nodes that a step's pod tolerates, as Kubernetes writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field("", description="The taint's key; every taint if empty, with operator Exists.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="Equal compares the value, Exists does not.")
    value: str = Field("", description="The taint's value.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("", description="Every effect if empty.")

    @model_validator(mode="after")
    def _consistent(self) -> StepToleration:
        if self.operator == "Exists" and self.value:
            raise ValueError("a toleration with operator Exists has no value")
        if self.operator == "Equal" and not self.key:
            raise ValueError("a toleration without key must have operator Exists")
        return self


class StepSettings(BaseModel):
    """What one kind of step asks of the platform, and what it is given there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: float | None = Field(None, gt=0, description="CPU cores.")
    memory_gb: float | None = Field(None, gt=0, description="Memory in GB.")
    gpus: int = Field(0, ge=0, description="How many accelerators.")
    gpu_type: str = Field(
        "",
        description="Vertex AI's accelerator type, such as NVIDIA_TESLA_T4; on Kubeflow the resource's name, "
        "nvidia.com/gpu if empty.",
    )
    environment: dict[_Variable, str] = Field({}, description="Environment variables; no place for secrets.")
    secrets: tuple[StepSecret, ...] = Field(
        (),
        description="Kubeflow only. Kubernetes' secrets: each a `name`, and `environment` (variable: key) or `mount`.",
    )
    volumes: tuple[StepVolume, ...] = Field(
        (), description="Kubeflow only. Each a `mount`, and `claim` (of a PersistentVolume) or `config_map`."
    )
    labels: dict[_LabelKey, _LabelValue] = Field(
        {},
        description='Kubeflow only. Labels of the pod; `access-ml-pipeline: "true"` is what Kubeflow\'s PodDefault '
        "mounts the API's token for.",
    )
    node_selector: dict[_LabelKey, _LabelValue] = Field(
        {}, description="Kubeflow only. Labels that the node must have."
    )
    tolerations: tuple[StepToleration, ...] = Field(
        (), description="Kubeflow only. Each a `key`, `operator` (Equal or Exists), `value` and `effect`."
    )

    @model_validator(mode="after")
    def _distinct(self) -> StepSettings:
        # Kubeflow's driver calls a pod's volumes by what they hold.
        volumes = [secret.name for secret in self.secrets if secret.mount] + [
            volume.claim or volume.config_map for volume in self.volumes
        ]
        mounts = [secret.mount for secret in self.secrets if secret.mount] + [volume.mount for volume in self.volumes]
        variables = [*self.environment, *(name for secret in self.secrets for name in secret.environment)]
        for what, names in (("volume", volumes), ("mount", mounts), ("variable", variables)):
            twice = sorted({name for name in names if name is not None and names.count(name) > 1})
            if twice:
                raise ValueError(f"the {what} {twice[0]} is given twice")
        for name in volumes:
            if name is not None and ("." in name or len(name) > 63):
                raise ValueError(f"{name} cannot be mounted: Kubeflow names the volume so, without dots and below 64")
        return self

    def over(self, every: StepSettings) -> StepSettings:
        """These settings where they say something, and those of every step.

        What goes by names adds up, and the own wins where a name is in both; lists add up.
        """
        resources = {name: getattr(self, name) for name in _RESOURCES if name in self.model_fields_set}
        added = {name: {**getattr(every, name), **getattr(self, name)} for name in _MAPPINGS}
        both = {
            name: (*getattr(every, name), *(each for each in getattr(self, name) if each not in getattr(every, name)))
            for name in _LISTS
        }
        given = {name: getattr(every, name) for name in _RESOURCES} | resources
        return StepSettings(**given, **added, **both)


_RESOURCES = ("cpu", "memory_gb", "gpus", "gpu_type")
_MAPPINGS = ("environment", "labels", "node_selector")
_LISTS = ("secrets", "volumes", "tolerations")


class VertexSettings(BaseModel):
    """Where and as whom the pipeline runs on Vertex AI Pipelines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = Field("", description="The Google Cloud project.")
    region: str = Field("", description="The region, such as europe-west4.")
    service_account: str = Field("", description="The service account that the steps run as; the project's default.")
    network: str = Field("", description="The network to peer with: projects/NUMBER/global/networks/NAME.")
    labels: dict[str, str] = Field({}, description="Labels of the pipeline job, for costs and search.")
    kms_key: str = Field(
        "",
        pattern=r"^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)?$",
        description="The Cloud KMS key that encrypts what the job stores: "
        "projects/P/locations/REGION/keyRings/R/cryptoKeys/K.",
    )
    endpoint: str = Field("", description="The API's address; REGION-aiplatform.googleapis.com if empty.")


class KubeflowSettings(BaseModel):
    """Where and as whom the pipeline runs on Kubeflow Pipelines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        "",
        description="The API's address for who submits and schedules, such as https://kubeflow.example.com/pipeline or "
        "a port-forward's.",
    )
    cluster_host: str = Field(
        "http://ml-pipeline.kubeflow.svc.cluster.local:8888",
        description="The API's address from inside the cluster, where the scheduled step submits the month's run.",
    )
    namespace: str = Field("", description="The namespace that runs belong to, where Kubeflow has many users.")
    experiment: str = Field("adclick", description="The experiment that runs are listed under; made if missing.")
    service_account: str = Field("", description="The Kubernetes service account that the steps run as.")
    max_workflow_bytes: int = Field(
        1_048_576,
        ge=1,
        description="How long a run's Argo workflow may become: MAX_WORKFLOW_SIZE of the cluster's "
        "workflow-controller. A window that needs more is refused.",
    )


class PlatformSettings(BaseModel):
    """How the pipeline runs beyond one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(
        "", description="The container image that holds adclick, best pinned by digest; every step runs in it."
    )
    caching: bool = Field(True, description="Whether the platform reuses steps whose inputs are unchanged.")
    steps: dict[str, StepSettings] = Field(
        {},
        description="What each step asks for and is given, by its name without a month, such as ClickTrainer or "
        "AdExampleGen; `default` holds for every step, its numbers where the step gives none. See below.",
    )
    beam_arguments: list[str] = Field(
        [],
        description="Apache Beam's arguments for the steps that read data, such as --runner=DataflowRunner, --project, "
        "--region, --temp_location, --sdk_container_image; empty: inside the step's container.",
    )
    vertex: VertexSettings = Field(default_factory=VertexSettings)
    kubeflow: KubeflowSettings = Field(default_factory=KubeflowSettings)

    def of_step(self, kind: str) -> StepSettings:
        """What holds for a kind of step; raises `ValueError` where it and `default` do not go together."""
        own, every = self.steps.get(kind, StepSettings()), self.steps.get(DEFAULT_STEP, StepSettings())
        return own.over(every)

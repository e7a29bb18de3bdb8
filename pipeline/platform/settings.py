"""The config's `platform` section."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Target = Literal["vertex", "kubeflow"]
TARGETS: tuple[Target, ...] = ("vertex", "kubeflow")


class StepResources(BaseModel):
    """What one kind of step asks of the platform."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu: float | None = Field(None, gt=0, description="CPU cores.")
    memory_gb: float | None = Field(None, gt=0, description="Memory in GB.")
    gpus: int = Field(0, ge=0, description="How many accelerators.")
    gpu_type: str = Field(
        "",
        description="Vertex AI's accelerator type, such as NVIDIA_TESLA_T4; on Kubeflow the resource's name, "
        "nvidia.com/gpu if empty.",
    )


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

    host: str = Field("", description="The API's address, such as https://kubeflow.example.com/pipeline.")
    namespace: str = Field("", description="The namespace that runs belong to, where Kubeflow has many users.")
    experiment: str = Field("adclick", description="The experiment that runs are listed under; made if missing.")
    service_account: str = Field("", description="The Kubernetes service account that the steps run as.")


class PlatformSettings(BaseModel):
    """How the pipeline runs beyond one machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(
        "", description="The container image that holds adclick, best pinned by digest; every step runs in it."
    )
    caching: bool = Field(True, description="Whether the platform reuses steps whose inputs are unchanged.")
    steps: dict[str, StepResources] = Field(
        {},
        description="What each step asks for, by its name without a month, such as ClickTrainer or AdExampleGen; "
        "`default` holds for steps not named. See below.",
    )
    beam_arguments: list[str] = Field(
        [],
        description="Apache Beam's arguments for the steps that read data, such as --runner=DataflowRunner, --project, "
        "--region, --temp_location, --sdk_container_image; empty: inside the step's container.",
    )
    vertex: VertexSettings = Field(default_factory=VertexSettings)
    kubeflow: KubeflowSettings = Field(default_factory=KubeflowSettings)

"""What KEDA and the Prometheus operator take of us: their published fields, those that we use.

kubernetes-validate knows the resources of Kubernetes alone, and no package for all of our Pythons
brings these. A field that is new here is added after a look at the resource's definition: KEDA's
``keda.sh_scaledobjects.yaml`` of 2.17, the operator's ``monitoring.coreos.com_podmonitors.yaml``.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Duration = Annotated[str, Field(pattern=r"^\d+(ms|s|m|h)$")]
Count = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """Takes ``apiVersion`` for ``api_version``, and neither other fields nor other types."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Strict):
    name: str
    namespace: str
    labels: dict[str, str]


class Selector(Strict):
    match_labels: dict[str, str]


class Relabeling(Strict):
    source_labels: list[str]
    target_label: str


class Endpoint(Strict):
    port: str
    path: str
    interval: Duration
    scrape_timeout: Duration
    relabelings: list[Relabeling]


class PodMonitorSpec(Strict):
    selector: Selector
    pod_metrics_endpoints: list[Endpoint]


class PodMonitor(Strict):
    api_version: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: PodMonitorSpec


class Target(Strict):
    name: str


class Fallback(Strict):
    failure_threshold: Count
    replicas: Count
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher"]


class Prometheus(Strict):
    """What the trigger of this type reads of its metadata, all of them texts."""

    server_address: Annotated[str, Field(pattern="^https?://")]
    query: str
    threshold: Annotated[str, Field(pattern=r"^\d+(\.\d+)?$")]
    ignore_null_values: Literal["true", "false"]


class Trigger(Strict):
    type: Literal["prometheus"]
    metric_type: Literal["AverageValue", "Value"]
    metadata: Prometheus


class Policy(Strict):
    type: Literal["Pods", "Percent"]
    value: Annotated[int, Field(ge=1)]
    period_seconds: Annotated[int, Field(ge=1, le=1800)]


class Rules(Strict):
    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)]
    policies: list[Policy]


class Behavior(Strict):
    scale_up: Rules
    scale_down: Rules


class Autoscaler(Strict):
    behavior: Behavior


class Advanced(Strict):
    horizontal_pod_autoscaler_config: Autoscaler


class ScaledObjectSpec(Strict):
    scale_target_ref: Target
    min_replica_count: Count
    max_replica_count: Count
    fallback: Fallback
    triggers: list[Trigger]
    advanced: Advanced


class ScaledObject(Strict):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


MODELS: dict[str, type[Strict]] = {"PodMonitor": PodMonitor, "ScaledObject": ScaledObject}

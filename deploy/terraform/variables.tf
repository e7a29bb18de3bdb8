variable "project" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "The region of the bucket, the registry and the pipeline runs, such as europe-west4."
  type        = string
}

variable "bucket" {
  description = "The bucket's name, unique in the world: drops, artifacts and pushed models."
  type        = string
}

variable "artifact_days" {
  description = "After how many days a run's artifacts are removed; a window of months must still find theirs."
  type        = number
  default     = 400

  validation {
    condition     = var.artifact_days >= 100
    error_message = "A window of three months reuses artifacts of some hundred days."
  }
}

variable "namespace" {
  description = "The Kubernetes namespace of deploy/kubernetes."
  type        = string
  default     = "adclick"
}

variable "cluster_has_workload_identity" {
  description = "Whether the project has a GKE cluster with Workload Identity, whose pool the bindings name."
  type        = bool
  default     = true
}

variable "dataflow" {
  description = "Whether Beam's work goes to Dataflow, which the pipeline's service account then runs on."
  type        = bool
  default     = false
}

variable "github_repository" {
  description = "OWNER/NAME of the repository whose GitHub Actions build and submit; none if empty."
  type        = string
  default     = ""

  validation {
    condition     = var.github_repository == "" || can(regex("^[^/]+/[^/]+$", var.github_repository))
    error_message = "Give OWNER/NAME."
  }
}

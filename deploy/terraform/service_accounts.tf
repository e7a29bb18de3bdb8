# Three accounts, each with what it needs and no more. No keys are made: pods and CI get tokens by workload identity.

resource "google_service_account" "pipeline" {
  account_id   = "adclick-pipeline"
  display_name = "Runs the months"
}

resource "google_service_account" "serving" {
  account_id   = "adclick-serving"
  display_name = "Reads the pushed models"
}

resource "google_service_account" "ci" {
  account_id   = "adclick-ci"
  display_name = "Builds images and submits runs"
}

# The pipeline reads drops, and writes artifacts and pushed models.

resource "google_storage_bucket_iam_member" "pipeline_reads" {
  bucket = google_storage_bucket.adclick.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.pipeline.member
}

resource "google_storage_bucket_iam_member" "pipeline_writes" {
  bucket = google_storage_bucket.adclick.name
  role   = "roles/storage.objectUser"
  member = google_service_account.pipeline.member

  condition {
    title      = "artifacts, pushed and held models"
    expression = <<-EOT
      resource.name.startsWith("projects/_/buckets/${google_storage_bucket.adclick.name}/objects/artifacts/") ||
      resource.name.startsWith("projects/_/buckets/${google_storage_bucket.adclick.name}/objects/serving_model/") ||
      resource.name.startsWith("projects/_/buckets/${google_storage_bucket.adclick.name}/objects/held_model/")
    EOT
  }
}

# Clients look whether the bucket is there.
resource "google_storage_bucket_iam_member" "sees_bucket" {
  for_each = {
    pipeline = google_service_account.pipeline.member
    serving  = google_service_account.serving.member
  }

  bucket = google_storage_bucket.adclick.name
  role   = "roles/storage.bucketViewer"
  member = each.value
}

resource "google_artifact_registry_repository_iam_member" "pipeline_pulls" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.pipeline.member
}

resource "google_project_iam_member" "pipeline" {
  for_each = toset(concat(
    ["roles/aiplatform.user", "roles/logging.logWriter"],
    var.dataflow ? ["roles/dataflow.developer", "roles/dataflow.worker"] : [],
  ))

  project = var.project
  role    = each.value
  member  = google_service_account.pipeline.member
}

# Vertex AI runs a job as this account only for who may act as it: itself, for the month, and CI.
resource "google_service_account_iam_member" "acts_as_pipeline" {
  for_each = {
    pipeline = google_service_account.pipeline.member
    ci       = google_service_account.ci.member
  }

  service_account_id = google_service_account.pipeline.name
  role               = "roles/iam.serviceAccountUser"
  member             = each.value
}

# The servers read pushed models, not drops.

resource "google_storage_bucket_iam_member" "serving_reads" {
  bucket = google_storage_bucket.adclick.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.serving.member

  condition {
    title = "pushed models"
    # Listing is asked of the bucket itself; its answer holds names, not contents.
    expression = <<-EOT
      resource.type == "storage.googleapis.com/Bucket" ||
      resource.name.startsWith("projects/_/buckets/${google_storage_bucket.adclick.name}/objects/serving_model/")
    EOT
  }
}

# CI pushes images, and submits runs over the drops that there are.

resource "google_artifact_registry_repository_iam_member" "ci_pushes" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.ci.member
}

resource "google_storage_bucket_iam_member" "ci_reads" {
  bucket = google_storage_bucket.adclick.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.ci.member
}

resource "google_storage_bucket_iam_member" "ci_writes_submissions" {
  bucket = google_storage_bucket.adclick.name
  role   = "roles/storage.objectUser"
  member = google_service_account.ci.member

  condition {
    title      = "what a submission writes"
    expression = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.adclick.name}/objects/artifacts/\")"
  }
}

resource "google_project_iam_member" "ci" {
  for_each = toset(["roles/aiplatform.user", "roles/logging.logWriter"])

  project = var.project
  role    = each.value
  member  = google_service_account.ci.member
}

# Who gets their tokens.

resource "google_service_account_iam_member" "kubernetes" {
  for_each = var.cluster_has_workload_identity ? {
    pipeline = google_service_account.pipeline.name
    serving  = google_service_account.serving.name
  } : {}

  service_account_id = each.value
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${var.namespace}/${each.key}]"
}

resource "google_iam_workload_identity_pool" "github" {
  count = var.github_repository == "" ? 0 : 1

  workload_identity_pool_id = "github"
  display_name              = "GitHub Actions"
  depends_on                = [google_project_service.used]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count = length(google_iam_workload_identity_pool.github)

  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"
  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }
  # Of that repository's runs, those for a tag: no pull request gets a token.
  attribute_condition = "assertion.repository == '${var.github_repository}' && assertion.ref_type == 'tag'"

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account_iam_member" "github" {
  count = length(google_iam_workload_identity_pool.github)

  service_account_id = google_service_account.ci.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/attribute.repository/${var.github_repository}"
}

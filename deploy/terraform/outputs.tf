output "registry" {
  description = "The image repository; `gcloud artifacts repositories describe` tells its address."
  value       = google_artifact_registry_repository.images.id
}

output "drops" {
  description = "data.root of the config."
  value       = "${google_storage_bucket.adclick.url}/drops"
}

output "push_directory" {
  description = "Where pushed models go, which the overlay google-cloud mounts."
  value       = "${google_storage_bucket.adclick.url}/serving_model/adclick"
}

output "pipeline_service_account" {
  description = "platform.vertex.service_account of the config."
  value       = google_service_account.pipeline.email
}

output "serving_service_account" {
  description = "The Google account of the pods that serve."
  value       = google_service_account.serving.email
}

output "ci_service_account" {
  description = "The account that CI acts as."
  value       = google_service_account.ci.email
}

output "github_identity_provider" {
  description = "The identity provider that GitHub Actions names."
  value       = one(google_iam_workload_identity_pool_provider.github[*].name)
}

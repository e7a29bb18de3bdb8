terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }
  # Where the state is kept is yours to say: terraform init -backend-config=…
  backend "gcs" {}
}

provider "google" {
  project = var.project
  region  = var.region
}

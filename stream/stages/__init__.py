"""The stages of the stream over Kafka, each a loop of transactions: features, scores, alerts, deliveries."""

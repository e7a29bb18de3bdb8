"""Apache Kafka: connection, topics, transactions, and a broker of this machine."""

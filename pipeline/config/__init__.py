"""What a config file says, what it may say, and the schema file that it names."""

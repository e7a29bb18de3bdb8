"""adclick's command line, config, DAG and runners."""

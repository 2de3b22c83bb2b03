"""What watches the gateway: rules and scrape configuration for Prometheus, a dashboard for Grafana."""

"""Run the queries of the Grafana dashboards, and draw their panels without Grafana."""

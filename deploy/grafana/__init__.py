"""The dashboards, for those who have no Grafana at hand: ask their queries, draw their panels."""

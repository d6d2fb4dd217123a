"""The demonstration model: its data, training configurations, evaluation and weights."""

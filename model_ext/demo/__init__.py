"""The recipe of the demonstration model: its data, training configurations, evaluation and files."""
